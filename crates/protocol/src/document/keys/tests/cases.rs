//! Documents made from the table: each key with values of both sides of its limits.

use toml::{Table, Value};

use super::super::{DOCUMENT, Form, Key, Kind, Law, Section, sections};
use crate::document::{TEXT_BYTES_MAX, render_duration, render_size};

const BASE: &str = r#"
[cdn]
zone = "cdn.example"
[geo]
database = "x.mmdb"
asn_database = "y.mmdb"
[[pop]]
id = "fra"
latitude = 50.11
longitude = 8.68
addresses = ["198.18.49.10"]
[[pop]]
id = "lon"
latitude = 51.51
longitude = -0.13
addresses = ["198.18.44.10"]
[[site]]
id = "www"
origins = [{ url = "http://198.18.0.90:8000" }]
[[zone.key]]
name = "transfer.cdn.example"
secret_file = "transfer.key"
"#;

/// What a key needs beside it that no law says.
const BESIDE: [(&str, &str, &str); 2] =
    [("object_bytes_min", "object_bytes_max", "\"1024TiB\""), ("host", "addresses", "[\"198.18.0.53\"]")];

/// A value for a key, and who refuses it.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) value: Value,
    /// Whether the reader takes it.
    pub(super) good: bool,
    /// Whether the schema can tell that it is bad.
    pub(super) sayable: bool,
}

fn good(value: impl Into<Value>) -> Case {
    Case { value: value.into(), good: true, sayable: true }
}

fn bad(value: impl Into<Value>) -> Case {
    Case { value: value.into(), good: false, sayable: true }
}

/// Refused by the reader alone.
fn beyond(value: impl Into<Value>) -> Case {
    Case { value: value.into(), good: false, sayable: false }
}

/// A value of a key, out of TOML.
pub(super) fn value(text: &str) -> Value {
    toml::from_str::<Table>(&format!("v = {text}")).unwrap_or_else(|error| panic!("{text}: {error}"))["v"].clone()
}

/// A good value of a kind.
fn any(kind: &Kind) -> Value {
    match kind {
        Kind::Table(section) => Value::Table(minimal(section)),
        Kind::Tables(section, ..) => Value::Array(vec![Value::Table(minimal(section))]),
        Kind::List(of, ..) => Value::Array(vec![any(of)]),
        _ => cases(kind).into_iter().find(|case| case.good).unwrap_or_else(|| panic!("{kind:?}")).value,
    }
}

/// A section with what it must have.
pub(super) fn minimal(section: &Section) -> Table {
    let mut table = Table::new();
    for key in section.keys.iter().filter(|key| key.absent == super::super::Absent::Refused) {
        put(&mut table, section, key, None);
    }
    for law in section.laws {
        let first = match law {
            Law::OneOf(keys) | Law::AnyOf(keys) => keys.first().copied(),
            Law::AnyKey => section.keys.first().map(|key| key.name),
            _ => None,
        };
        if let Some(key) = first.and_then(|name| section.key(name)) {
            put(&mut table, section, key, None);
        }
    }
    table
}

/// Sets a key and what the section's laws want of the others then. None: its example.
fn put(table: &mut Table, section: &Section, key: &Key, set: Option<Value>) {
    let set = set.unwrap_or_else(|| if key.example.is_empty() { any(&key.kind) } else { value(key.example) });
    for law in section.laws {
        match law {
            Law::OneOf(keys) if keys.contains(&key.name) => keys.iter().for_each(|other| drop(table.remove(*other))),
            Law::Only(only, other, word) if *only == key.name => {
                if let Some(other) = section.key(other).filter(|_| !table.contains_key(*other)) {
                    put(table, section, other, Some((*word).into()));
                }
            }
            Law::Needed(needed, other, word) if *other == key.name && set.as_str() == Some(word) => {
                if let Some(needed) = section.key(needed).filter(|_| !table.contains_key(*needed)) {
                    table.insert(needed.name.into(), value(needed.example));
                }
            }
            _ => {}
        }
    }
    if let Some((_, other, word)) =
        BESIDE.iter().find(|(name, other, _)| *name == key.name && section.key(other).is_some())
    {
        table.insert((*other).into(), value(word));
    }
    table.insert(key.name.into(), set);
}

