//! Who answered: Cache-Status of whichever CDN, or the fields that were there before it.

use http::HeaderMap;
use serde::Serialize;

/// Who an answer came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub(super) enum Served {
    /// A cache: 0 is the one that the client talked to, 1 the one behind it.
    Cache { tier: usize, name: String },
    /// The origin was asked; `reason` is the nearest cache's, if it said one.
    Origin { reason: String },
    /// Nothing in the answer tells.
    Unknown,
}

/// What is kept, of each fetch, of what somebody else wrote.
const KEPT_CHARS_MAX: usize = 200;

/// As much of a text as is kept.
pub(super) fn short(text: &str) -> String {
    text.chars().take(KEPT_CHARS_MAX).collect()
}

/// Reads it from the fields of an answer.
pub(super) fn served(headers: &HeaderMap) -> Served {
    match read(headers) {
        Served::Cache { tier, name } => Served::Cache { tier, name: short(&name) },
        Served::Origin { reason } => Served::Origin { reason: short(&reason) },
        Served::Unknown => Served::Unknown,
    }
}

fn read(headers: &HeaderMap) -> Served {
    let text = |name: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.collect::<Vec<_>>().join(", ")
    };
    let status = text("cache-status");
    if !status.is_empty() {
        return by_cache_status(&status);
    }
    FIELDS
        .iter()
        .find_map(|name| by_word(name, &text(name), || text("x-cache-remote")))
        .or_else(|| by_varnish(&text("x-varnish")))
        .or_else(|| by_age(&text("age")))
        .unwrap_or(Served::Unknown)
}

/// Where CDNs and caches said it before RFC 9211; what one vendor alone has comes before what everybody copies.
const FIELDS: [&str; 7] = [
    "cf-cache-status",
    "x-vercel-cache",
    "cdn-cache",
    "x-litespeed-cache",
    "x-proxy-cache",
    "x-cache-status",
    "x-cache",
];

/// What one cache says of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Answered from what it had.
    Had,
    /// Another cache of the same CDN, behind the one that was asked, had it.
    HadBehind,
    /// Somebody behind it was asked.
    Asked,
}

/// By the first word: "HIT", "TCP_MEM_HIT from a-host", "Hit from cloudfront". Names of hosts may have "hit" in them.
fn verdict(said: &str) -> Option<Verdict> {
    let word = said.split_whitespace().next()?;
    match word {
        "-" | "none" | "unknown" => None,
        "originshieldhit" | "tcp_remote_hit" => Some(Verdict::HadBehind),
        // Served though it was old, since somebody else asks, or the origin does not answer.
        "stale" | "updating" | "prerender" => Some(Verdict::Had),
        // The origin said that it has not changed: a request, though without its body.
        word if word.contains("hit") && !word.contains("refresh") => Some(Verdict::Had),
        _ => Some(Verdict::Asked),
    }
}

/// A list has the nearest cache last: "miss, hit". None where nothing is said.
fn by_word(name: &str, said: &str, remote: impl Fn() -> String) -> Option<Served> {
    let said = said.to_ascii_lowercase();
    let verdicts: Vec<Verdict> = said.rsplit(',').filter_map(verdict).collect();
    let had = verdicts.iter().position(|verdict| *verdict != Verdict::Asked);
    if let Some(tier) = had {
        let is_behind = verdicts.get(tier) == Some(&Verdict::HadBehind);
        return Some(Served::Cache { tier: tier + usize::from(is_behind), name: name.to_owned() });
    }
    if verdicts.is_empty() {
        return None;
    }
    // Akamai's parents have a field of their own.
    let is_remote = name == "x-cache" && verdict(&remote().to_ascii_lowercase()) == Some(Verdict::Had);
    Some(if is_remote {
        Served::Cache { tier: verdicts.len(), name: "x-cache-remote".to_owned() }
    } else {
        Served::Origin { reason: said.trim().to_owned() }
    })
}

/// Varnish numbers each request, and behind it the one that fetched what it answers with.
fn by_varnish(said: &str) -> Option<Served> {
    let nearest = said.rsplit(',').next().unwrap_or_default();
    let numbers = nearest.split_whitespace().filter(|number| number.bytes().all(|byte| byte.is_ascii_digit())).count();
    match numbers {
        0 => None,
        1 => Some(Served::Origin { reason: "x-varnish: no other request's".to_owned() }),
        _ => Some(Served::Cache { tier: 0, name: "x-varnish".to_owned() }),
    }
}

