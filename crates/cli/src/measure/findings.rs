//! What is wrong with a site or its CDN, and what would help. Pure: fields and figures in, sentences out.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderMap, HeaderName, header};
use perigee_semantics::directives::ResponseControl;
use serde::Serialize;

use super::{
    assets::Asset,
    figures::{Connection, Sample, Way, row},
    served::{Served, short},
};

/// A mistake, and everything that has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) kind: Kind,
    /// Paths, or places.
    pub(super) of: Vec<String>,
    /// What was seen, of the first of them.
    pub(super) seen: String,
    pub(super) remedy: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Differs,
    Failing,
    Redirect,
    NoFreshness,
    NotStored,
    SetCookie,
    Vary,
    QueryNoise,
    NoCompression,
    NoHit,
    FarEdge,
    NoGain,
}

impl Kind {
    /// For people.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Differs => "another content through the CDN than from the origin",
            Self::Failing => "the origin answers with an error",
            Self::Redirect => "a redirect, and not what it leads to",
            Self::NoFreshness => "the origin does not say how long it is fresh",
            Self::NotStored => "the origin forbids storing",
            Self::SetCookie => "a cookie is set",
            Self::Vary => "a copy for nearly every client",
            Self::QueryNoise => "query parameters that change nothing",
            Self::NoCompression => "text that is not compressed",
            Self::NoHit => "never answered by a cache",
            Self::FarEdge => "the edge is far away",
            Self::NoGain => "slower than the origin",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Differs => {
                "compare both by hand; purge what is old, and see whether Host or a rule changes the answer"
            }
            Self::Failing => "mend the page that names it, or leave it out with --paths",
            Self::Redirect => "measure where it leads, with --direct there, and have pages name that",
            Self::NoFreshness => "send Cache-Control: max-age=…, or set default_ttl in [site.cache] or a rule",
            Self::NotStored => {
                "if it is the same for everybody, send Cache-Control: s-maxage=…, or a rule with cache and a lifetime"
            }
            Self::SetCookie => "do not set cookies with what everybody gets, or remove the field by a rule",
            Self::Vary => "answer by something that has few values (Accept-Encoding), or take the field out of Vary",
            Self::QueryNoise => "drop them from the key: query = { drop = [\"utm_*\", …] } in [site.cache]",
            Self::NoCompression => "let the origin compress text when Accept-Encoding has gzip",
            Self::NoHit => "ask why: perigee explain http URL --node EDGE, and read Cache-Status of two fetches",
            Self::FarEdge => {
                "add a PoP near these clients, or see where they are sent: perigee explain dns NAME --client ADDRESS"
            }
            Self::NoGain => "see the phases above: a far edge, a cold cache, or an origin that is next door",
        }
    }
}

/// What a run was about.
pub(super) struct Evidence<'a> {
    pub(super) assets: &'a [Asset],
    /// Names, and whether the fetches left from there: what the way from another place takes tells nothing of these.
    pub(super) places: &'a [(String, bool)],
    pub(super) samples: &'a [Sample],
    /// Edges that take longer to connect to are far.
    pub(super) far_ms: f64,
}

/// Everything that is wrong, the worst first.
pub(super) fn findings(evidence: &Evidence<'_>) -> Vec<Finding> {
    let mut found: BTreeMap<Kind, Finding> = BTreeMap::new();
    let mut add = |kind: Kind, of: &str, seen: String| {
        let one = found.entry(kind).or_insert_with(|| Finding {
            kind,
            of: Vec::new(),
            seen: short(&seen),
            remedy: kind.remedy(),
        });
        one.of.push(of.to_owned());
    };
    for (index, asset) in evidence.assets.iter().enumerate() {
        let through: Vec<&Sample> = evidence.samples.iter().filter(|sample| sample.asset == index).collect();
        let own = of_origin(asset);
        // No cache answers what may not be stored; once is enough.
        let is_kept_out = own.iter().any(|(kind, _)| *kind == Kind::NotStored);
        let of_cdn = of_cdn(asset, &through).into_iter().filter(|(kind, _)| !(is_kept_out && *kind == Kind::NoHit));
        for (kind, seen) in own.into_iter().chain(of_cdn) {
            add(kind, &asset.path, seen);
        }
    }
    for (place, (name, is_there)) in evidence.places.iter().enumerate() {
        if !is_there {
            continue;
        }
        for (kind, seen) in of_place(evidence, place) {
            add(kind, name, seen);
        }
    }
    found.into_values().collect()
}

