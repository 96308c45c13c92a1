//! Kinds and defaults in words.

use super::{
    super::{
        limits::TTL_MAX,
        units::{render_duration, render_size},
    },
    Absent, Key, Kind, Section,
};
use std::time::Duration;

/// A number as people read it: `1,024`.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn count(count: usize) -> String {
    number(count as u64)
}

/// `a, b or c`
fn or(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// What a value may be, in Markdown: `duration, 1ms to 1h`.
pub(super) fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Boolean => "`true` or `false`".into(),
        Kind::Integer(low, high, _) if low == high => number(*low),
        Kind::Integer(low, high, []) => format!("{} to {}", number(*low), number(*high)),
        Kind::Integer(low, high, but) => {
            let but: Vec<_> = but.iter().map(u64::to_string).collect();
            format!("{} to {} but {}", number(*low), number(*high), but.join(" and "))
        }
        Kind::Number(numbers) => or(&numbers.iter().map(u64::to_string).collect::<Vec<_>>()),
        Kind::Float(low, high) => format!("number, {low} to {high}"),
        Kind::Duration(Duration::ZERO, TTL_MAX) => "duration".into(),
        Kind::Duration(low, high) => format!("duration, {} to {}", render_duration(*low), render_duration(*high)),
        Kind::Ttl => "duration of whole seconds".into(),
        Kind::Size(low, high) => format!("size, {} to {}", render_size(*low), render_size(*high)),
        Kind::Choice(words) => or(&words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>()),
        Kind::Text(form) => form.what.into(),
        Kind::List(of, 0, high, _) => format!("list of up to {}: {}", count(*high), self::kind(of)),
        Kind::List(of, low, high, _) => format!("list of {} to {}: {}", count(*low), count(*high), self::kind(of)),
        Kind::Some(of, high) => format!("{}, or a list of up to {}", self::kind(of), count(*high)),
        Kind::Map(names, of, 0) => format!("table: {} → {}", names.what, self::kind(of)),
        Kind::Map(names, of, high) => format!("table of up to {}: {} → {}", count(*high), names.what, self::kind(of)),
        Kind::Table(_) => "table".into(),
        Kind::Tables(_, 0, high) => format!("up to {} tables", count(*high)),
        Kind::Tables(_, low, high) => format!("{} to {} tables", count(*low), count(*high)),
        Kind::Either(kinds) => or(&kinds.iter().map(self::kind).collect::<Vec<_>>()),
    }
}

/// What holds without a key, in Markdown.
pub(super) fn absent(absent: Absent) -> String {
    match absent {
        Absent::Refused => "required".into(),
        Absent::Is(value) => format!("`{value}`"),
        Absent::Means(words) => words.into(),
    }
}

/// How a section is named: `[cdn]`, `[[pop]]`, `site.origins[]`.
pub(super) fn heading(path: &str, key: &Key) -> String {
    match key.kind {
        Kind::Tables(..) => format!("[[{path}]]"),
        Kind::List(..) => format!("{path}[]"),
        _ => format!("[{path}]"),
    }
}

/// Whether two sections are the same one.
pub(super) fn same(a: &'static Section, b: &'static Section) -> bool {
    std::ptr::eq(a, b)
}
