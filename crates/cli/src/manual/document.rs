//! perigee.toml(5), from the table of the document's keys.

use std::ptr;

use perigee_node::state::VERSION;
use perigee_protocol::document::keys::{self, Key, Section};

use super::roff;

/// The page.
pub(super) fn page() -> String {
    let mut page = format!(".TH PERIGEE.TOML 5 \"\" \"Perigee {VERSION}\" \"Perigee Manual\"\n");
    page.push_str(".SH NAME\nperigee.toml \\- the document that describes a CDN\n.SH DESCRIPTION\n");
    page.push_str(&roff::text(
        "One TOML file describes the fleet: its DNS zone, places, shields and sites. Every node reads the same one, and takes a \
         changed one over while it runs; one with mistakes is refused and the old one goes on.\n\n\
         perigee init writes a first one, perigee check says every mistake with its line and a way out, and perigee check \
         --explain KEY says what stands here of one key.\n\n\
         Durations are strings of a whole number and a unit (\"500ms\", \"30s\", \"5m\", \"1h\", \"7d\"), sizes likewise (\"512KiB\", \
         \"64MiB\", \"10GiB\"). Files are relative to the document's folder.\n\nA small one:\n  [cdn]\n  zone = \"cdn.example.com\"\n  \
         \n  [[pop]]\n  id = \"fra\"\n  latitude = 50.1\n  longitude = 8.7\n  addresses = [\"203.0.113.1\"]\n  \n  [[site]]\n  \
         id = \"www\"\n  origins = [{ url = \"http://203.0.113.80:8000\" }]",
    ));
    page.push_str(".SH KEYS\n");
    let mut told: Vec<(String, &'static Section)> = Vec::new();
    for (path, key, section) in keys::sections() {
        page.push_str(&format!(".SS {}\n", roff::escape(&path)));
        page.push_str(&about(&path, key));
        match told.iter().find(|(_, known)| ptr::eq(*known, section)) {
            Some((known, _)) => page.push_str(&roff::text(&format!("Its keys are those of {known}."))),
            None => {
                for key in section.keys {
                    let lines = lines(&format!("{path}.{}", key.name), key);
                    page.push_str(&roff::term(key.name, &lines.iter().map(String::as_str).collect::<Vec<_>>()));
                }
                told.push((path, section));
            }
        }
    }
    page.push_str(".SH FILES\n");
    page.push_str(&roff::term("/etc/perigee/perigee.toml", &["Where the units of Debian's package read it."]));
    page.push_str(&roff::term(
        "/usr/share/doc/perigee/example.toml",
        &["An example with every section, in Debian's package."],
    ));
    page.push_str(&roff::see_also([
        ("perigee", 1),
        ("perigee-check", 1),
        ("perigee-init", 1),
        ("perigee-edge", 8),
        ("perigee-geodns", 8),
        ("perigee-shield", 8),
    ]));
    page
}

fn about(path: &str, key: &Key) -> String {
    roff::text(&lines(path, key).join("\n"))
}

/// What `perigee check --explain` says of a key, without its name and the keys below it.
fn lines(path: &str, key: &Key) -> Vec<String> {
    match keys::explain(path) {
        Ok(text) => text.lines().skip(1).map_while(|line| line.strip_prefix("    ")).map(str::to_owned).collect(),
        Err(_) => vec![key.about.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_stands_there_with_its_default() {
        let page = page();
        for (path, _, section) in keys::sections() {
            assert!(page.contains(&format!(".SS {}\n", roff::escape(&path))), "{path}");
            for key in section.keys {
                assert!(page.contains(&format!(".B {}\n", roff::escape(key.name))), "{path}.{}", key.name);
            }
        }
        assert!(
            page.contains(".B ttl\nof steered answers.\n.br\nduration of whole seconds\n.br\ndefault: \"30s\"\n"),
            "{page}"
        );
    }
}
