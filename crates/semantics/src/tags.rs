//! Surrogate keys: the words by which a site purges many objects at once; and cache groups (RFC 9875), which are words by
//! which an origin invalidates its own.

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, List, ListEntry, Parser};

/// The groups a response is in (RFC 9875 §2).
pub(crate) const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
/// The groups that a successful unsafe request invalidates (RFC 9875 §3).
pub(crate) const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");
/// Words of one response that are kept; [`MORE`] stands for the rest, so that a response cannot grow its head without bound.
pub const TAGS_MAX: usize = 1_024;
/// The tag of a response that has more words than are kept: every purge of a tag of its site matches it.
pub(crate) const MORE: &str = "\u{2}";
/// Begins the tag that says that a word came from Cache-Groups. No field value has this byte.
const GROUP_MARK: char = '\u{1}';

/// The keys in `names`, sorted, each once. Words between spaces or commas; Cache-Groups is a List of Strings, each of which
/// is a tag as it stands for the site's operators, and one in [`group_tag`]'s form for its origin.
pub(crate) fn read(headers: &HeaderMap, names: &[HeaderName]) -> Vec<Box<str>> {
    let mut tags: Vec<Box<str>> = Vec::new();
    let mut cut = false;
    for name in names {
        if *name == CACHE_GROUPS {
            continue;
        }
        for value in headers.get_all(name) {
            let text = String::from_utf8_lossy(value.as_bytes());
            let mut words = text.split([' ', '\t', ',']).filter(|tag| !tag.is_empty());
            tags.extend(words.by_ref().take(TAGS_MAX.saturating_sub(tags.len())).map(Box::from));
            cut |= words.next().is_some();
        }
    }
    // RFC 9875 §2: whatever the site calls its surrogate keys, groups are groups.
    let room = TAGS_MAX.saturating_sub(tags.len()) / 2;
    let mut named = groups(headers, &CACHE_GROUPS).into_iter();
    for group in named.by_ref().take(room) {
        tags.push(group_tag(&group));
        if names.contains(&CACHE_GROUPS) {
            tags.push(group);
        }
    }
    if cut || named.next().is_some() {
        tags.push(MORE.into());
    }
    tags.sort_unstable();
    tags.dedup();
    tags
}

/// The tag by which an origin's own group is found.
pub(crate) fn group_tag(group: &str) -> Box<str> {
    format!("{GROUP_MARK}{group}").into()
}

/// The group whose tag this is (RFC 9875), if it is one: its origin may invalidate it, and no other origin of the site.
pub fn group_of(tag: &str) -> Option<&str> {
    tag.strip_prefix(GROUP_MARK)
}

/// The members of a List of Strings over all its lines. RFC 9651 §4.2: what is of another type counts as absent, whole.
pub(crate) fn groups(headers: &HeaderMap, name: &HeaderName) -> Vec<Box<str>> {
    let mut lines = headers.get_all(name).into_iter();
    let Some(first) = lines.next() else { return Vec::new() };
    let mut text = first.as_bytes().to_vec();
    for line in lines {
        text.extend_from_slice(b", ");
        text.extend_from_slice(line.as_bytes());
    }
    let list: List = Parser::new(&text).parse().unwrap_or_default();
    let strings = list.into_iter().map(|entry| match entry {
        ListEntry::Item(item) => match item.bare_item {
            // RFC 9875 §2: parameters mean nothing yet.
            BareItem::String(text) => Some(Box::from(text.as_str())),
            _ => None,
        },
        ListEntry::InnerList(_) => None,
    });
    strings.collect::<Option<Vec<_>>>().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn tags() {
        let check = |name: &'static str, lines: &[&'static str], expected: &[&str]| {
            let name = HeaderName::from_static(name);
            let headers = lines.iter().map(|line| (name.clone(), HeaderValue::from_static(line))).collect();
            let found = read(&headers, &[name]);
            assert_eq!(found.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), expected, "{lines:?}");
        };
        check("surrogate-key", &["b a  b"], &["a", "b"]);
        check("cache-tag", &["b,a, c"], &["a", "b", "c"]);
        check("cache-tag", &["b", "a"], &["a", "b"]);
        check("surrogate-key", &[""], &[]);
        check("cache-groups", &[r#""a b";x, "c""#], &["\u{1}a b", "\u{1}c", "a b", "c"]);
        check("cache-groups", &[r#""a""#, r#""C""#], &["\u{1}C", "\u{1}a", "C", "a"]);
        for wrong in ["a, \"b", "a", r#""a", 1"#, r#""a", ("b")"#, ""] {
            check("cache-groups", &[wrong], &[]);
        }
    }

    #[test]
    fn groups_are_groups_whatever_the_site_calls_its_keys() {
        let headers = HeaderMap::from_iter([(CACHE_GROUPS, HeaderValue::from_static("\"a\""))]);
        let found = read(&headers, &[]);
        assert_eq!(found.iter().map(|tag| group_of(tag)).collect::<Vec<_>>(), [Some("a")]);
        assert_eq!(group_of("a"), None);
    }

    #[test]
    fn words_have_a_limit() {
        let words = |count: usize| (0..count).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ");
        let check = |count: usize, kept: usize, more: bool| {
            let name = HeaderName::from_static("surrogate-key");
            let headers = HeaderMap::from_iter([(name.clone(), HeaderValue::try_from(words(count)).unwrap())]);
            let found = read(&headers, &[name]);
            assert_eq!(found.contains(&Box::from(MORE)), more);
            assert_eq!(found.len() - usize::from(more), kept);
        };
        check(TAGS_MAX, TAGS_MAX, false);
        check(TAGS_MAX + 1, TAGS_MAX, true);
    }
}
