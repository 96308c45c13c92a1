//! Files of prefixes, which `prefixes_file` of an override names (coverage zones): text → networks, or every mistake with
//! its file and line. No file is opened here: the caller hands in what reads one.
//!
//! A line has one prefix, or nothing; `#` begins a comment.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::Path,
};

use ipnet::IpNet;

pub use crate::zone_file::{Loader, MISTAKES_MAX};
use crate::{
    document::{Mistake, Mistakes, limits::OVERRIDE_PREFIXES_MAX},
    model::Document,
};

/// Bytes of one file: of as many prefixes as an override may have, of the longest form, with a comment each.
pub const BYTES_MAX: usize = 16 << 20;

/// Of each override of a document, in its order, what its file says; nothing where it names none.
///
/// Fails with every mistake, of which [`MISTAKES_MAX`] are told and the others counted: what is no prefix, has bits beyond
/// its length, is there a second time in any file or override of the document, or is beyond what one override may have
/// together with its own prefixes (100,000).
pub fn load(document: &Document, loader: &mut Loader<'_>) -> Result<Vec<Vec<IpNet>>, Mistakes> {
    let overrides = &document.geo.overrides;
    if overrides.iter().all(|entry| entry.prefixes_file.is_none()) {
        return Ok(vec![Vec::new(); overrides.len()]);
    }
    let mut reading = Reading { places: HashMap::new(), mistakes: Vec::new() };
    for (index, entry) in overrides.iter().enumerate() {
        let place = |prefix: &IpNet| (*prefix, format!("geo.override[{index}]"));
        reading.places.extend(entry.prefixes.iter().map(place));
    }
    let files = overrides.iter().map(|entry| {
        let room = OVERRIDE_PREFIXES_MAX.saturating_sub(entry.prefixes.len());
        entry.prefixes_file.as_deref().map_or_else(Vec::new, |path| reading.file(path, room, loader))
    });
    let files = files.collect();
    if reading.mistakes.is_empty() { Ok(files) } else { Err(Mistakes::of_files(reading.mistakes, MISTAKES_MAX)) }
}

struct Reading {
    /// Where each prefix stands.
    places: HashMap<IpNet, String>,
    mistakes: Vec<Mistake>,
}

