//! Walks the spanned tree: typed reading that records a mistake and goes on. A [`Table`] learns its keys from being
//! asked for them and reports all others when it is dropped, so no key can be accepted and ignored.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ops::{Range, RangeInclusive},
    rc::Rc,
    time::Duration,
};

use toml::de::{DeTable, DeValue};

use super::{
    syntax::excerpt,
    units::{parse_duration, parse_size, render_duration, render_size},
};

/// The longest string of a document, in bytes.
pub const TEXT_BYTES_MAX: usize = 4096;

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
    text: &'a str,
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
        Table { report: self, path: String::new(), span: 0..0, entries, known: Vec::new(), open: false }
    }

    fn add(&self, found: Found) {
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
        Some(Value {
            report: self.report,
            path: self.below(key),
            span: value.span(),
            value: value.get_ref(),
            remedy: remedy.into(),
        })
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
        let path = value.path.clone();
        let elements = value.list(count).unwrap_or_default();
        elements.into_iter().map(|element| element.named_by_id(&path)).collect()
    }

    /// All keys with their values, where the keys are the document's own choice.
    pub(crate) fn entries(&mut self) -> Vec<(&'a str, Value<'a>)> {
        let values = self.entries.iter().map(|(key, value)| {
            let value = Value {
                report: self.report,
                path: self.below(key.get_ref()),
                span: value.span(),
                value: value.get_ref(),
                remedy: "correct it or remove it".into(),
            };
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
                None => format!("the keys here are {}", self.known.join(", ")),
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

    fn named_by_id(self, path: &str) -> Self {
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
        Some(self.within(format!("{}.{key}", self.path), value))
    }

    /// The elements of an array, as [`Self::peek`].
    pub(crate) fn peek_all(&self) -> Vec<Value<'a>> {
        let elements = self.value.as_array().map_or(&[][..], |array| array);
        elements
            .iter()
            .enumerate()
            .map(|(index, value)| self.within(format!("{}[{index}]", self.path), value))
            .collect()
    }

    fn within(&self, path: String, value: &'a toml::Spanned<DeValue<'a>>) -> Value<'a> {
        Value { report: self.report, path, span: value.span(), value: value.get_ref(), remedy: self.remedy.clone() }
    }

    pub(crate) fn is_table(&self) -> bool {
        self.value.is_table()
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
        Some(Table {
            report: self.report,
            path: self.path.clone(),
            span: self.span.clone(),
            entries,
            known: Vec::new(),
            open: false,
        })
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

/// The known word that a misspelt one most likely meant.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    const WORD_BYTES_MAX: usize = 64;
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    let (distance, near) = known.into_iter().map(|name| (edits(word, name), name)).min()?;
    (distance <= 1 + near.len() / 4).then_some(near)
}

/// Levenshtein's distance, over bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (y, cell) in b.bytes().zip(row.iter_mut().skip(1)) {
            let above = *cell;
            *cell = (diagonal + usize::from(x != y)).min(above + 1).min(left + 1);
            diagonal = above;
            left = *cell;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_words() {
        let known = ["hosts", "origins", "host_header", "pops"];
        let check = |word, expected| assert_eq!(nearest(word, known), expected, "{word}");
        check("host", Some("hosts"));
        check("orgins", Some("origins"));
        check("hostheader", Some("host_header"));
        check("pop", Some("pops"));
        check("certificate", None);
        check("", None);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