fn text(headers: &HeaderMap, name: HeaderName) -> String {
    text_as_is(headers, name).to_ascii_lowercase()
}

fn text_as_is(headers: &HeaderMap, name: HeaderName) -> String {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.collect::<Vec<_>>().join(", ")
}

/// What the origin's own answer tells.
fn of_origin(asset: &Asset) -> Vec<(Kind, String)> {
    let mut found = Vec::new();
    match asset.status {
        400.. => found.push((Kind::Failing, asset.status.to_string())),
        300..400 => found.push((Kind::Redirect, redirect(asset))),
        _ => found.extend(of_freshness(&asset.headers)),
    }
    // The value may be somebody's session, and so may be all of what has no name.
    if let Some(cookie) = asset.headers.get(header::SET_COOKIE) {
        let name = cookie.to_str().ok().and_then(|cookie| cookie.split(';').next()?.split_once('='));
        found.push((
            Kind::SetCookie,
            format!("Set-Cookie: {}…", name.map_or(String::new(), |(name, _)| format!("{name}="))),
        ));
    }
    let vary = text(&asset.headers, header::VARY);
    if vary.split(',').map(str::trim).any(|field| matches!(field, "user-agent" | "cookie" | "*" | "referer")) {
        found.push((Kind::Vary, format!("Vary: {vary}")));
    }
    let noise: Vec<&str> = noise(&asset.path).collect();
    if !noise.is_empty() {
        found.push((Kind::QueryNoise, noise.join(", ")));
    }
    found
}