/// RFC 9111 §5.1: Age is of what a cache had. Of which of them nothing tells: it counts as the nearest.
fn by_age(said: &str) -> Option<Served> {
    let seconds: u64 = said.trim().parse().ok()?;
    (seconds > 0).then(|| Served::Cache { tier: 0, name: "age".to_owned() })
}

/// RFC 9211 §2: members are in the order of the way back, so the last is the nearest to the client.
fn by_cache_status(text: &str) -> Served {
    let members: Vec<Member> = outside_quotes(text, ',').into_iter().rev().map(Member::parse).collect();
    let answered = members.iter().position(|member| member.is_hit || member.is_collapsed);
    match (answered, members.first()) {
        (Some(tier), _) => {
            Served::Cache { tier, name: members.get(tier).map(|it| it.name.clone()).unwrap_or_default() }
        }
        (None, Some(nearest)) => Served::Origin { reason: nearest.reason.clone() },
        (None, None) => Served::Unknown,
    }
}

struct Member {
    name: String,
    is_hit: bool,
    /// RFC 9211 §2.6: another's fetch answered this request too.
    is_collapsed: bool,
    reason: String,
}

impl Member {
    fn parse(text: &str) -> Self {
        let mut parts = outside_quotes(text, ';').into_iter();
        let name = unquoted(parts.next().unwrap_or_default());
        let parameters: Vec<(&str, String)> = parts
            .map(|part| part.split_once('=').map_or((part, "?1".to_owned()), |(key, value)| (key, unquoted(value))))
            .collect();
        let is_set = |key: &str| parameters.iter().any(|(name, value)| *name == key && value != "?0");
        let value = |key: &str| parameters.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str());
        let reason = [value("fwd"), value("detail")].into_iter().flatten().collect::<Vec<_>>().join(", ");
        Self { name, is_hit: is_set("hit"), is_collapsed: is_set("collapsed"), reason }
    }
}

fn unquoted(text: &str) -> String {
    let text = text.trim();
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(inner) => inner.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => text.to_owned(),
    }
}

