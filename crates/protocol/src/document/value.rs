//! A value of the spanned tree, read by the type that its key asks for; what cannot be read is recorded, with the remedy
//! that the key came with.

use std::{
    collections::BTreeMap,
    ops::{Range, RangeInclusive},
    rc::Rc,
    time::Duration,
};

use toml::{Spanned, de::DeValue};

use super::{
    read::{Found, Report, Table},
    syntax::excerpt,
    units::{parse_duration, parse_size, render_duration, render_size},
};

/// The longest string of a document, in bytes.
pub const TEXT_BYTES_MAX: usize = 4096;

/// A value of the document.
#[derive(Clone, Debug)]
pub(crate) struct Value<'a> {
    report: &'a Report<'a>,
    path: String,
    span: Range<usize>,
    value: &'a DeValue<'a>,
    remedy: Rc<str>,
}

impl<'a> Value<'a> {
    pub(super) fn new(report: &'a Report<'a>, path: String, value: &'a Spanned<DeValue<'a>>, remedy: Rc<str>) -> Self {
        Self { report, path, span: value.span(), value: value.get_ref(), remedy }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Records a mistake with the remedy that the key came with.
    pub(crate) fn refuse(&self, law: impl Into<String>) {
        self.wrong(law, self.remedy.to_string());
    }

    /// Records a mistake.
    pub(crate) fn wrong(&self, law: impl Into<String>, remedy: impl Into<String>) {
        self.add(law.into(), remedy.into(), None, false);
    }

    /// Records a mistake that a syntax error elsewhere may have caused.
    pub(crate) fn wrong_beside_others(&self, law: impl Into<String>, remedy: impl Into<String>) {
        self.add(law.into(), remedy.into(), None, true);
    }

    fn add(&self, law: String, remedy: String, other: Option<usize>, shadow: bool) {
        let said = (!self.is_head()).then(|| excerpt(self.report.text, self.span.clone()));
        self.report.add(Found { at: self.span.start, path: self.path.clone(), said, law, remedy, other, shadow });
    }

    /// Whether the span is that of a `[head]` or of a key, rather than that of a value.
    fn is_head(&self) -> bool {
        let text = self.report.text.get(self.span.clone()).unwrap_or("");
        match self.value {
            DeValue::Table(_) => !text.starts_with('{'),
            DeValue::Array(array) => {
                array.first().is_some_and(|first| first.span().start == self.span.start) || !text.starts_with('[')
            }
            _ => false,
        }
    }

    /// The offset of the value.
    pub(crate) fn at(&self) -> usize {
        self.span.start
    }

    pub(super) fn named_by_id(self, path: &str) -> Self {
        let id = self.value.get("id").and_then(|id| id.get_ref().as_str());
        match id {
            Some(id) if id.parse::<crate::id::SiteId>().is_ok() => Self { path: format!("{path}.{id}"), ..self },
            _ => self,
        }
    }

    /// The text of the table's `id`, whether or not it is a good one.
    pub(crate) fn raw_id(&self) -> Option<&'a str> {
        self.value.get("id").and_then(|id| id.get_ref().as_str())
    }

    /// The text of a string, without a word where it is none.
    pub(crate) fn text(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    /// The value of a key, to be judged once more in the light of other sections.
    pub(crate) fn peek(&self, key: &str) -> Option<Value<'a>> {
        let value = self.value.as_table()?.get(key)?;
        Some(Self::new(self.report, format!("{}.{key}", self.path), value, self.remedy.clone()))
    }