/// Walks to a section, makes what is missing on the way, and lets `change` have it. Returns the section's path as mistakes
/// name it, after the change.
pub(super) fn at(path: &str, change: impl FnOnce(&mut Table, &'static Section)) -> (Table, String) {
    let mut root: Table = toml::from_str(BASE).unwrap();
    let mut section: &'static Section = &DOCUMENT;
    let mut names = Vec::new();
    {
        let mut table = &mut root;
        for part in path.split('.').filter(|part| !part.is_empty()) {
            let key = section.key(part).unwrap_or_else(|| panic!("{path}"));
            let inner = key.kind.section().unwrap_or_else(|| panic!("{path}"));
            if !table.contains_key(part) {
                let is_list = matches!(key.kind, Kind::Tables(..) | Kind::List(..));
                let made = Value::Table(minimal(inner));
                put(table, section, key, Some(if is_list { Value::Array(vec![made]) } else { made }));
            }
            names.push((part.to_owned(), key.kind));
            section = inner;
            table = match table.get_mut(part).unwrap() {
                Value::Array(list) => list[0].as_table_mut().unwrap(),
                other => other.as_table_mut().unwrap(),
            };
        }
        change(table, section);
    }
    let said = said(&root, &names);
    (root, said)
}

fn said(root: &Table, names: &[(String, Kind)]) -> String {
    let mut said = String::new();
    let mut table = root;
    for (name, kind) in names {
        if !said.is_empty() {
            said.push('.');
        }
        said.push_str(name);
        table = match &table[name] {
            Value::Array(list) => list[0].as_table().unwrap(),
            other => other.as_table().unwrap(),
        };
        let id = table.get("id").and_then(Value::as_str).filter(|id| id.parse::<crate::id::SiteId>().is_ok());
        match (kind, id) {
            (Kind::Tables(..), Some(id)) => said.push_str(&format!(".{id}")),
            (Kind::Tables(..) | Kind::List(..), _) => said.push_str("[0]"),
            _ => {}
        }
    }
    said
}

/// The document with that value at a key of a section, and the key's path as mistakes name it.
pub(super) fn with(path: &str, key: &Key, set: Value) -> (Table, String) {
    let (root, said) = at(path, |table, section| put(table, section, key, Some(set)));
    (root, if said.is_empty() { key.name.to_owned() } else { format!("{said}.{}", key.name) })
}

/// The document as [`with`] makes it, and then without the key again.
pub(super) fn without(path: &str, key: &Key) -> Table {
    let take = |table: &mut Table, section: &'static Section| {
        put(table, section, key, None);
        table.remove(key.name);
    };
    at(path, take).0
}

/// Every key with its section's path; the root's have an empty one.
pub(super) fn keys() -> Vec<(String, &'static Key)> {
    let root = DOCUMENT.keys.iter().map(|key| (String::new(), key));
    root.chain(
        sections().into_iter().flat_map(|(path, _, section)| section.keys.iter().map(move |key| (path.clone(), key))),
    )
    .collect()
}

fn text(form: &Form) -> Vec<Case> {
    let mut all: Vec<Case> = if form.good.is_empty() { vec![good("v=spf1 -all")] } else { Vec::new() };
    all.extend(form.good.iter().map(|text| good(*text)));
    all.extend(form.bad.iter().map(|text| bad(*text)));
    all.extend(form.beyond.iter().map(|text| beyond(*text)));
    all.extend([bad(1), bad("a".repeat(TEXT_BYTES_MAX + 1))]);
    all
}

/// A list's cases: its elements one by one, and both sides of its counts.
fn list(of: &Kind, low: usize, high: usize, unique: bool) -> Vec<Case> {
    let array = |case: Case| Case { value: Value::Array(vec![case.value]), ..case };
    let mut all: Vec<Case> =
        if of.section().is_some() { Vec::new() } else { cases(of).into_iter().map(array).collect() };
    all.retain(|case| case.good || low <= 1);
    let one = any(of);
    let many = |count: usize| Value::Array(vec![one.clone(); count]);
    all.push(if low == 0 { good(many(0)) } else { bad(many(low - 1)) });
    all.push(bad(many(high + 1)));
    if unique {
        all.push(bad(many(2)));
    }
    all
}

