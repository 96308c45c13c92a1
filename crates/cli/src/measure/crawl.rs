//! The links of a page, as far as a measurement needs them: what `href`, `src` and `srcset` name on the same site.

use std::collections::BTreeSet;

use reqwest::Url;

use super::target::path_of;

/// Attributes whose value is one address.
const SINGLE: [&str; 4] = ["href", "src", "data-src", "poster"];
/// Attributes whose value is a list: "a.png 1x, b.png 2x".
const LISTS: [&str; 3] = ["srcset", "data-srcset", "imagesrcset"];
/// One page's links that are looked at.
const LINKS_MAX: usize = 2000;
/// Longer paths are nobody's but a trap's.
const PATH_BYTES_MAX: usize = 2048;

/// What counts as the same site.
#[derive(Clone, Debug, Default)]
pub(super) struct Own {
    /// Hosts whose pages name each other by whichever scheme, at its usual port: the origin's and the CDN's.
    pub(super) hosts: Vec<String>,
}

impl Own {
    /// Whether what `base` names is fetched as a path of its own.
    pub(super) fn has(&self, base: &Url, url: &Url) -> bool {
        let is_http = matches!(url.scheme(), "http" | "https");
        let is_host = |host: &str| self.hosts.iter().any(|own| own.eq_ignore_ascii_case(host));
        url.origin() == base.origin() || (is_http && url.port().is_none() && url.host_str().is_some_and(is_host))
    }
}

/// Paths, with queries, of what the page at `base` names on its own site, in no other order than the page's.
pub(super) fn links(base: &Url, own: &Own, html: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    // HTML 4.2.3: the first one counts, for the whole page.
    let named = attributes(html).find(|one| one.tag.eq_ignore_ascii_case("base") && one.is("href"));
    let from = named.and_then(|one| base.join(&plain(one.value)).ok()).unwrap_or_else(|| base.clone());
    let wanted = attributes(html).filter(|one| !one.tag.eq_ignore_ascii_case("base"));
    for link in wanted.flat_map(Attribute::addresses).take(LINKS_MAX) {
        let Ok(url) = from.join(&link) else { continue };
        let path = path_of(&url);
        if own.has(base, &url) && path.len() <= PATH_BYTES_MAX && seen.insert(path.clone()) {
            all.push(path);
        }
    }
    all
}

#[derive(Clone, Copy, Debug)]
struct Attribute<'a> {
    tag: &'a str,
    name: &'a str,
    value: &'a str,
}

impl Attribute<'_> {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// What it names, if it names anything.
    fn addresses(self) -> Vec<String> {
        if SINGLE.iter().any(|name| self.is(name)) {
            vec![plain(self.value)]
        } else if LISTS.iter().any(|name| self.is(name)) {
            listed(&plain(self.value))
        } else {
            Vec::new()
        }
    }
}

/// Those of all tags. No parser of HTML: what stands in scripts and comments is taken too, and fetching it once too often costs
/// less than a tree.
fn attributes(html: &str) -> impl Iterator<Item = Attribute<'_>> {
    let mut rest = html;
    let mut tag = None;
    std::iter::from_fn(move || {
        loop {
            let Some(name) = tag else {
                rest = rest.split_once('<')?.1;
                let name = until(rest, |letter| letter.is_whitespace() || matches!(letter, '>' | '/' | '<'));
                rest = rest.get(name.len()..)?;
                // Not "</a>", not "a < b".
                tag = name.starts_with(|letter: char| letter.is_ascii_alphabetic()).then_some(name);
                continue;
            };
            rest = rest.trim_start_matches(|letter: char| letter.is_whitespace() || letter == '/');
            if rest.is_empty() || rest.starts_with(['>', '<']) {
                tag = None;
                continue;
            }
            let attribute = until(rest, |letter| letter.is_whitespace() || matches!(letter, '=' | '>' | '/'));
            // A stray = begins a name (HTML 13.2.5.32), and something is always taken away.
            let attribute = if attribute.is_empty() { rest.get(..1)? } else { attribute };
            rest = rest.get(attribute.len()..)?;
            let Some(after) = rest.trim_start().strip_prefix('=') else { continue };
            let after = after.trim_start();
            let quote = after.chars().next().filter(|quote| matches!(quote, '"' | '\''));
            let (value, end) = match quote {
                Some(quote) => {
                    let value = until(after.get(1..)?, |letter| letter == quote);
                    (value, value.len() + 2)
                }
                None => {
                    let value = until(after, |letter| letter.is_whitespace() || letter == '>');
                    (value, value.len() + 1)
                }
            };
            // A tag that never ends is none (HTML 13.2.5: eof-in-tag).
            if end > after.len() {
                return None;
            }
            let end = if quote.is_some() { end } else { value.len() };
            rest = after.get(end..).unwrap_or_default();
            return Some(Attribute { tag: name, name: attribute, value });
        }
    })
}

