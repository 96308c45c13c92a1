//! Surrogate keys: the words by which a site purges many objects at once.

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, List, ListEntry, Parser};

const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");

/// The keys in `names`, sorted, each once. Cache-Groups is a List of Strings (RFC 9875 §2); the others are words between
/// spaces or commas.
pub(crate) fn read(headers: &HeaderMap, names: &[HeaderName]) -> Vec<Box<str>> {
    let mut tags: Vec<Box<str>> = Vec::new();
    for name in names {
        for value in headers.get_all(name) {
            if *name == CACHE_GROUPS {
                tags.extend(groups(value.as_bytes()));
            } else {
                let text = String::from_utf8_lossy(value.as_bytes());
                tags.extend(text.split([' ', '\t', ',']).filter(|tag| !tag.is_empty()).map(Box::from));
            }
        }
    }
    tags.sort_unstable();
    tags.dedup();
    tags
}

fn groups(value: &[u8]) -> Vec<Box<str>> {
    let list: List = Parser::new(value).parse().unwrap_or_default();
    let strings = list.into_iter().filter_map(|entry| match entry {
        ListEntry::Item(item) => match item.bare_item {
            BareItem::String(text) => Some(Box::from(text.as_str())),
            _ => None,
        },
        ListEntry::InnerList(_) => None,
    });
    strings.collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn tags() {
        let check = |name: &'static str, value: &'static str, expected: &[&str]| {
            let name = HeaderName::from_static(name);
            let headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static(value))]);
            let found = read(&headers, &[name]);
            assert_eq!(found.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), expected, "{value}");
        };
        check("surrogate-key", "b a  b", &["a", "b"]);
        check("cache-tag", "b,a, c", &["a", "b", "c"]);
        check("cache-groups", r#""a b";x, "c""#, &["a b", "c"]);
        check("cache-groups", "a, \"b", &[]);
        check("surrogate-key", "", &[]);
    }
}