/// The parts between separators that stand in no string.
fn outside_quotes(text: &str, separator: char) -> Vec<&str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = text.split(|letter: char| {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => return letter == separator && !is_quoted,
        }
        false
    });
    parts.map(str::trim).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn of(fields: &[(&'static str, &str)]) -> String {
        let fields =
            fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        match served(&fields.collect()) {
            Served::Cache { tier, name } => format!("{tier} {name}"),
            Served::Origin { reason } => format!("origin {reason}"),
            Served::Unknown => "unknown".to_owned(),
        }
    }

    #[test]
    fn the_nearest_cache_that_had_it_answered() {
        let check = |status: &str, expected: &str| assert_eq!(of(&[("cache-status", status)]), expected, "{status}");
        check("fra; hit; ttl=42", "0 fra");
        check("shield-eu; hit; ttl=42, fra; fwd=uri-miss; fwd-status=200; stored", "1 shield-eu");
        check("shield-eu; fwd=uri-miss, fra; fwd=uri-miss; stored", "origin uri-miss");
        check("shield-eu; hit, fra; hit", "0 fra");
        check("fra; fwd=uri-miss; collapsed", "0 fra");
        check("fra; hit=?0; fwd=stale; detail=\"no-cache; hit\"", "origin stale, no-cache; hit");
        check("\"a, b; hit\"; fwd=miss", "origin miss");
        check("fra", "origin ");
        check(" , ", "unknown");
    }

    #[test]
    fn older_fields_are_understood() {
        assert_eq!(of(&[("x-cache", "MISS, HIT")]), "0 x-cache");
        assert_eq!(of(&[("x-cache", "HIT, MISS")]), "1 x-cache");
        assert_eq!(of(&[("x-cache", "Miss from cloudfront")]), "origin miss from cloudfront");
        assert_eq!(of(&[("cf-cache-status", "HIT"), ("x-cache", "MISS")]), "0 cf-cache-status");
        assert_eq!(of(&[]), "unknown");
    }

    #[test]
    fn what_the_large_ones_say() {
        let check = |fields: &[(&'static str, &str)], expected: &str| assert_eq!(of(fields), expected, "{fields:?}");
        // Fastly: shield, edge.
        check(&[("x-served-by", "cache-iad-1, cache-fra-2"), ("x-cache", "HIT, MISS")], "1 x-cache");
        check(&[("x-served-by", "cache-iad-1, cache-fra-2"), ("x-cache", "MISS, HIT")], "0 x-cache");
        check(&[("x-cache", "MISS, MISS")], "origin miss, miss");
        // CloudFront
        check(&[("x-cache", "Hit from cloudfront"), ("age", "7")], "0 x-cache");
        check(&[("x-cache", "RefreshHit from cloudfront")], "origin refreshhit from cloudfront");
        check(&[("x-cache", "OriginShieldHit from cloudfront")], "1 x-cache");
        check(&[("x-cache", "Error from cloudfront")], "origin error from cloudfront");
        // Cloudflare
        for (said, expected) in [
            ("HIT", "0 cf-cache-status"),
            ("STALE", "0 cf-cache-status"),
            ("UPDATING", "0 cf-cache-status"),
            ("REVALIDATED", "origin revalidated"),
            ("EXPIRED", "origin expired"),
            ("DYNAMIC", "origin dynamic"),
            ("BYPASS", "origin bypass"),
            ("NONE", "unknown"),
        ] {
            check(&[("cf-cache-status", said)], expected);
        }
        // Akamai
        check(&[("x-cache", "TCP_MEM_HIT from a23-1.deploy.akamaitechnologies.com (AkamaiGHost/9)")], "0 x-cache");
        check(&[("x-cache", "TCP_MISS from whitehit.example (x/1)")], "origin tcp_miss from whitehit.example (x/1)");
        check(
            &[("x-cache", "TCP_MISS from a.example"), ("x-cache-remote", "TCP_HIT from b.example")],
            "1 x-cache-remote",
        );
        check(&[("x-cache", "TCP_REFRESH_HIT from a.example")], "origin tcp_refresh_hit from a.example");
        // Azure Front Door, Bunny, Vercel
        check(&[("x-cache", "TCP_REMOTE_HIT")], "1 x-cache");
        check(&[("cdn-cache", "HIT"), ("x-cache", "MISS")], "0 cdn-cache");
        check(&[("x-vercel-cache", "PRERENDER")], "0 x-vercel-cache");
        // nginx, as its users name it
        check(&[("x-cache-status", "EXPIRED")], "origin expired");
        check(&[("x-proxy-cache", "HIT")], "0 x-proxy-cache");
        check(&[("x-cache-status", "-"), ("x-cache", "HIT from squid")], "0 x-cache");
    }

    #[test]
    fn varnish_and_whoever_says_an_age() {
        assert_eq!(
            of(&[("x-varnish", "32770"), ("age", "0"), ("via", "1.1 varnish")]),
            "origin x-varnish: no other request's"
        );
        assert_eq!(of(&[("x-varnish", "32772 32771"), ("age", "0")]), "0 x-varnish");
        assert_eq!(of(&[("age", "12"), ("via", "1.1 google")]), "0 age");
        for (age, expected) in [("0", "unknown"), ("-1", "unknown"), ("x", "unknown"), ("", "unknown"), ("1", "0 age")]
        {
            assert_eq!(of(&[("age", age)]), expected, "{age:?}");
        }
    }

    #[test]
    fn what_is_kept_is_short() {
        let (long, kept) = ("x".repeat(9_000), "x".repeat(KEPT_CHARS_MAX));
        assert_eq!(of(&[("x-cache", &long)]), format!("origin {kept}"));
        assert_eq!(of(&[("cache-status", &format!("{long}; hit"))]), format!("0 {kept}"));
        assert_eq!(of(&[("cache-status", &format!("fra; fwd={kept}"))]), format!("origin {kept}"));
        assert_eq!(of(&[("cache-status", &format!("fra; fwd={kept}y"))]), format!("origin {kept}"));
    }

    proptest! {
        #[test]
        fn no_field_is_too_odd(status in "[ -~]{0,60}") {
            of(&[("cache-status", &status)]);
            of(&[("x-cache", &status), ("x-cache-remote", &status)]);
            of(&[("x-varnish", &status), ("age", &status)]);
        }
    }
}
