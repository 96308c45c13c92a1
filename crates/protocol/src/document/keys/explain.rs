//! `perigee check --explain`: one key in words.

use super::{super::words::nearest, DOCUMENT, Key, Kind, Section, homes, render, sections};

/// A path that no key has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path} is no key of the document{}{}", if hint.is_empty() { "" } else { "; " }, hint)]
pub struct Unknown {
    /// As it was given.
    pub path: String,
    /// What was meant most likely, or where such a key stands. May be empty.
    pub hint: String,
}

/// What `path` is for, in lines for a terminal: a key (`cdn.ttl`), a section (`[site.cache]`), or either as mistakes name them
/// (`site.www.cache.vary_limit`, `pop.fra.addresses[0]`). A key's bare name will do where only one section has it.
pub fn explain(path: &str) -> Result<String, Unknown> {
    let parts: Vec<&str> = path
        .split(['.', '[', ']', ' '])
        .map(|part| part.trim_matches('"'))
        .filter(|part| !part.is_empty() && !part.bytes().all(|b| b.is_ascii_digit()))
        .collect();
    if let Some((path, key)) = find(&parts) {
        return Ok(text(&path, key));
    }
    if let [name] = parts.as_slice()
        && let [home] = homes(name)
    {
        return explain(&format!("{home}.{name}"));
    }
    Err(Unknown { path: path.to_owned(), hint: hint(&parts) })
}

/// The key at the end of the parts; what stands where an id or a name of the document's own choice may stand is skipped.
fn find(parts: &[&str]) -> Option<(String, &'static Key)> {
    let mut section: &'static Section = &DOCUMENT;
    let mut found: Option<(String, &'static Key)> = None;
    let mut may_skip = false;
    for (index, part) in parts.iter().enumerate() {
        match section.key(part) {
            Some(key) if found.as_ref().is_none_or(|(_, at)| at.kind.section().is_some()) => {
                let path = found.map_or_else(|| key.name.to_owned(), |(path, _)| format!("{path}.{}", key.name));
                section = key.kind.section().unwrap_or(section);
                may_skip = matches!(key.kind, Kind::Tables(..) | Kind::Map(..));
                found = Some((path, key));
            }
            _ if may_skip && (index + 1 < parts.len() || !is_meant(part, section)) => may_skip = false,
            _ => return None,
        }
    }
    found
}

/// Whether a word at the end of a path is a key that stands elsewhere or is misspelt, rather than an id.
fn is_meant(word: &str, section: &Section) -> bool {
    !homes(word).is_empty() || nearest_of(word, section).is_some()
}

fn hint(parts: &[&str]) -> String {
    let Some((name, before)) = parts.split_last() else {
        return "name one, such as cdn.ttl, or a section, such as site.cache".into();
    };
    let here = find(before).and_then(|(path, key)| Some(format!("{path}.{}", nearest_of(name, key.kind.section()?)?)));
    let homes: Vec<_> = homes(name).iter().map(|home| format!("{home}.{name}")).collect();
    match (here, homes.join(", ")) {
        (Some(near), homes) if homes.is_empty() => return format!("did you mean {near}?"),
        (Some(near), homes) => return format!("did you mean {near}? There is {homes}, too"),
        (None, homes) if !homes.is_empty() => return format!("there is {homes}"),
        (None, _) => {}
    }
    let mut paths: Vec<String> = DOCUMENT.keys.iter().map(|key| key.name.to_owned()).collect();
    for (path, _, section) in sections() {
        paths.extend(section.keys.iter().map(|key| format!("{path}.{}", key.name)));
    }
    if let Some(near) = nearest(&parts.join("."), paths.iter().map(String::as_str)) {
        return format!("did you mean {near}?");
    }
    let by_name = paths.iter().map(|path| path.rsplit('.').next().unwrap_or(path));
    match nearest(name, by_name) {
        Some(near) => {
            let ending = |path: &&String| path.rsplit('.').next() == Some(near);
            let paths: Vec<_> = paths.iter().filter(ending).map(String::as_str).collect();
            format!("did you mean {}?", paths.join(" or "))
        }
        None => format!("its sections are {}", DOCUMENT.keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")),
    }
}

fn nearest_of(word: &str, section: &Section) -> Option<&'static str> {
    nearest(word, section.keys.iter().map(|key| key.name))
}

fn text(path: &str, key: &Key) -> String {
    let mut lines = vec![path.to_owned(), format!("    {}.", plain(key.about))];
    lines.push(format!("    {}", plain(&render::kind(&key.kind))));
    lines.push(match key.absent {
        super::Absent::Refused => "    required".into(),
        absent => format!("    default: {}", plain(&render::absent(absent))),
    });
    if !key.example.is_empty() {
        lines.push(format!("    for example: {} = {}", key.name, key.example));
    }
    if let Some(section) = key.kind.section() {
        for text in [section.intro, section.notes].into_iter().filter(|text| !text.is_empty()) {
            lines.push(format!("    {}", plain(text)));
        }
        lines.push(format!("keys of {}:", render::heading(path, key)));
        let width = section.keys.iter().map(|key| key.name.len()).max().unwrap_or(0);
        for key in section.keys {
            let absent = plain(&render::absent(key.absent));
            lines.push(format!("    {:width$}  {} ({absent})", key.name, plain(key.about)));
        }
    }
    lines.join("\n")
}

/// Markdown for a terminal: links say their page, code stands without its quotes.
fn plain(markdown: &str) -> String {
    let mut text = String::new();
    let mut rest = markdown;
    while let Some(open) = rest.find('[') {
        let (before, after) = rest.split_at(open);
        let link = after.find("](").and_then(|middle| Some((middle, after.get(middle..)?.find(')')? + middle)));
        text.push_str(before);
        match link
            .and_then(|(middle, end)| Some((after.get(1..middle)?, after.get(middle + 2..end)?, after.get(end + 1..)?)))
        {
            Some((said, page, more)) if !said.contains(['[', ']']) => {
                text.push_str(&format!("{said} (docs/{page})"));
                rest = more;
            }
            _ => {
                text.push('[');
                rest = after.get(1..).unwrap_or("");
            }
        }
    }
    text.push_str(rest);
    text.replace(['`'], "").replace("**", "")
}
