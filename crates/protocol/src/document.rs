//! The text of a CDN document → the validated [`crate::model::Document`], or **every** mistake in it. No file is opened.
//!
//! TOML's own syntax is read by the toml crate, which recovers and keeps spans; the rest is a walk over the spanned tree,
//! section by section, that records each mistake and goes on. There is no serde here: it would stop at the first.

mod cache;
mod fleet;
mod geo;
pub mod keys;
pub mod limits;
mod mistake;
pub(crate) mod names;
mod policy;
mod pops;
mod read;
mod rule;
mod site;
mod syntax;
mod transfer;
mod units;
mod unsupported;
mod value;
mod words;
mod zone;

pub use mistake::{MISTAKES_MAX, Mistake, Mistakes};
pub use policy::policy_from_pairs;
pub use syntax::KEY_PARTS_MAX;
pub use units::{parse_duration, parse_size, render_duration, render_size};
pub use unsupported::{NodeKind, Unsupported, unsupported};
pub use value::TEXT_BYTES_MAX;

use std::collections::BTreeSet;

use crate::model::{Admin, Control, ControlEngine, Document, ZoneSettings};
use limits::{DOCUMENT_BYTES_MAX, POPS_MAX, SHIELDS_MAX, SITES_MAX};
use read::{Found, Report, Table};
use syntax::{Lines, SyntaxError};
use value::Value;

/// Reads and validates a document. `file_name` is only told in mistakes.
///
/// Pure and complete: no file that the document names is opened, and one mistake hides no other. Only where the text is
/// no TOML in some places, what may be the shadow of that (missing keys, names of PoPs that could not be read) is not
/// reported beside it.
pub fn load(file_name: &str, text: &str) -> Result<Document, Mistakes> {
    if text.len() > DOCUMENT_BYTES_MAX {
        let law = format!("has {} bytes; a document has at most {DOCUMENT_BYTES_MAX}", text.len());
        return Err(Mistakes::new(vec![place(file_name, &Lines::new(""), Found::whole(law))]));
    }
    let (tree, errors) = syntax::parse(text);
    let report = Report::new(text);
    let document = tree.as_ref().and_then(|tree| document(report.root(tree)));
    let mistakes = gather(file_name, text, errors, report.into_found());
    match (document, mistakes.is_empty()) {
        (Some(document), true) => Ok(document),
        (None, true) => {
            Err(Mistakes::new(vec![place(file_name, &Lines::new(""), Found::whole("cannot be read".into()))]))
        }
        (_, false) => Err(Mistakes::new(mistakes)),
    }
}

/// Whether a text is TOML at all, whatever it says: its syntax errors alone.
pub fn check_syntax(file_name: &str, text: &str) -> Result<(), Mistakes> {
    if text.len() > DOCUMENT_BYTES_MAX {
        return load(file_name, text).map(|_| ());
    }
    let mistakes = gather(file_name, text, syntax::parse(text).1, Vec::new());
    if mistakes.is_empty() { Ok(()) } else { Err(Mistakes::new(mistakes)) }
}

/// Syntax errors first, and what is no shadow of them.
fn gather(file: &str, text: &str, errors: Vec<SyntaxError>, found: Vec<Found>) -> Vec<Mistake> {
    let lines = Lines::new(text);
    let (mut broken, mut orphaned) = (BTreeSet::new(), BTreeSet::new());
    let mut mistakes = Vec::new();
    for error in errors {
        let (mut line, mut column) = lines.place(error.at);
        let (mut law, found_at) = (error.law, line);
        if let Some(open) = error.unclosed {
            (line, column) = lines.place(open);
        }
        if line != found_at {
            law = "is no TOML: a bracket is opened here and never closed".to_owned();
        }
        // One broken line often breaks several rules of the grammar: the first says enough.
        if broken.insert(line) {
            let whole = lines.line(line);
            let said = Some(syntax::excerpt(whole, 0..whole.len()));
            let remedy = "correct this line first".to_owned();
            mistakes.push(Mistake { file: file.into(), line, column, path: String::new(), said, law, remedy });
            if error.unclosed.is_some() {
                // Nor is it known where it should have ended.
                orphaned.extend(line + 1..=lines.count());
            } else if whole.starts_with('[') {
                // Whose keys the next lines are is not known.
                orphaned.extend((line + 1..=lines.count()).take_while(|next| !lines.line(*next).starts_with('[')));
            }
        }
        broken.insert(found_at);
    }
    let syntax_errors = !mistakes.is_empty();
    let more =
        found.into_iter().filter(|found| !(syntax_errors && found.shadow)).map(|found| place(file, &lines, found));
    mistakes.extend(more.filter(|mistake| !broken.contains(&mistake.line) && !orphaned.contains(&mistake.line)));
    mistakes
}