impl Reading {
    fn file(&mut self, path: &Path, room: usize, loader: &mut Loader<'_>) -> Vec<IpNet> {
        let name = path.display().to_string();
        let text = match loader(path) {
            Err(why) => Err(format!("cannot be read: {why}")),
            Ok(bytes) if bytes.len() > BYTES_MAX => Err(format!("must have at most {BYTES_MAX} bytes")),
            Ok(bytes) => String::from_utf8(bytes).map_err(|_| "must be text".to_owned()),
        };
        let text = match text {
            Ok(text) => text,
            Err(law) => {
                self.wrong(&name, 1, "", law, "name a file of one prefix a line as prefixes_file".to_owned());
                return Vec::new();
            }
        };
        let mut prefixes = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let said = line.split('#').next().unwrap_or_default().trim();
            if said.is_empty() {
                continue;
            }
            if prefixes.len() >= room {
                let law = format!("must have at most {OVERRIDE_PREFIXES_MAX} prefixes, with the override's own");
                self.wrong(&name, index + 1, said, law, "part them into several overrides".to_owned());
                break;
            }
            if let Some(prefix) = self.prefix(&name, index + 1, said) {
                prefixes.push(prefix);
            }
        }
        prefixes
    }

    fn prefix(&mut self, file: &str, line: usize, said: &str) -> Option<IpNet> {
        let Ok(prefix) = said.parse::<IpNet>() else {
            let law = "must be a prefix like 203.0.113.0/24 or 2001:db8::/48".to_owned();
            self.wrong(file, line, said, law, String::new());
            return None;
        };
        if prefix.trunc() != prefix {
            let remedy = format!("write {}", prefix.trunc());
            self.wrong(file, line, said, "must have no bits set after its length".to_owned(), remedy);
            return None;
        }
        let law = match self.places.entry(prefix) {
            Entry::Vacant(entry) => {
                entry.insert(format!("{file}:{line}"));
                return Some(prefix);
            }
            Entry::Occupied(entry) => format!("must be unique, and {} says it too", entry.get()),
        };
        self.wrong(file, line, said, law, "remove one of them".to_owned());
        None
    }

    fn wrong(&mut self, file: &str, line: usize, said: &str, law: String, remedy: String) {
        const SAID_CHARS_MAX: usize = 80;
        let said = said.chars().take(SAID_CHARS_MAX).collect();
        let (file, path) = (file.to_owned(), String::new());
        self.mistakes.push(Mistake { file, line, column: 1, path, said: Some(said), law, remedy });
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::document;

    /// A document whose two overrides name `a.txt` and `b.txt`; the first has a prefix of its own.
    fn load_of(a: &str, b: Option<&str>) -> Result<Vec<Vec<IpNet>>, Mistakes> {
        let text = "version = 1\n[cdn]\nzone = \"cdn.example\"\n\
            [[geo.override]]\nprefixes = [\"192.0.2.0/24\"]\nprefixes_file = \"a.txt\"\npop = \"fra\"\n\
            [[geo.override]]\nprefixes_file = \"b.txt\"\npop = \"fra\"\n\
            [[pop]]\nid = \"fra\"\nlatitude = 50.0\nlongitude = 8.0\naddresses = [\"198.18.0.1\"]\n\
            [[site]]\nid = \"www\"\norigins = [{ url = \"http://a\" }]\n";
        let document = document::load("test.toml", text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        load(&document, &mut |path| match (path.to_str(), b) {
            (Some("a.txt"), _) => Ok(a.as_bytes().to_vec()),
            (_, Some(b)) => Ok(b.as_bytes().to_vec()),
            (_, None) => Err("No such file".to_owned()),
        })
    }

    #[test]
    fn one_a_line() {
        let read = load_of("203.0.113.0/24\n\n  2001:db8::/48 # ours\n# 10.0.0.0/8\r\n", Some("10.0.0.0/8")).unwrap();
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        assert_eq!(read, [nets(&["203.0.113.0/24", "2001:db8::/48"]), nets(&["10.0.0.0/8"])]);
    }

    #[test]
    fn all_mistakes_at_once() {
        let check = |a: &str, b: Option<&str>, expected: Expect| {
            expected.assert_eq(&load_of(a, b).unwrap_err().to_string());
        };
        check(
            "10.0.0.0/8\nhere\n10.0.0.1/8\n192.0.2.0/24\n10.0.0.0/8",
            Some("10.0.0.0/8"),
            expect![[r#"
            a.txt:2  here
                must be a prefix like 203.0.113.0/24 or 2001:db8::/48
            a.txt:3  10.0.0.1/8
                must have no bits set after its length; write 10.0.0.0/8
            a.txt:4  192.0.2.0/24
                must be unique, and geo.override[0] says it too; remove one of them
            a.txt:5  10.0.0.0/8
                must be unique, and a.txt:1 says it too; remove one of them
            b.txt:1  10.0.0.0/8
                must be unique, and a.txt:1 says it too; remove one of them"#]],
        );
        check(
            "",
            None,
            expect![[r#"
            b.txt:1  
                cannot be read: No such file; name a file of one prefix a line as prefixes_file"#]],
        );
    }

    #[test]
    fn as_many_as_an_override_may_have() {
        let lines = |count: u32| -> String {
            (0..count)
                .map(|n| format!("{}\n", IpNet::new(std::net::Ipv4Addr::from_bits(n << 8).into(), 24).unwrap()))
                .collect()
        };
        let most = u32::try_from(OVERRIDE_PREFIXES_MAX).unwrap();
        // The first override has one already.
        assert_eq!(load_of(&lines(most - 1), Some("")).unwrap()[0].len(), OVERRIDE_PREFIXES_MAX - 1);
        assert!(load_of(&lines(most), Some("")).unwrap_err().to_string().contains("at most 100000 prefixes"));
        assert_eq!(load_of("", Some(&lines(most))).unwrap()[1].len(), OVERRIDE_PREFIXES_MAX);
        assert!(load_of("", Some(&lines(most + 1))).is_err());
    }
}