fn until(text: &str, is_end: impl Fn(char) -> bool) -> &str {
    text.get(..text.find(is_end).unwrap_or(text.len())).unwrap_or_default()
}

/// Character references as addresses have them.
fn plain(text: &str) -> String {
    let pairs = [
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&apos;", "'"),
        ("&#39;", "'"),
        ("&#38;", "&"),
        ("&#x26;", "&"),
        ("&amp;", "&"),
    ];
    pairs.iter().fold(text.to_owned(), |text, (coded, letter)| text.replace(coded, letter))
}

/// The addresses of a `srcset` (HTML 4.8.4.2.1), which may have commas in them, as those of `data:` do.
fn listed(list: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut rest = list;
    loop {
        rest = rest.trim_start_matches(|letter: char| letter.is_whitespace() || letter == ',');
        let one = until(rest, char::is_whitespace);
        if one.is_empty() {
            return all;
        }
        rest = rest.get(one.len()..).unwrap_or_default();
        let address = one.trim_end_matches(',');
        if address.len() == one.len() {
            // What says how wide it is.
            rest = rest.split_once(',').map_or("", |(_, rest)| rest);
        }
        all.push(address.to_owned());
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
            let own = Own { hosts: vec!["www.cdn.example".to_owned()] };
            assert_eq!(links(&base, &own, html), expected, "{html}");
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
        check("<A HREF='/up'><IMG SRC=/i.png/>", &["/up", "/i.png/"]);
        check("<a title=\"a > b < c\" href=\"/c\">", &["/c"]);
        check("<img alt=\"src=/no href='/no'\" src=/yes>", &["/yes"]);
        check("<a/href=/x><a ==href=/y = href=/z>", &["/x", "/z"]);
        check("<a href=\"#top\"><a href=\"\"><a href=\"?page=2\">", &["/a/b.html", "/a/b.html?page=2"]);
        check("<base href=\"/deep/er/\"><a href=\"c.html\"><base href=\"/no/\">", &["/deep/er/c.html"]);
        check("<base href=\"//other.example/\"><a href=\"c.html\"><a href=\"http://o.example:8000/d\">", &["/d"]);
        check("<img srcset=\"a,b.png 1x,c.png, data:image/png;base64,AA== 2x\">", &["/a/a,b.png", "/a/c.png"]);
        check("<a href=\"https://www.cdn.example/e\"><a href=\"//WWW.cdn.example/f\">", &["/e", "/f"]);
        check("<a href=\"https://www.cdn.example:8443/no\"><a href=\"ftp://www.cdn.example/no\">", &[]);
        check("<a href=\"data:text/html,<a href=/in>\">", &[]);
        check("</a href=/no><a href=\"/ö\">", &["/%C3%B6"]);
        check(
            &format!("<a href=/{}><a href=/{}>", "x".repeat(2047), "x".repeat(2048)),
            &[&format!("/{}", "x".repeat(2047))],
        );
        let many: String = (0..10_000).map(|number| format!("<a href=/{number}>")).collect();
        assert_eq!(links(&"http://o.example/".parse().unwrap(), &Own::default(), &many).len(), LINKS_MAX);
    }

    proptest! {
        #[test]
        fn no_page_is_too_odd(html in "([<>a-z=\"' /äö,-]|href=|<a |srcset=){0,60}") {
            links(&"http://o.example/".parse().unwrap(), &Own::default(), &html);
            listed(&html);
        }
    }
}