    /// The elements of an array, as [`Self::peek`].
    pub(crate) fn peek_all(&self) -> Vec<Value<'a>> {
        let elements = self.value.as_array().map_or(&[][..], |array| array);
        elements
            .iter()
            .enumerate()
            .map(|(index, value)| Self::new(self.report, format!("{}[{index}]", self.path), value, self.remedy.clone()))
            .collect()
    }

    pub(crate) fn is_table(&self) -> bool {
        self.value.is_table()
    }

    pub(crate) fn is_array(&self) -> bool {
        self.value.is_array()
    }

    pub(crate) fn is_string(&self) -> bool {
        self.value.is_str()
    }

    fn mistyped<T>(&self, law: &str) -> Option<T> {
        self.refuse(format!("must be {law}, not {}", article(self.value.type_str())));
        None
    }

    pub(crate) fn string(&self) -> Option<&'a str> {
        let Some(text) = self.value.as_str() else { return self.mistyped("a string") };
        if text.len() > TEXT_BYTES_MAX {
            self.refuse(format!("must have at most {TEXT_BYTES_MAX} bytes"));
            return None;
        }
        Some(text)
    }

    /// A string that `f` accepts; `law` says which ones it does.
    pub(crate) fn parse<T>(&self, law: &str, f: impl FnOnce(&'a str) -> Option<T>) -> Option<T> {
        if self.value.as_str().is_none() {
            self.refuse(format!("{law}, as a string, not {}", article(self.value.type_str())));
            return None;
        }
        let parsed = f(self.string()?);
        if parsed.is_none() {
            self.refuse(law);
        }
        parsed
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.mistyped("true or false"))
    }

    pub(crate) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let law = if range.start() == range.end() {
            range.start().to_string()
        } else {
            format!("{}..={}", range.start(), range.end())
        };
        let Some(integer) = self.value.as_integer() else { return self.mistyped(&format!("a whole number, {law}")) };
        let number =
            u64::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.refuse(format!("must be {law}"));
        }
        number
    }

    /// A finite number; whole ones will do.
    pub(crate) fn number(&self, law: &str, range: impl Fn(f64) -> bool) -> Option<f64> {
        let number = match self.value {
            DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().parse::<f64>().ok(),
            _ => return self.mistyped(&format!("a number, {law}")),
        };
        let number = number.filter(|number| number.is_finite() && range(*number));
        if number.is_none() {
            self.refuse(format!("must be {law}"));
        }
        number
    }

    pub(crate) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let (low, high) = (render_duration(*range.start()), render_duration(*range.end()));
        let law = format!("must be a duration with a unit (ms, s, m, h, d), {low} to {high}");
        self.parse(&law, |text| parse_duration(text).filter(|duration| range.contains(duration)))
    }

    pub(crate) fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let (low, high) = (render_size(*range.start()), render_size(*range.end()));
        let law = format!("must be a size with a unit (B, KiB, MiB, GiB, TiB), {low} to {high}");
        self.parse(&law, |text| parse_size(text).filter(|size| range.contains(size)))
    }

    pub(crate) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        self.parse(&format!("must be {}", names.join(" or ")), |text| {
            choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice)
        })
    }

    /// The elements of an array, however many of them are wrong. None where it is no array or has too many or too few.
    pub(crate) fn list(&self, count: RangeInclusive<usize>) -> Option<Vec<Value<'a>>> {
        let Some(array) = self.value.as_array() else { return self.mistyped("an array") };
        if array.len() < *count.start() {
            self.refuse(if array.is_empty() {
                "must not be empty".to_owned()
            } else {
                format!("must have at least {} elements", count.start())
            });
            return None;
        }
        if array.len() > *count.end() {
            self.refuse(format!("must have at most {} elements, and has {}", count.end(), array.len()));
            return None;
        }
        Some(self.peek_all())
    }

    /// The elements of an array of which no two may be equal; None where one of them is wrong.
    pub(crate) fn set<T: Ord + Clone>(
        &self,
        count: RangeInclusive<usize>,
        f: impl Fn(&Value<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let elements = self.list(count)?;
        let mut seen = Seen::default();
        let read: Vec<_> = elements
            .iter()
            .map(|element| {
                let item = f(element)?;
                seen.is_new(item.clone(), element).then_some(item)
            })
            .collect();
        read.into_iter().collect()
    }

    pub(crate) fn table(&self) -> Option<Table<'a>> {
        let Some(entries) = self.value.as_table() else { return self.mistyped("a table") };
        Some(Table::new(self.report, self.path.clone(), self.span.clone(), entries))
    }
}

fn article(kind: &str) -> String {
    let an = kind.starts_with(['a', 'i']);
    format!("{} {kind}", if an { "an" } else { "a" })
}

/// Things of which the document may have each only once.
#[derive(Debug)]
pub(crate) struct Seen<T>(BTreeMap<T, (usize, String)>);

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord> Seen<T> {
    /// Whether `thing` is met for the first time; reports `value` where it is not.
    pub(crate) fn is_new(&mut self, thing: T, value: &Value<'_>) -> bool {
        use std::collections::btree_map::Entry;
        match self.0.entry(thing) {
            Entry::Vacant(entry) => {
                entry.insert((value.at(), value.path.clone()));
                true
            }
            Entry::Occupied(entry) => {
                let (at, path) = entry.get();
                value.add(
                    format!("must be unique, and {path} says it too"),
                    "change or remove one of them".into(),
                    Some(*at),
                    false,
                );
                false
            }
        }
    }
}