fn redirect(asset: &Asset) -> String {
    let to = asset.headers.get(header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("nowhere");
    // The query may be somebody's.
    format!("{} to {}", asset.status, to.split('?').next().unwrap_or_default())
}

/// What is wrong with how long a cache may keep it.
fn of_freshness(headers: &HeaderMap) -> Option<(Kind, String)> {
    let control = ResponseControl::read(headers);
    let said = if control.targeted { "cdn-cache-control" } else { "cache-control" };
    let said = match text(headers, HeaderName::from_static(said)) {
        none if none.is_empty() => String::new(),
        text => format!("{}: {text}", if control.targeted { "CDN-Cache-Control" } else { "Cache-Control" }),
    };
    // RFC 9111 §5.2.2.7: with names of fields, only these are private.
    if control.no_store || control.private.is_all() {
        return Some((Kind::NotStored, said));
    }
    // Asked for each time: said on purpose.
    if control.no_cache.is_all() {
        return None;
    }
    // RFC 9111 §4.2.1: the explicit ones; a heuristic is a guess of each cache.
    match control.s_maxage.or(control.max_age) {
        Some(0) => return Some((Kind::NoFreshness, said)),
        Some(_) => return None,
        None => {}
    }
    if text(headers, HeaderName::from_static("surrogate-control")).contains("max-age=") {
        return None;
    }
    let expires = headers.get(header::EXPIRES).filter(|_| !control.targeted);
    match expires.map(|expires| expires.to_str().unwrap_or_default()) {
        Some(expires) if is_ahead(expires, &text_as_is(headers, header::DATE)) => None,
        Some(expires) => Some((Kind::NoFreshness, format!("Expires: {expires}"))),
        None if said.is_empty() => Some((Kind::NoFreshness, "no Cache-Control, no Expires".to_owned())),
        None => Some((Kind::NoFreshness, said)),
    }
}

/// RFC 9111 §5.3: what is no date, "0" above all, is in the past.
fn is_ahead(expires: &str, date: &str) -> bool {
    let Ok(expires) = httpdate::parse_http_date(expires) else { return false };
    httpdate::parse_http_date(date).map_or(true, |date| expires > date)
}

/// Parameters that follow people, not content.
fn noise(path: &str) -> impl Iterator<Item = &str> {
    let names = path.split_once('?').map_or("", |(_, query)| query).split('&');
    names.filter_map(|one| one.split('=').next()).filter(|name| {
        let known =
            ["fbclid", "gclid", "dclid", "msclkid", "mc_cid", "mc_eid", "phpsessid", "jsessionid", "sid", "_ga"];
        name.starts_with("utm_") || known.iter().any(|one| name.eq_ignore_ascii_case(one))
    })
}

fn of_cdn(asset: &Asset, samples: &[&Sample]) -> Vec<(Kind, String)> {
    let mut found = Vec::new();
    let through = || samples.iter().filter(|sample| sample.way != Way::Direct);
    let Some(first) = through().next() else { return found };
    // Only where the origin agrees with itself: what changes by itself may differ.
    let own = |sample: &&&Sample| sample.way == Way::Direct && sample.encoding == first.encoding;
    let direct: BTreeSet<(u16, u128)> = samples.iter().filter(own).map(|it| (it.status, it.digest)).collect();
    let other = through().find(|it| it.encoding == first.encoding && !direct.contains(&(it.status, it.digest)));
    if let (1, Some(other), Some((status, _))) = (direct.len(), other, direct.first()) {
        let seen = format!("{} and {} bytes, from the origin {status} and {}", other.status, other.bytes, asset.bytes);
        found.push((Kind::Differs, seen));
    }
    if is_text(&asset.headers) && first.encoding.is_empty() && first.bytes >= COMPRESSIBLE_BYTES {
        let kind = text(&asset.headers, header::CONTENT_TYPE);
        found.push((Kind::NoCompression, format!("{} bytes of {kind}", first.bytes)));
    }
    let mut again = through().filter(|sample| sample.way == Way::CdnAgain).peekable();
    let is_known = |sample: &&&Sample| matches!(sample.served, Served::Origin { .. });
    if asset.status < 300 && again.peek().is_some() && again.all(|sample| is_known(&sample)) {
        let mut reason = through().filter_map(|sample| match &sample.served {
            Served::Origin { reason } => Some(reason.clone()),
            _ => None,
        });
        found.push((Kind::NoHit, reason.next_back().unwrap_or_default()));
    }
    found
}

/// Less fits into a packet anyway.
const COMPRESSIBLE_BYTES: u64 = 1400;

fn is_text(headers: &HeaderMap) -> bool {
    let kind = text(headers, header::CONTENT_TYPE);
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.starts_with("text/")
        || ["javascript", "/json", "/xml", "+json", "+xml", "/wasm"].iter().any(|end| kind.ends_with(end))
}

fn of_place(evidence: &Evidence<'_>, place: usize) -> Vec<(Kind, String)> {
    let mut found = Vec::new();
    let tcp = evidence.samples.iter().filter(|it| it.place == place && it.way != Way::Direct);
    let connect = super::figures::spread(tcp.filter_map(|sample| sample.connect_ms)).map(|connect| connect.p50);
    let again = |connection| row(evidence.samples, place, Way::CdnAgain, connection);
    let early = super::figures::early(&again(Connection::Fresh), &again(Connection::Kept)).unwrap_or_default();
    if let Some(connect) = connect.map(|connect| connect + early).filter(|connect| *connect > evidence.far_ms) {
        found.push((Kind::FarEdge, format!("{connect:.0} ms to connect")));
    }
    let total = |way| row(evidence.samples, place, way, Connection::Kept).total_ms;
    if let (Some(direct), Some(cdn)) = (total(Way::Direct), total(Way::CdnAgain)) {
        // A tenth, and half a millisecond, is nobody's loss.
        if cdn.p50 > direct.p50 * 1.1 + 0.5 {
            found.push((Kind::NoGain, format!("{:.1} ms, from the origin {:.1} ms", cdn.p50, direct.p50)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::measure::figures::tests::sample;

    fn asset(path: &str, fields: &[(&'static str, &str)]) -> Asset {
        let fields =
            fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        Asset { path: path.to_owned(), status: 200, bytes: 1000, headers: fields.collect() }
    }

    #[test]
    fn what_an_origin_says() {
        let check = |path: &str, fields: &[(&'static str, &str)], expected: &[Kind]| {
            let found: Vec<Kind> = of_origin(&asset(path, fields)).into_iter().map(|(kind, _)| kind).collect();
            assert_eq!(found, expected, "{path} {fields:?}");
        };
        let fresh = ("cache-control", "public, max-age=60");
        check("/", &[fresh], &[]);
        check("/", &[("cache-control", "s-maxage=60")], &[]);
        check("/", &[("cdn-cache-control", "max-age=60")], &[]);
        check("/", &[("expires", "Thu, 01 Jan 2026 00:00:00 GMT")], &[]);
        check("/", &[("cache-control", "no-cache")], &[]);
        check("/", &[], &[Kind::NoFreshness]);
        check("/", &[("cache-control", "public")], &[Kind::NoFreshness]);
        check("/", &[("cache-control", "private, max-age=60")], &[Kind::NotStored]);
        check("/", &[("cache-control", "No-Store")], &[Kind::NotStored]);
        // No lifetime is none, whoever says so.
        check("/", &[("cache-control", "max-age=0, must-revalidate")], &[Kind::NoFreshness]);
        check("/", &[("cache-control", "max-age=0, s-maxage=60")], &[]);
        check("/", &[("cache-control", "max-age=0, no-cache")], &[]);
        check("/", &[("expires", "0")], &[Kind::NoFreshness]);
        let date = ("date", "Thu, 01 Jan 2026 00:00:01 GMT");
        check("/", &[("expires", "Thu, 01 Jan 2026 00:00:01 GMT"), date], &[Kind::NoFreshness]);
        check("/", &[("expires", "Thu, 01 Jan 2026 00:00:02 GMT"), date], &[]);
        check("/", &[("surrogate-control", "max-age=60")], &[]);
        // RFC 9213: what is meant for CDNs counts alone. RFC 9111 §5.2.2.7: fields may be private, and the rest is not.
        check("/", &[("cache-control", "no-store"), ("cdn-cache-control", "max-age=60")], &[]);
        check("/", &[fresh, ("cdn-cache-control", "no-store")], &[Kind::NotStored]);
        check("/", &[("cache-control", "max-age=60, private=\"x-user\"")], &[]);
        check("/", &[("cache-control", "ext=\"no-store, private\", max-age=60")], &[]);
        check("/", &[fresh, ("set-cookie", "a=b")], &[Kind::SetCookie]);
        check("/", &[fresh, ("vary", "Accept-Encoding, User-Agent")], &[Kind::Vary]);
        check("/", &[fresh, ("vary", "Accept-Encoding")], &[]);
        check("/?utm_source=x&a=1&fbclid=2", &[fresh], &[Kind::QueryNoise]);
        check("/?a=utm_source", &[fresh], &[]);
        let seen = of_origin(&asset("/", &[fresh, ("set-cookie", "session=SECRET; Path=/")]));
        assert_eq!(seen[0].1, "Set-Cookie: session=…");
        let seen = of_origin(&asset("/", &[fresh, ("set-cookie", "SECRET; Path=/")]));
        assert_eq!(seen[0].1, "Set-Cookie: …");
        let failing = Asset { status: 404, ..asset("/", &[]) };
        assert_eq!(of_origin(&failing), [(Kind::Failing, "404".to_owned())]);
        let moved = Asset { status: 301, ..asset("/", &[("location", "https://o.example/x?token=SECRET")]) };
        assert_eq!(of_origin(&moved), [(Kind::Redirect, "301 to https://o.example/x".to_owned())]);
    }

    #[test]
    fn what_a_cdn_does() {
        let hit = || Served::Cache { tier: 0, name: "fra".into() };
        let miss = || Served::Origin { reason: "uri-miss".into() };
        let page = |kind: &str| asset("/", &[("content-type", kind)]);
        let check = |asset: &Asset, samples: &[Sample], expected: &[Kind]| {
            let samples: Vec<&Sample> = samples.iter().collect();
            let found: Vec<Kind> = of_cdn(asset, &samples).into_iter().map(|(kind, _)| kind).collect();
            assert_eq!(found, expected, "{samples:?}");
        };
        let direct = sample(Way::Direct, 9.0, Served::Unknown);
        let (first, again) = (sample(Way::CdnFirst, 9.0, miss()), sample(Way::CdnAgain, 1.0, hit()));
        let png = page("image/png");
        check(&png, &[direct.clone(), first.clone(), again.clone()], &[]);
        check(&png, &[direct.clone(), first.clone(), Sample { served: miss(), ..again.clone() }], &[Kind::NoHit]);
        check(&png, &[first.clone(), Sample { served: Served::Unknown, ..again.clone() }], &[]);
        let other = Sample { digest: 8, ..again.clone() };
        check(&png, &[direct.clone(), first.clone(), other.clone()], &[Kind::Differs]);
        // It changes by itself.
        check(&png, &[direct.clone(), Sample { digest: 9, ..direct.clone() }, first.clone(), other], &[]);
        // Compressed by the CDN: not the origin's bytes.
        let packed = |it: &Sample| Sample { encoding: "gzip".into(), digest: 8, ..it.clone() };
        check(&page("text/html"), &[direct.clone(), packed(&first), packed(&again)], &[]);
        let large = |it: &Sample, bytes| Sample { bytes, ..it.clone() };
        let html = page("text/html; charset=utf-8");
        check(&html, &[large(&first, 1400), large(&again, 1400)], &[Kind::NoCompression]);
        check(&html, &[large(&first, 1399), large(&again, 1399)], &[]);
        check(&png, &[large(&first, 1400), large(&again, 1400)], &[]);
        check(&html, &[packed(&large(&first, 1400)), packed(&large(&again, 1400))], &[]);
    }

    #[test]
    fn places_that_are_far_or_gain_nothing() {
        let kept = |way, total_ms| Sample {
            connection: Connection::Kept,
            connect_ms: None,
            ..sample(way, total_ms, Served::Unknown)
        };
        let check_at = |is_there, connect_ms, cdn_ms, expected: &[Kind]| {
            let samples = [
                Sample { connect_ms: Some(connect_ms), ..sample(Way::CdnFirst, 9.0, Served::Unknown) },
                kept(Way::Direct, 10.0),
                kept(Way::CdnAgain, cdn_ms),
            ];
            let assets = [];
            let evidence =
                Evidence { assets: &assets, places: &[("Tokyo".into(), is_there)], samples: &samples, far_ms: 50.0 };
            let kinds: Vec<Kind> = findings(&evidence).into_iter().map(|one| one.kind).collect();
            assert_eq!(kinds, expected, "{connect_ms} {cdn_ms}");
        };
        let check = |connect_ms, cdn_ms, expected: &[Kind]| check_at(true, connect_ms, cdn_ms, expected);
        check(50.0, 11.5, &[]);
        check(50.0, 11.6, &[Kind::NoGain]);
        check(50.1, 11.5, &[Kind::FarEdge]);
        // Fetched from here: the way is another's.
        check_at(false, 250.0, 99.0, &[]);
    }

    #[test]
    fn one_finding_names_all_that_have_it() {
        let long = "x".repeat(9_000);
        let odd = [asset("/", &[("cache-control", "max-age=9"), ("vary", &format!("cookie, {long}"))])];
        let found = findings(&Evidence { assets: &odd, places: &[], samples: &[], far_ms: 50.0 });
        assert_eq!((found[0].kind, found[0].seen.len()), (Kind::Vary, 200));
        let assets = [asset("/a", &[]), asset("/b", &[])];
        let found = findings(&Evidence { assets: &assets, places: &[], samples: &[], far_ms: 50.0 });
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].kind, &*found[0].of), (Kind::NoFreshness, &["/a".to_owned(), "/b".to_owned()][..]));
    }
}
