//! Where a rule's redirect leads.

use http::HeaderValue;
use perigee_protocol::model::{Redirect, RedirectPiece};

/// The Location (RFC 9110 §10.2.2) of a redirect; `None` where a request's host can be in no field.
///
/// A target that begins with the request's path never begins with two slashes: `//evil.example` is a host to a browser.
pub fn location(redirect: &Redirect, host: &str, path: &str, query: Option<&str>) -> Option<HeaderValue> {
    let mut target = String::new();
    for piece in &redirect.to {
        match piece {
            RedirectPiece::Text(text) => target.push_str(text),
            RedirectPiece::Host => target.push_str(host),
            RedirectPiece::Path => target.push_str(path),
            RedirectPiece::Query => {
                if let Some(query) = query {
                    target.push('?');
                    target.push_str(query);
                }
            }
        }
    }
    // RFC 3986 §4.2: `//` begins an authority; browsers take `\` for `/`.
    let rest = target.trim_start_matches(['/', '\\']);
    if target.len() - rest.len() > 1 {
        target = format!("/{rest}");
    }
    HeaderValue::from_str(&target).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use RedirectPiece::{Host, Path, Query, Text};

    #[test]
    fn locations() {
        let check = |to: &[RedirectPiece], path: &str, query: Option<&str>, expected: &str| {
            let redirect = Redirect { status: 308, to: to.to_vec() };
            let found = location(&redirect, "a.example:8080", path, query).unwrap();
            assert_eq!(found, expected, "{to:?} {path} {query:?}");
        };
        let text = |text: &str| Text(text.into());
        check(&[text("https://new.example"), Path, Query], "/a/b", Some("c=d"), "https://new.example/a/b?c=d");
        check(&[text("https://new.example"), Path, Query], "/a", None, "https://new.example/a");
        check(&[text("https://new.example"), Path], "//evil", None, "https://new.example//evil");
        check(&[text("https://"), Host, Path], "/a", Some("c"), "https://a.example:8080/a");
        check(&[Path, text("index.html")], "/a/", None, "/a/index.html");
        check(&[Path], "//evil.example/", None, "/evil.example/");
        check(&[Path], "/\\evil.example/", None, "/evil.example/");
        check(&[text("/"), Path], "/evil.example/", None, "/evil.example/");
        check(&[text("/old"), Query], "/x", Some(""), "/old?");
    }
}
