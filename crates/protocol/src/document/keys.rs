//! Every key of a CDN document, as data: what it is for, of which kind, what holds without it. From this one table come the
//! JSON Schema, `perigee check --explain`, and docs/configuration.md; a test holds it and the reader together: each
//! key, each default, and both sides of each limit.
//!
//! A new key of the reader is a line here: in the section's list, in the reader's own order, with [`Key::must`], [`Key::or`]
//! or [`Key::may`]. Deliberately absent: reading. What a document says is decided by the reader alone.

mod cache;
mod cdn;
mod explain;
mod forms;
mod geo;
mod markdown;
mod pops;
mod render;
mod rule;
mod schema;
mod site;
mod zone;

pub use explain::{Unknown, explain};
pub use forms::Form;
pub use markdown::markdown;
pub use schema::{SCHEMA_FILE, SCHEMA_ID, schema};

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use super::limits::{POPS_MAX, SHIELDS_MAX, SITES_MAX};

/// A table of the document: its keys, and what must hold among them.
#[derive(Debug)]
pub struct Section {
    /// In the order in which the reader asks for them.
    pub keys: &'static [Key],
    /// What one key says about others.
    pub laws: &'static [Law],
    /// For the page, before the keys: Markdown, empty where the heading says enough.
    pub intro: &'static str,
    /// For the page, after the keys.
    pub notes: &'static str,
}

impl Section {
    const fn of(keys: &'static [Key]) -> Self {
        Self { keys, laws: &[], intro: "", notes: "" }
    }

    const fn laws(self, laws: &'static [Law]) -> Self {
        Self { laws, ..self }
    }

    const fn intro(self, intro: &'static str) -> Self {
        Self { intro, ..self }
    }

    const fn notes(self, notes: &'static str) -> Self {
        Self { notes, ..self }
    }

    /// The key of that name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// What must hold among the keys of one table, as far as a schema can say it.
#[derive(Clone, Copy, Debug)]
pub enum Law {
    /// One of these and no other of them.
    OneOf(&'static [&'static str]),
    /// At least one of these.
    AnyOf(&'static [&'static str]),
    /// At least one of all keys.
    AnyKey,
    /// Not both.
    NotBoth(&'static str, &'static str),
    /// The first stands only where the second key has the third, a word.
    Only(&'static str, &'static str, &'static str),
    /// The first must stand where the second key has the third, a word.
    Needed(&'static str, &'static str, &'static str),
}

/// One key of a table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// What holds where it is absent.
    pub absent: Absent,
    /// A value as TOML.
    pub example: &'static str,
    /// One sentence or two in Markdown, without its final dot.
    pub about: &'static str,
}

