//! The grammars of names: host names, DNS names, URLs, header fields. Text in, normal form out.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::HeaderName;

use crate::{
    headers,
    model::{Scheme, Url},
};

/// The longest name in presentation form without the trailing dot (RFC 1035 §2.3.4: 255 octets on the wire).
pub(crate) const NAME_BYTES_MAX: usize = 253;
/// RFC 1035 §2.3.4.
const LABEL_BYTES_MAX: usize = 63;

fn is_ldh(label: &str) -> bool {
    label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') && !label.starts_with('-') && !label.ends_with('-')
}

fn labels_fit(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX && name.split('.').all(|label| (1..=LABEL_BYTES_MAX).contains(&label.len()))
}

/// A host name of letters, digits and hyphens (RFC 1123 §2.1), in lower case, without a trailing dot.
pub(crate) fn host_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    (labels_fit(name) && name.split('.').all(is_ldh)).then(|| name.to_ascii_lowercase())
}

/// A host name that no reader can take for an IPv4 address: its last label is not a number (RFC 3696 §2).
pub(crate) fn domain_name(text: &str) -> Option<String> {
    let name = host_name(text)?;
    let last = name.rsplit('.').next()?;
    (!last.bytes().all(|b| b.is_ascii_digit())).then_some(name)
}

/// A name that may own records: as a host name, and labels may have underscores, and the first may be `*`.
pub(crate) fn owner_name(text: &str) -> Option<String> {
    let rest = text.strip_prefix("*.").unwrap_or(text);
    let well_formed = rest == "*" || rest.split('.').all(|label| is_ldh(&label.replace('_', "a")));
    (labels_fit(text) && well_formed).then(|| text.to_ascii_lowercase())
}

/// Whether `name` is `zone` or below it. Both in lower case.
pub(crate) fn is_in_zone(name: &str, zone: &str) -> bool {
    name == zone || name.strip_suffix(zone).is_some_and(|above| above.ends_with('.'))
}

/// `http://HOST[:PORT]` or `https://HOST[:PORT]`, nothing else.
pub(crate) fn url(text: &str) -> Option<Url> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (address, after) = rest.split_once(']')?;
            (address.parse::<Ipv6Addr>().ok()?.to_string(), after.strip_prefix(':').or(after.is_empty().then_some(""))?)
        }
        None => {
            let (host, port) = rest.split_once(':').unwrap_or((rest, ""));
            let host = match host.parse::<Ipv4Addr>() {
                Ok(address) => address.to_string(),
                Err(_) => domain_name(host)?,
            };
            (host, port)
        }
    };
    let ends_with_colon = rest.ends_with(':');
    let port = match port {
        "" if !ends_with_colon => scheme.default_port(),
        digits => port_number(digits)?,
    };
    Some(Url { scheme, host, port })
}

fn port_number(digits: &str) -> Option<u16> {
    let all_digits = digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|port| all_digits && *port != 0)
}

/// A host, or a host and a port, as in `Host`: in lower case.
pub(crate) fn authority(text: &str) -> Option<String> {
    url(&format!("http://{text}"))?;
    Some(text.to_ascii_lowercase())
}

/// A token of RFC 9110 §5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// A field that the document may name: no field that frames the message, none that is only for one hop
/// (RFC 9110 §7.6.1), none of ours.
pub(crate) fn header_name(text: &str) -> Option<HeaderName> {
    const NOT_OURS_TO_SET: [&str; 9] = [
        "connection",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let name = HeaderName::from_bytes(text.as_bytes()).ok()?;
    (!headers::is_internal(&name) && !NOT_OURS_TO_SET.contains(&name.as_str())).then_some(name)
}

/// ISO 3166 alpha-2, by shape.
pub(crate) fn country(text: &str) -> Option<String> {
    (text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase())).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(host_name(text).as_deref(), expected, "{text}");
        check("www.Example.COM", Some("www.example.com"));
        check("example.com.", Some("example.com"));
        check("a", Some("a"));
        check("10.0.0.1", Some("10.0.0.1"));
        for bad in ["", ".", "a..b", "-a.b", "a-.b", "a_b", "a b", "ä.de", "*.a", "a/b", "a:80"] {
            check(bad, None);
        }
        let label = "a".repeat(63);
        check(&label, Some(&label));
        check(&"a".repeat(64), None);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        check(&longest, Some(&longest));
        check(&format!("{longest}a"), None);
    }

    #[test]
    fn domain_names() {
        assert!(domain_name("cdn.example").is_some());
        assert!(domain_name("10.0.0.1").is_none());
        assert!(domain_name("1").is_none());
    }

    #[test]
    fn owner_names() {
        for good in ["www", "_acme-challenge.www", "*", "*.img", "a.b.c", "_dmarc"] {
            assert!(owner_name(good).is_some(), "{good}");
        }
        for bad in ["", "a.*", "**", "a..b", "-a", "a b", "*a"] {
            assert!(owner_name(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn zones() {
        assert!(is_in_zone("cdn.example", "cdn.example"));
        assert!(is_in_zone("ns1.cdn.example", "cdn.example"));
        assert!(!is_in_zone("xcdn.example", "cdn.example"));
        assert!(!is_in_zone("example", "cdn.example"));
    }

    #[test]
    fn urls() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(url(text).map(|url| url.to_string()).as_deref(), expected, "{text}");
        };
        check("http://198.18.0.80:8080", Some("http://198.18.0.80:8080"));
        check("HTTP://Origin.Example", Some("http://origin.example"));
        check("http://a:80", Some("http://a"));
        check("https://a:443", Some("https://a"));
        check("https://a:65535", Some("https://a:65535"));
        check("http://[2001:db8::0:1]", Some("http://[2001:db8::1]"));
        check("http://[::1]:81", Some("http://[::1]:81"));
        for bad in [
            "",
            "a",
            "http:/a",
            "ftp://a",
            "http://",
            "http://a/",
            "http://a/b",
            "http://a?b",
            "http://a#b",
            "http://u@a",
            "http://a:",
            "http://a:0",
            "http://a:65536",
            "http://a:+1",
            "http://[::1",
            "http://[::1]x",
            "http://[::1]:",
            "http://::1",
            "http://a b",
            "http://1.2.3",
            "http://a:1:2",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn header_names() {
        assert_eq!(header_name("X-Frame-Options").map(|name| name.to_string()).as_deref(), Some("x-frame-options"));
        for bad in ["", "a b", "Connection", "content-length", "Perigee-Proof", "ä", "a:"] {
            assert!(header_name(bad).is_none(), "{bad}");
        }
    }
}
