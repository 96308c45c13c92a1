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

/// Reads it from the fields of an answer.
pub(super) fn served(headers: &HeaderMap) -> Served {
    let text = |name: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.collect::<Vec<_>>().join(", ")
    };
    let status = text("cache-status");
    if !status.is_empty() {
        return by_cache_status(&status);
    }
    // What the large ones say: "HIT", "TCP_MEM_HIT from …", "Hit from cloudfront", "miss, hit".
    for name in ["cf-cache-status", "x-cache-status", "x-cache"] {
        let said = text(name).to_ascii_lowercase();
        let nearest = said.rsplit(',').map(str::trim);
        let mut tiers = nearest.enumerate();
        if let Some((tier, _)) = tiers.find(|(_, said)| said.contains("hit")) {
            return Served::Cache { tier, name: name.to_owned() };
        }
        if !said.is_empty() {
            return Served::Origin { reason: said };
        }
    }
    Served::Unknown
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

    proptest! {
        #[test]
        fn no_field_is_too_odd(status in "[ -~]{0,60}") {
            of(&[("cache-status", &status)]);
        }
    }
}