/// Values of both sides of what a kind allows.
pub(super) fn cases(kind: &Kind) -> Vec<Case> {
    match kind {
        Kind::Boolean => vec![good(true), good(false), bad(1), bad("true")],
        Kind::Integer(low, high, but) => {
            let (low, high) = (i64::try_from(*low).unwrap(), i64::try_from(*high).unwrap());
            let but = but.iter().map(|number| bad(i64::try_from(*number).unwrap()));
            [good(low), good(high), bad(low - 1), bad(high + 1), bad("zzz")].into_iter().chain(but).collect()
        }
        Kind::Number(numbers) => {
            let numbers: Vec<i64> = numbers.iter().map(|number| i64::try_from(*number).unwrap()).collect();
            let around =
                numbers.iter().flat_map(|number| [number - 1, number + 1]).filter(|near| !numbers.contains(near));
            numbers.iter().map(|number| good(*number)).chain(around.map(bad)).collect()
        }
        Kind::Float(low, high) => {
            let step = (high - low) / 1e6;
            vec![good(*low), good(*high), bad(low - step), bad(high + step), bad("1"), bad(f64::NAN)]
        }
        Kind::Duration(low, high) => {
            let step = std::time::Duration::from_millis(1);
            let mut all =
                vec![good(render_duration(*low)), good(render_duration(*high)), beyond(render_duration(*high + step))];
            if let Some(below) = low.checked_sub(step) {
                all.push(Case { sayable: below.is_zero(), ..bad(render_duration(below)) });
            }
            all.extend([bad("30"), bad(30), bad("1.5s"), bad("")]);
            all
        }
        Kind::Ttl => {
            let beyond_max = render_duration(super::super::super::limits::TTL_MAX + std::time::Duration::from_secs(1));
            vec![good("0s"), good("2147483647s"), good("2000ms"), beyond(beyond_max), bad("1500ms"), bad("30"), bad(30)]
        }
        Kind::Size(low, high) => {
            vec![
                good(render_size(*low)),
                good(render_size(*high)),
                beyond(render_size(high + 1)),
                bad("64MB"),
                bad(64),
                bad(""),
            ]
        }
        Kind::Choice(words) => words.iter().map(|word| good(*word)).chain([bad("zzz"), bad(1), bad("")]).collect(),
        Kind::Text(form) => text(form),
        Kind::List(of, low, high, unique) => list(of, *low, *high, *unique),
        Kind::Some(of, high) => {
            let alone = cases(of).into_iter().filter(|case| !matches!(case.value, Value::Array(_)));
            alone.chain(list(of, 1, *high, true)).collect()
        }
        Kind::Map(names, of, high) => map(names, of, *high),
        Kind::Table(_) | Kind::Tables(..) => Vec::new(),
        Kind::Either(kinds) => {
            let all = kinds.iter().flat_map(cases).filter(|case| case.good || case.value.is_str());
            all.chain([bad(true), bad(1_000_000)]).collect()
        }
    }
}

fn map(names: &Form, of: &Kind, high: usize) -> Vec<Case> {
    let one = any(of);
    let entry = |name: &str, value: &Value| Value::Table(Table::from_iter([(name.to_owned(), value.clone())]));
    let mut all: Vec<Case> = names.good.iter().map(|name| good(entry(name, &one))).collect();
    all.extend(names.bad.iter().map(|name| bad(entry(name, &one))));
    all.extend(names.beyond.iter().map(|name| beyond(entry(name, &one))));
    let name = names.good[0];
    all.extend(cases(of).into_iter().map(|case| Case { value: entry(name, &case.value), ..case }));
    all.push(good(Table::new()));
    if high > 0 {
        let many = |count: usize| Value::Table((0..count).map(|n| (format!("X-{n}"), one.clone())).collect());
        all.extend([good(many(high)), bad(many(high + 1))]);
    }
    all
}
