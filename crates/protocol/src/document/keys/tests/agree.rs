//! Table and reader say the same: the keys, their limits, and what holds without them.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::{
    super::{Absent, DOCUMENT, Key, Kind, sections},
    cases::{at, cases, keys, minimal, value, with, without},
};
use crate::document::{Mistake, load};

fn text(root: &Table) -> String {
    toml::to_string(root).unwrap()
}

/// What the reader finds wrong at a path or below it.
fn found(root: &Table, path: &str) -> Vec<Mistake> {
    let below = |mistake: &Mistake| {
        mistake.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    match load("f", &text(root)) {
        Ok(_) => Vec::new(),
        Err(mistakes) => mistakes.iter().filter(|mistake| below(mistake)).cloned().collect(),
    }
}

fn path_of(section: &str, key: &Key) -> String {
    if section.is_empty() { key.name.to_owned() } else { format!("{section}.{}", key.name) }
}

#[test]
fn the_same_keys() {
    let unknown = "zzzzzzzzzzzz";
    let root = [(String::new(), &DOCUMENT)];
    for (path, section) in root.into_iter().chain(sections().into_iter().map(|(path, _, section)| (path, section))) {
        let (root, said) = at(&path, |table, _| drop(table.insert(unknown.into(), 1.into())));
        let said = if said.is_empty() { unknown.to_owned() } else { format!("{said}.{unknown}") };
        let found = found(&root, &said);
        let [mistake] = found.as_slice() else { panic!("{said}: {found:?}\n{}", text(&root)) };
        let here: BTreeSet<&str> =
            mistake.remedy.strip_prefix("the keys here are ").unwrap_or("").split(", ").collect();
        let table: BTreeSet<&str> = section.keys.iter().map(|key| key.name).collect();
        assert_eq!(here, table, "left: the reader's keys of [{path}], right: the table's");
    }
}

#[test]
fn the_same_limits() {
    let mut tried = 0;
    for (section, key) in keys() {
        for case in cases(&key.kind) {
            let (root, said) = with(&section, key, case.value.clone());
            let found = found(&root, &said);
            let shown: String = case.value.to_string().chars().take(200).collect();
            let more = found.first().map(ToString::to_string).unwrap_or_default();
            assert_eq!(
                found.is_empty(),
                case.good,
                "{} = {shown}: the table says good is {}; {more}",
                path_of(&section, key),
                case.good
            );
            tried += 1;
        }
    }
    assert!(tried > 1_000, "{tried}");
}

/// Lists of tables are as long as their sections let them be, not longer.
#[test]
fn the_same_counts() {
    for (section, key) in keys() {
        let (of, high) = match key.kind {
            Kind::Tables(of, _, high) => (of, high),
            Kind::List(of, _, high, _) => match of.section() {
                Some(of) => (of, high),
                None => continue,
            },
            _ => continue,
        };
        let refused = |count: usize| {
            let (root, _) = with(&section, key, Value::Array(vec![Value::Table(minimal(of)); count]));
            let law = format!("must have at most {high} elements");
            let is_it = |mistake: &Mistake| mistake.law.starts_with(&law) && mistake.path.ends_with(key.name);
            load("f", &text(&root)).is_err_and(|mistakes| mistakes.iter().any(is_it))
        };
        assert!(!refused(high) && refused(high + 1), "{}", path_of(&section, key));
    }
}

#[test]
fn the_same_defaults() {
    for (section, key) in keys() {
        let path = path_of(&section, key);
        // A time of day is right for no key, and the remedy says what holds without it.
        let (root, said) = with(&section, key, value("07:32:00"));
        let found = found(&root, &said);
        let [mistake] = found.as_slice() else { panic!("{path}: {found:?}") };
        let default =
            mistake.remedy.strip_prefix("remove it for the default (").and_then(|rest| rest.strip_suffix(')'));
        match (key.absent, default) {
            (Absent::Refused, None) => {
                assert!(mistake.remedy.starts_with("for example") || path == "pop" || path == "site", "{mistake}")
            }
            (Absent::Is(table), Some(reader)) => assert_eq!(table, reader, "{path}"),
            (Absent::Means(table), Some(reader)) => {
                assert_eq!(table.replace('`', "").replace("ZONE", "cdn.example"), reader, "{path}");
            }
            (Absent::Means(_), None) => assert_eq!(mistake.remedy, "correct it or remove it", "{path}"),
            other => panic!("{path}: {other:?}, {mistake}"),
        }
        let whole = |root: &Table| {
            load("f", &text(root)).unwrap_or_else(|mistakes| panic!("{path}: {mistakes}\n{}", text(root)))
        };
        if let Absent::Is(default) = key.absent {
            assert_eq!(whole(&with(&section, key, value(default)).0), whole(&without(&section, key)), "{path}");
        }
        if !key.example.is_empty() {
            whole(&with(&section, key, value(key.example)).0);
        }
    }
}