fn place(file: &str, lines: &Lines<'_>, found: Found) -> Mistake {
    let (line, column) = lines.place(found.at);
    let law = match found.other {
        Some(other) => format!("{} (line {})", found.law, lines.place(other).0),
        None => found.law,
    };
    Mistake { file: file.into(), line, column, path: found.path, said: found.said, law, remedy: found.remedy }
}

/// Every section is read, whatever is wrong with the others.
fn document(mut root: Table<'_>) -> Option<Document> {
    let version = root.or("version", 1, "1", |value| value.integer(1..=1));
    let pop_values = root.tables("pop", 1..=POPS_MAX);
    let shield_values = root.tables("shield", 0..=SHIELDS_MAX);
    let site_values = root.tables("site", 1..=SITES_MAX);
    let known = fleet::KnownPops::new(&pop_values);

    let cdn_value = root.required_table("cdn", "zone = \"cdn.example\"");
    let cdn = cdn_value.as_ref().and_then(fleet::cdn);
    let geo = root.or("geo", geo::nowhere(), "every client at the first PoP", |value| geo::geo(value, &known));
    let control = root.or("control", control_default(), "engine = \"embedded\"", fleet::control);
    let admin = root.or("admin", Admin::default(), "no tokens", fleet::admin);

    let mut seen = pops::PopsSeen::default();
    let pops: Vec<_> = pop_values.iter().map(|value| pops::pop(value, &known, &mut seen)).collect();
    let mut seen = pops::ShieldsSeen::default();
    let shields: Vec<_> = shield_values.iter().map(|value| pops::shield(value, &known, &mut seen)).collect();
    let taken = cdn_value.as_ref().and_then(|cdn| zone::Taken::new(cdn, &site_values));
    let has_geo = geo.as_ref().is_none_or(|geo| geo.database.is_some());
    let around = site::Around { pops: &known, taken: taken.as_ref(), has_geo };
    let mut seen = site::SitesSeen::default();
    let sites: Vec<_> = site_values.iter().map(|value| site::site(value, &around, &mut seen)).collect();

    if let (Some(cdn), Some(taken)) = (&cdn_value, &taken) {
        check_cdn_names(cdn, taken);
    }
    let is_signed = cdn_value.as_ref().is_some_and(|cdn| cdn.peek("dnssec").is_some());
    let zone_default = (Vec::new(), ZoneSettings::default());
    let zone = root.or("zone", zone_default, "no records", |value| zone::zone(value, taken.as_ref(), is_signed));
    version?;
    let (records, zone) = zone?;
    Some(Document {
        cdn: cdn?,
        geo: geo?,
        control: control?,
        admin: admin?,
        pops: pops.into_iter().collect::<Option<_>>()?,
        shields: shields.into_iter().collect::<Option<_>>()?,
        sites: sites.into_iter().collect::<Option<_>>()?,
        records,
        zone,
    })
}

fn control_default() -> Control {
    Control { engine: ControlEngine::Embedded, url: None, credentials: None }
}

/// What `[cdn]` says of sites.
fn check_cdn_names(cdn: &Value<'_>, taken: &zone::Taken<'_>) {
    if let Some(value) = cdn.peek("apex_site")
        && let Some(apex) = value.text()
        && !taken.sites.contains(apex)
    {
        let remedy = match words::nearest(apex, taken.sites.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "name a site, or remove it".to_owned(),
        };
        value.wrong_beside_others("must be the id of a site of this document", remedy);
    }
    for nameserver in cdn.peek("nameservers").into_iter().flat_map(|list| list.peek_all()) {
        let Some(host) = nameserver.peek("host") else { continue };
        let name = host.text().and_then(names::domain_name);
        if let Some(site) = name.and_then(|name| taken.steered(&name)) {
            host.wrong(
                format!("is the steered name of site {site}, whose addresses change"),
                "name the nameserver otherwise",
            );
        }
    }
}

#[cfg(test)]
mod tests;