/// What holds where a key is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The document is refused.
    Refused,
    /// As if it were this, in TOML.
    Is(&'static str),
    /// In words: `the nearest`.
    Means(&'static str),
}

impl Key {
    /// A key that must stand.
    const fn must(name: &'static str, kind: Kind, example: &'static str, about: &'static str) -> Self {
        Self { name, kind, absent: Absent::Refused, example, about }
    }

    /// A key with a default that can be written as TOML, which is its example too.
    const fn or(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Self {
        Self { name, kind, absent: Absent::Is(default), example: default, about }
    }

    /// A key whose absence means `absent`, in words.
    const fn may(
        name: &'static str,
        kind: Kind,
        absent: &'static str,
        example: &'static str,
        about: &'static str,
    ) -> Self {
        Self { name, kind, absent: Absent::Means(absent), example, about }
    }

    /// Another example than the default.
    const fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }
}

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A whole number from the first to the second, without those of the list.
    Integer(u64, u64, &'static [u64]),
    /// One of these numbers.
    Number(&'static [u64]),
    /// A number from the first to the second.
    Float(f64, f64),
    /// From the first to the second.
    Duration(Duration, Duration),
    /// As [`Self::Duration`], of whole seconds.
    Ttl,
    /// In bytes, from the first to the second.
    Size(u64, u64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A string of that form.
    Text(&'static Form),
    /// A list of so many; where the flag is set, each once.
    List(&'static Kind, usize, usize, bool),
    /// One, or a list of 1 to so many, each once.
    Some(&'static Kind, usize),
    /// A table by names of that form, of at most so many; 0: as many as there are names.
    Map(&'static Form, &'static Kind, usize),
    /// `[key]`
    Table(&'static Section),
    /// `[[key]]`, so many.
    Tables(&'static Section, usize, usize),
    /// One of these.
    Either(&'static [Kind]),
}

impl Kind {
    /// The section of a table, of an array of tables, of a list of inline tables, or of whatever else may be a table.
    pub fn section(&self) -> Option<&'static Section> {
        match self {
            Self::Table(section) | Self::Tables(section, ..) => Some(section),
            Self::List(kind, ..) => kind.section(),
            Self::Either(kinds) => kinds.iter().find_map(Self::section),
            _ => None,
        }
    }
}

/// The document.
pub static DOCUMENT: Section = Section::of(&[
    Key::or("version", Kind::Integer(1, 1, &[]), "1", "of this format"),
    Key::must("pop", Kind::Tables(&pops::POP, 1, POPS_MAX), "", "a place with edges"),
    Key::may(
        "shield",
        Kind::Tables(&pops::SHIELD, 0, SHIELDS_MAX),
        "edges ask origins",
        "",
        "a cache between edges and origins",
    ),
    Key::must("site", Kind::Tables(&site::SITE, 1, SITES_MAX), "", "what is served: hosts, origins, policies"),
    Key::must("cdn", Kind::Table(&cdn::CDN), "", "what the CDN is called, and its DNS zone"),
    Key::may(
        "geo",
        Kind::Table(&geo::GEO),
        "every client at the first PoP",
        "",
        "where clients are, and what is near them",
    ),
    Key::may(
        "control",
        Kind::Table(&cdn::CONTROL),
        "engine = \"embedded\"",
        "",
        "where purges and published documents are ordered",
    ),
    Key::may("admin", Kind::Table(&cdn::ADMIN), "no tokens", "", "who may use the admin API"),
    Key::may(
        "zone",
        Kind::Table(&zone::ZONE),
        "no records",
        "",
        "what the zone has beside the steered names, and who may have a copy of it",
    ),
]);

/// The order of the page: what a reader meets first.
const PAGE: [&str; 8] = ["cdn", "geo", "control", "admin", "pop", "shield", "site", "zone"];

/// Each section below the document's root with its path, in the order of the page: `site.cache`, `[site.cache]`.
pub fn sections() -> Vec<(String, &'static Key, &'static Section)> {
    fn walk(path: &str, section: &'static Section, all: &mut Vec<(String, &'static Key, &'static Section)>) {
        for key in section.keys {
            if let Some(inner) = key.kind.section() {
                let path = format!("{path}.{}", key.name);
                all.push((path.clone(), key, inner));
                walk(&path, inner, all);
            }
        }
    }
    let mut all = Vec::new();
    for name in PAGE {
        if let Some((key, section)) = DOCUMENT.key(name).and_then(|key| Some((key, key.kind.section()?))) {
            all.push((name.to_owned(), key, section));
            walk(name, section, &mut all);
        }
    }
    all
}

/// Each key's name with the paths of its sections. Computed once: a document may have very many keys at wrong places.
static HOMES: LazyLock<BTreeMap<&'static str, Vec<String>>> = LazyLock::new(|| {
    let mut homes: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (path, _, section) in sections() {
        for key in section.keys {
            homes.entry(key.name).or_default().push(path.clone());
        }
    }
    homes
});

/// The paths of the sections that have a key of that name: `["cdn", "zone.record"]` for `ttl`.
pub(crate) fn homes(name: &str) -> &'static [String] {
    HOMES.get(name).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests;
