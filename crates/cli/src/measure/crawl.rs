//! The links of a page, as far as a measurement needs them: what `href`, `src` and `srcset` name on the same host.

use std::collections::BTreeSet;

use reqwest::Url;

use super::target::path_of;

/// Attributes whose value is one address.
const SINGLE: [&str; 3] = ["href", "src", "data-src"];
/// One page's links that are looked at.
const LINKS_MAX: usize = 2000;

/// Paths, with queries, of what the page at `path` names on its own host, in no other order than the page's.
pub(super) fn links(base: &Url, html: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let own = attributes(html)
        .take(LINKS_MAX)
        .filter_map(|link| base.join(&link.replace("&amp;", "&")).ok())
        .filter(|url| url.origin() == base.origin())
        .map(|url| path_of(&url));
    own.filter(|path| seen.insert(path.clone())).collect()
}

/// Values of the attributes that name something. No parser of HTML: what stands in scripts and comments is taken too, and
/// fetching it once too often costs less than a tree.
fn attributes(html: &str) -> impl Iterator<Item = &str> {
    html.split('<').flat_map(|tag| {
        let tag = tag.split_once('>').map_or(tag, |(tag, _)| tag);
        let single = SINGLE.iter().filter_map(|name| value(tag, name));
        // "a.png 1x, b.png 2x"
        let several = value(tag, "srcset").into_iter().flat_map(|list| list.split(','));
        single.chain(several.filter_map(|item| item.split_whitespace().next())).collect::<Vec<_>>()
    })
}

/// The value of one attribute of a tag.
fn value<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let mut from = 0;
    loop {
        let rest = tag.get(from..)?;
        let at = rest.find(name)?;
        from += at + name.len();
        let is_whole =
            rest.get(..at)?.ends_with(|letter: char| letter.is_whitespace() || letter == '"' || letter == '\'');
        let after = rest.get(at + name.len()..)?.trim_start();
        let Some(after) = after.strip_prefix('=').filter(|_| is_whole) else { continue };
        let after = after.trim_start();
        return match after.chars().next()? {
            quote @ ('"' | '\'') => after.get(1..)?.split(quote).next().map(str::trim),
            _ => after.split_whitespace().next(),
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn links_of_the_same_host_are_found() {
        let check = |html: &str, expected: &[&str]| {
            let base = "http://o.example:8000/a/b.html".parse().unwrap();
            assert_eq!(links(&base, html), expected, "{html}");
        };
        check("<a href=\"c.html\">", &["/a/c.html"]);
        check("<a class='x' href = '/c?x=1&amp;y=2#z'>", &["/c?x=1&y=2"]);
        check("<img src=/i.png alt=x><script src=\"/i.png\">", &["/i.png"]);
        check("<img srcset=\"a.png 1x, /b.png 2x\">", &["/a/a.png", "/b.png"]);
        check("<a href=\"http://o.example:8000/d\"><a href=\"//other.example/e\">", &["/d"]);
        check("<a href=\"mailto:x@y.example\"><a href=\"https://o.example:8000/\"><a href=\"javascript:0\">", &[]);
        check("<a data-href=\"/no\" xhref=\"/no\">", &[]);
        check("<a href>", &[]);
        check("<a href=", &[]);
        check("<img data-src=\"/lazy.png\">", &["/lazy.png"]);
    }

    proptest! {
        #[test]
        fn no_page_is_too_odd(html in "[<>a-z=\"' /äö-]{0,200}") {
            links(&"http://o.example/".parse().unwrap(), &html);
        }
    }
}
