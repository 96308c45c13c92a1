//! `--policy KEY=VALUE`: `[site.cache]` without a document.

use toml::de::{DeTable, DeValue};

use super::{
    Mistakes, cache, place,
    read::Report,
    syntax::{self, Lines},
};
use crate::model::CachePolicy;

/// What mistakes are said to be in.
const FILE: &str = "--policy";

/// The cache policy that `--policy KEY=VALUE` pairs make, over the defaults of `[site.cache]`.
///
/// A value is TOML where it parses as TOML (`60`, `{404="5s"}`, `["utm_*"]`), else a bare string (`store`, `60s`).
/// Mistakes are placed in `--policy`, the pair's number as the line.
pub fn policy_from_pairs(pairs: &[(String, String)]) -> Result<CachePolicy, Mistakes> {
    let text: String = pairs.iter().map(|(key, value)| line(key, value)).collect();
    let (tree, errors) = syntax::parse(&text);
    let report = Report::new(&text);
    let nothing = DeTable::new();
    let policy = cache::policy(&mut report.root(tree.as_ref().unwrap_or(&nothing)));
    let mut mistakes = super::gather(FILE, &text, errors, report.into_found());
    match policy {
        Some(policy) if mistakes.is_empty() => Ok(policy),
        _ => {
            if mistakes.is_empty() {
                mistakes.push(place(FILE, &Lines::new(""), super::Found::whole("cannot be read".into())));
            }
            Err(Mistakes::new(mistakes))
        }
    }
}

/// One pair as one line of TOML. A key is quoted unless it is plain, so that it cannot open a table.
fn line(key: &str, value: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let key = if plain { key.to_owned() } else { quote(key) };
    let is_toml = !value.contains(['\n', '\r']) && DeValue::parse(value).is_ok();
    format!("{key} = {}\n", if is_toml { value.trim().to_owned() } else { quote(value) })
}

/// A basic string of TOML on one line.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
