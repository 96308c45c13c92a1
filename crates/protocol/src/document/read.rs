//! Walks the spanned tree: typed reading that records a mistake and goes on. A [`Table`] learns its keys from being
//! asked for them and reports all others when it is dropped, so no key can be accepted and ignored.

use std::{
    cell::RefCell,
    ops::{Range, RangeInclusive},
    time::Duration,
};

use toml::de::DeTable;

use super::{keys::homes, syntax::excerpt, units::render_duration, value::Value, words::nearest};

/// A mistake at an offset of the text.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) at: usize,
    pub(crate) path: String,
    pub(crate) said: Option<String>,
    pub(crate) law: String,
    pub(crate) remedy: String,
    /// The offset of what it collides with.
    pub(crate) other: Option<usize>,
    /// May be no mistake of its own but the shadow of a syntax error elsewhere: a key that is missing because its line
    /// could not be read.
    pub(crate) shadow: bool,
}

impl Found {
    /// A mistake of the text as a whole.
    pub(crate) fn whole(law: String) -> Self {
        Self { at: 0, path: "document".into(), said: None, law, remedy: String::new(), other: None, shadow: false }
    }
}

/// Where mistakes are gathered while the tree is walked.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(super) text: &'a str,
    found: RefCell<Vec<Found>>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, found: RefCell::default() }
    }

    pub(crate) fn into_found(self) -> Vec<Found> {
        self.found.into_inner()
    }

    /// The whole document.
    pub(crate) fn root(&'a self, entries: &'a DeTable<'a>) -> Table<'a> {
        Table::new(self, String::new(), 0..0, entries)
    }

    pub(super) fn add(&self, found: Found) {
        self.found.borrow_mut().push(found);
    }
}

/// A table, by its keys.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    report: &'a Report<'a>,
    path: String,
    span: Range<usize>,
    entries: &'a DeTable<'a>,
    known: Vec<&'static str>,
    /// Whether any key will do.
    open: bool,
}

impl<'a> Table<'a> {
    pub(super) fn new(report: &'a Report<'a>, path: String, span: Range<usize>, entries: &'a DeTable<'a>) -> Self {
        Self { report, path, span, entries, known: Vec::new(), open: false }
    }

    /// The value of a key that may be absent. `default` is what holds then, for the remedy; empty where nothing does.
    pub(crate) fn optional(&mut self, key: &'static str, default: &str) -> Option<Value<'a>> {
        let remedy = match default {
            "" => "correct it or remove it".to_owned(),
            default => format!("remove it for the default ({default})"),
        };
        self.take(key, remedy)
    }

    /// The value of a key that must be there. `example` shows one: `"cdn.example"`.
    pub(crate) fn required(&mut self, key: &'static str, example: &str) -> Option<Value<'a>> {
        let value = self.take(key, format!("for example {key} = {example}"));
        if value.is_none() {
            self.missing(key, "is missing", &format!("add {key} = {example}"));
        }
        value
    }

    fn take(&mut self, key: &'static str, remedy: String) -> Option<Value<'a>> {
        self.known.push(key);
        let value = self.entries.get(key)?;
        Some(Value::new(self.report, self.below(key), value, remedy.into()))
    }

    /// The table of `[key]` that must be there; `example` is a line of it.
    pub(crate) fn required_table(&mut self, key: &'static str, example: &str) -> Option<Value<'a>> {
        let value = self.take(key, format!("for example [{key}] with {example}"));
        if value.is_none() {
            self.missing(key, "is missing", &format!("add [{key}] with {example}"));
        }
        value
    }

    /// As [`Self::required`], read by `f`.
    pub(crate) fn must<T>(
        &mut self,
        key: &'static str,
        example: &str,
        f: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<T> {
        self.required(key, example).and_then(|value| f(&value))
    }

    /// As [`Self::optional`], read by `f`, or `default`. None only where the value is wrong.
    pub(crate) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        shown: &str,
        f: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<T> {
        self.optional(key, shown).map_or(Some(default), |value| f(&value))
    }

    /// As [`Self::optional`], read by `f`. The outer None is for wrong values.
    pub(crate) fn maybe<T>(&mut self, key: &'static str, f: impl FnOnce(&Value<'a>) -> Option<T>) -> Option<Option<T>> {
        self.optional(key, "").map_or(Some(None), |value| f(&value).map(Some))
    }

    pub(crate) fn duration_or(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.or(key, default, &format!("\"{}\"", render_duration(default)), |value| value.duration(range))
    }

    pub(crate) fn integer_or(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> Option<u64> {
        self.or(key, default, &default.to_string(), |value| value.integer(range))
    }

    /// The tables of `[[key]]`, none where it is absent; each is named by its `id` where it has one.
    pub(crate) fn tables(&mut self, key: &'static str, count: RangeInclusive<usize>) -> Vec<Value<'a>> {
        let Some(value) = self.optional(key, "") else {
            if *count.start() > 0 {
                let law = if *count.start() == 1 {
                    "needs at least one".to_owned()
                } else {
                    format!("needs at least {}", count.start())
                };
                let path = self.below(key);
                self.missing(key, &law, &format!("add a table [[{}]]", plain_path(&path)));
            }
            return Vec::new();
        };
        let path = value.path().to_owned();
        let elements = value.list(count).unwrap_or_default();
        elements.into_iter().map(|element| element.named_by_id(&path)).collect()
    }

    /// All keys with their values, where the keys are the document's own choice.
    pub(crate) fn entries(&mut self) -> Vec<(&'a str, Value<'a>)> {
        let values = self.entries.iter().map(|(key, value)| {
            let value = Value::new(self.report, self.below(key.get_ref()), value, "correct it or remove it".into());
            (key.get_ref().as_ref(), value)
        });
        let all = values.collect();
        self.open = true;
        all
    }

    /// Reports something about the table as a whole, at its head.
    pub(crate) fn refuse(&self, law: impl Into<String>, remedy: impl Into<String>) {
        self.report.add(Found {
            at: self.span.start,
            path: self.path.clone(),
            said: None,
            law: law.into(),
            remedy: remedy.into(),
            other: None,
            shadow: true,
        });
    }

    fn missing(&self, key: &str, law: &str, remedy: &str) {
        self.report.add(Found {
            at: self.span.start,
            path: self.below(key),
            said: None,
            law: law.to_owned(),
            remedy: remedy.to_owned(),
            other: None,
            shadow: true,
        });
    }

    fn below(&self, key: &str) -> String {
        let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        let key = if bare { key.to_owned() } else { format!("\"{}\"", excerpt(key, 0..key.len())) };
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }
}

/// `pop.hkg.node` → `pop.node`: how the head of such a table is written.
fn plain_path(path: &str) -> String {
    match (path.split('.').next(), path.rsplit('.').next()) {
        (Some(first), Some(last)) if first != last => format!("{first}.{last}"),
        _ => path.to_owned(),
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        for (key, _) in self.entries.iter().filter(|_| !self.open) {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let remedy = match nearest(name, self.known.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => {
                    let elsewhere = match homes(name) {
                        [] => String::new(),
                        homes => format!("; {name} is a key of {}", homes.join(", ")),
                    };
                    format!("the keys here are {}{elsewhere}", self.known.join(", "))
                }
            };
            self.report.add(Found {
                at: key.span().start,
                path: self.below(name),
                said: None,
                law: "is no key of this document".into(),
                remedy,
                other: None,
                shadow: false,
            });
        }
    }
}
