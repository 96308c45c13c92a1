//! docs/configuration.md.

use super::{Key, Section, render, sections};

const HEAD: &str = include_str!("head.md");
const TAIL: &str = include_str!("tail.md");

/// The page that people read, as docs/configuration.md has it.
pub fn markdown() -> String {
    let mut page = HEAD.to_owned();
    let mut told: Vec<(String, &'static Section)> = Vec::new();
    for (path, key, section) in sections() {
        if told.iter().any(|(_, known)| render::same(known, section)) {
            continue;
        }
        let heading = render::heading(&path, key);
        page.push_str(&format!("\n{} `{heading}`\n\n", if path.contains('.') { "###" } else { "##" }));
        page.push_str(&format!("{}.", capital(&about(key))));
        if !section.intro.is_empty() {
            page.push_str(&format!(" {}", section.intro));
        }
        page.push_str("\n\n");
        told.push((heading, section));
        page.push_str(&table(section, &told));
        if !section.notes.is_empty() {
            page.push_str(&format!("\n{}\n", section.notes));
        }
    }
    page.push_str(TAIL);
    page
}

/// A section's own sentence, with how many of it there may be.
fn about(key: &Key) -> String {
    let kind = render::kind(&key.kind);
    match key.kind {
        super::Kind::Tables(..) => format!("{}: {kind}", key.about),
        _ => key.about.to_owned(),
    }
}

fn table(section: &'static Section, told: &[(String, &'static Section)]) -> String {
    let mut table = "| key | | default | |\n|---|---|---|---|\n".to_owned();
    for key in section.keys {
        let mut kind = render::kind(&key.kind);
        if let Some(inner) = key.kind.section() {
            match told.iter().find(|(_, known)| render::same(known, inner)) {
                Some((heading, _)) => kind.push_str(&format!(", as [`{heading}`](#{})", anchor(heading))),
                None => kind.push_str(", below"),
            }
        }
        let cells = [format!("`{}`", key.name), kind, render::absent(key.absent), key.about.to_owned()];
        table.push_str(&format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | ")));
    }
    table
}

/// The anchor that a heading has on the page.
fn anchor(heading: &str) -> String {
    heading.chars().filter(|c| c.is_alphanumeric() || *c == '_' || *c == '-').collect::<String>().to_lowercase()
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
