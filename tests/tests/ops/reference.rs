//! `docs/metrics.md`: made from what the tiers export, and compared with what is committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use crate::{
    at,
    families::{Exported, Family},
    labels::{LABELS, Values},
    read,
};

const PAGE: &str = "docs/metrics.md";
/// Set by `cargo xtask reference`: write the page instead of comparing.
const WRITE: &str = "PERIGEE_REFERENCE";
/// Labels that every sample has.
const EVERYWHERE: [&str; 2] = ["node", "tier"];

/// Sets of tiers, in the order of the page.
const SECTIONS: [(&[&str], &str); 6] = [
    (&["edge", "geodns", "shield"], "Of every node"),
    (&["edge", "shield"], "Of edges and shields"),
    (&["edge", "geodns"], "Of edges and nameservers"),
    (&["edge"], "Of edges"),
    (&["shield"], "Of shields"),
    (&["geodns"], "Of nameservers"),
];

/// Names in the sources that no tier exported: whoever adds a metric has to make it appear in `tiers.rs`, or the page lacks it.
pub(crate) fn not_exported(exported: &Exported) -> Vec<String> {
    let mut named = BTreeSet::new();
    for member in fs::read_dir(at("crates")).unwrap() {
        collect(&member.unwrap().path().join("src"), &mut named);
    }
    assert!(named.len() > 60, "the sources are read: {named:?}");
    // A unit is added to the name that is registered.
    let is_known = |name: &String| exported.0.contains_key(name) || exported.0.contains_key(&format!("{name}_seconds"));
    let unknown = named.iter().filter(|name| !is_known(name));
    unknown.map(|name| format!("{name} is named in crates/, and none of the tiers exports it here")).collect()
}

/// Whole string literals that look like metrics, outside of tests.
fn collect(folder: &Path, named: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            collect(&path, named);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            // Every second piece between quotation marks is a literal, but for escapes: those are no names.
            let literals = code.split('"').filter(|piece| piece.starts_with("perigee_"));
            let is_name =
                |piece: &&str| piece.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            named.extend(literals.filter(is_name).map(str::to_owned));
        }
    }
}

/// Metrics that pages name and nobody exports. The beginning of a name stands for all that begin so.
pub(crate) fn named_in_pages(exported: &Exported) -> Vec<String> {
    let mut pages = vec![at("README.md")];
    let folders = ["docs", "docs/how-to"].map(|folder| fs::read_dir(at(folder)).unwrap());
    pages.extend(folders.into_iter().flatten().map(|entry| entry.unwrap().path()));
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    let samples: Vec<&String> = exported.0.values().flat_map(|family| &family.samples).collect();
    let mut mistakes = Vec::new();
    for path in pages {
        let text = fs::read_to_string(&path).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        // A package's file has its version there.
        let is_name = |word: &&str| {
            word.strip_prefix("perigee_").is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        for word in words.filter(is_name) {
            if !samples.iter().any(|sample| sample.starts_with(word)) {
                mistakes.push(format!("{} names {word}, which nobody exports", path.display()));
            }
        }
    }
    mistakes
}

/// Nothing, or that the page is stale.
pub(crate) fn write_or_compare(exported: &Exported) -> Option<String> {
    let text = markdown(exported);
    if std::env::var_os(WRITE).is_some() {
        fs::write(at(PAGE), text).unwrap();
        return None;
    }
    (read(PAGE) != text).then(|| format!("{PAGE} is stale: run `cargo xtask reference`"))
}

fn markdown(exported: &Exported) -> String {
    let mut text = String::from(include_str!("intro.md"));
    let mut by_tiers: BTreeMap<&BTreeSet<&str>, Vec<(&String, &Family)>> = BTreeMap::new();
    for (name, family) in &exported.0 {
        by_tiers.entry(&family.tiers).or_default().push((name, family));
    }
    let sections = SECTIONS.map(|(tiers, title)| (tiers.iter().copied().collect::<BTreeSet<&str>>(), title));
    let told = sections.iter().filter_map(|(tiers, title)| by_tiers.remove(tiers).map(|families| (title, families)));
    for (title, families) in told.collect::<Vec<_>>() {
        writeln!(text, "\n## {title}\n\n| metric | type | labels | |\n|---|---|---|---|").unwrap();
        for (name, family) in families {
            let row = [exposed(name, family), family.kind.clone(), labels(family), cell(&family.help)];
            writeln!(text, "| `{}` | {} | {} | {} |", row[0], row[1], row[2], row[3]).unwrap();
        }
    }
    assert!(by_tiers.is_empty(), "tiers without a section: {:?}", by_tiers.keys());
    text.push_str(
        "\n## Labels\n\nEvery sample has `node` and `tier`. Nothing that a client can invent is a label: a series more needs a line more in the \
         document, or is one of the words below.\n\n| label | of | | values |\n|---|---|---|---|\n",
    );
    let all: BTreeSet<&String> = exported.0.values().flat_map(|family| family.labels.keys()).collect();
    for label in LABELS.iter().filter(|label| all.iter().any(|name| *name == label.name)) {
        let of = if label.family.is_empty() { "all that have it".into() } else { format!("`{}`", label.family) };
        let values = match label.values {
            Values::Words(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
            Values::Open(how_many) => how_many.to_owned(),
        };
        writeln!(text, "| `{}` | {of} | {} | {values} |", label.name, label.says).unwrap();
    }
    text
}

/// As queries name it: a histogram has three kinds of samples.
fn exposed(name: &str, family: &Family) -> String {
    match family.kind.as_str() {
        "counter" => format!("{name}_total"),
        "info" => format!("{name}_info"),
        _ => name.to_owned(),
    }
}

fn labels(family: &Family) -> String {
    let own = family.labels.keys().filter(|label| !EVERYWHERE.contains(&label.as_str()));
    own.map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
