//! The cache key (RFC 9111 §2): site, scheme, authority, path and normalised query. It cannot be built without the
//! authority, so responses of two hosts never meet.

use std::{borrow::Cow, fmt, iter::repeat_n, mem, sync::Arc};

use perigee_protocol::{
    id::SiteId,
    model::{QueryPolicy, Scheme},
};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use crate::{policy::Policy, rules::KeyPart};

/// First byte of the key of a URL, and of one stored variant of it.
const PRIMARY: u8 = 0;
const VARIANT: u8 = 1;

/// Names what is stored for one URL, or one variant of it. Cheap to clone; equal bytes, equal keys.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey(Arc<[u8]>);

impl CacheKey {
    /// The key of a URL: authority in lower case without the scheme's default port, query in normal form.
    pub fn new(
        site: &SiteId,
        scheme: Scheme,
        authority: &str,
        path: &str,
        query: Option<&str>,
        policy: &Policy<'_>,
    ) -> Self {
        let query = normalise_query(query, policy);
        let authority = strip_default_port(authority, scheme);
        let (mark, query) = query.as_deref().map_or(("", ""), |query| ("?", query));
        // NUL occurs in none of the parts (http::Uri and header values refuse it), so it separates them.
        let before = [&[PRIMARY], site.as_str().as_bytes(), b"\0", scheme.as_str().as_bytes(), b"\0"];
        let after = [b"\0", path.as_bytes(), mark.as_bytes(), query.as_bytes()];
        let length = |parts: &[&[u8]]| parts.iter().map(|part| part.len()).sum::<usize>();
        // Straight into what is kept: every request makes one, and by way of a vector it would be allocated twice.
        let mut key: Arc<[u8]> = repeat_n(0, length(&before) + authority.len() + length(&after)).collect();
        let mut place = Arc::get_mut(&mut key).unwrap_or_default();
        for part in before {
            put(&mut place, part);
        }
        if let Some(authority) = put(&mut place, authority.as_bytes()) {
            authority.make_ascii_lowercase();
        }
        for part in after {
            put(&mut place, part);
        }
        Self(key)
    }

    /// The key of one stored variant of this URL.
    #[must_use]
    pub fn variant(&self, id: u64) -> Self {
        let primary = self.0.get(1..).unwrap_or_default();
        let mut key = Vec::with_capacity(primary.len() + 9);
        key.push(VARIANT);
        key.extend_from_slice(&id.to_be_bytes());
        key.extend_from_slice(primary);
        Self(key.into())
    }

    /// The key again, from [`Self::as_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The key with further parts, as `rules::prepare` gives them; without any, the key itself.
    #[must_use]
    pub fn with_parts(self, parts: &[u8]) -> Self {
        if parts.is_empty() {
            return self;
        }
        // NUL occurs in no path and no query: it ends them.
        Self([&self.0[..], &[0], parts].concat().into())
    }

    /// The parts that [`Self::with_parts`] added; empty where there are none.
    pub fn parts(&self) -> &[u8] {
        let after_id = match self.0.split_first() {
            Some((&VARIANT, rest)) => rest.get(8..),
            Some((_, rest)) => Some(rest),
            None => None,
        };
        after_id.and_then(|rest| rest.splitn(5, |byte| *byte == 0).nth(4)).unwrap_or_default()
    }

    /// The name of the site; empty where the bytes are no key that [`Self::new`] makes.
    pub fn site(&self) -> &[u8] {
        let rest = match self.0.split_first() {
            Some((&PRIMARY, rest)) => rest,
            Some((&VARIANT, rest)) => rest.get(8..).unwrap_or_default(),
            _ => &[],
        };
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or_default();
        rest.get(..end).unwrap_or_default()
    }

    /// All of it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The site, and authority, NUL, path and query: what the keys of a URL have in common, whatever their scheme, variant,
    /// and further parts. `None` for bytes that are no key.
    pub fn site_and_url(&self) -> Option<(&[u8], &[u8])> {
        let rest = match self.0.split_first()? {
            (&VARIANT, rest) => rest.get(8..)?,
            (_, rest) => rest,
        };
        let nul = |bytes: &[u8]| bytes.iter().position(|byte| *byte == 0);
        let (site, rest) = rest.split_at_checked(nul(rest)?)?;
        let rest = rest.get(1..)?;
        let url = rest.get(nul(rest)? + 1..)?;
        let target = nul(url)? + 1;
        let end = nul(url.get(target..)?).map_or(url.len(), |end| target + end);
        Some((site, url.get(..end)?))
    }

    /// XXH3, 64 bits. Seed it per fleet: collisions of the unseeded hash can be crafted.
    pub fn hash64(&self, seed: u64) -> u64 {
        xxh3_64_with_seed(&self.0, seed)
    }

    /// XXH3, 128 bits.
    pub fn hash128(&self, seed: u64) -> u128 {
        xxh3_128_with_seed(&self.0, seed)
    }
}

impl fmt::Display for CacheKey {
    /// `site scheme://authority/path?query`, with `[device mobile]` for a further part and `#id` for a variant. For people;
    /// not parsed by anything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, rest) = match self.0.split_first() {
            Some((&VARIANT, rest)) => match rest.split_first_chunk::<8>() {
                Some((id, rest)) => (Some(u64::from_be_bytes(*id)), rest),
                None => (None, rest),
            },
            Some((_, rest)) => (None, rest),
            None => (None, &[][..]),
        };
        let mut parts = rest.splitn(5, |b| *b == 0).map(String::from_utf8_lossy);
        let mut part = || parts.next().unwrap_or_default();
        write!(f, "{} {}://{}{}", part(), part(), part(), part())?;
        for part in KeyPart::read_all(self.parts()) {
            match part.value() {
                Some(value) => write!(f, "[{} {value}]", part.name())?,
                None => write!(f, "[{}]", part.name())?,
            }
        }
        id.map_or(Ok(()), |id| write!(f, "#{id}"))
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheKey({self})")
    }
}

/// Writes a part at the beginning of `place`, and leaves the rest there; the part as it was written.
fn put<'a>(place: &mut &'a mut [u8], part: &[u8]) -> Option<&'a mut [u8]> {
    let (written, rest) = mem::take(place).split_at_mut_checked(part.len())?;
    written.copy_from_slice(part);
    *place = rest;
    Some(written)
}

/// The query as it is keyed. Forward this form, so that what is not keyed cannot shape the response.
///
/// Verbatim policies hand back what came, an empty query included; others drop an empty one. Parameter names are compared
/// byte for byte, not percent-decoded. Sorting is by name and keeps the order of values of one name.
pub fn normalise_query<'a>(query: Option<&'a str>, policy: &Policy<'_>) -> Option<Cow<'a, str>> {
    let query = query?;
    if policy.ignores_query() {
        return None;
    }
    let rules = policy.query();
    if rules.is_verbatim() {
        return Some(Cow::Borrowed(query));
    }
    let mut parameters: Vec<&str> = query.split('&').filter(|p| !p.is_empty() && is_kept(p, rules)).collect();
    if parameters.is_empty() {
        return None;
    }
    if rules.sort {
        parameters.sort_by_key(|parameter| name_of(parameter));
    }
    Some(Cow::Owned(parameters.join("&")))
}

fn name_of(parameter: &str) -> &str {
    parameter.split_once('=').map_or(parameter, |(name, _)| name)
}

fn is_kept(parameter: &str, rules: &QueryPolicy) -> bool {
    let name = name_of(parameter);
    let matches = |patterns: &[String]| {
        patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        })
    };
    matches(&rules.keep) && !matches(&rules.drop)
}

pub(crate) fn strip_default_port(authority: &str, scheme: Scheme) -> &str {
    let port = match scheme {
        Scheme::Http => ":80",
        Scheme::Https => ":443",
    };
    // An empty port is the default one too (RFC 9110 §4.2.3).
    authority.strip_suffix(port).or_else(|| authority.strip_suffix(':')).unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use perigee_protocol::model::{CachePolicy, RuleCache};

    use super::*;
    use crate::policy::Tier;

    fn key(
        site: &str,
        authority: &str,
        path: &str,
        query: Option<&str>,
        cache: &CachePolicy,
        rule: Option<&RuleCache>,
    ) -> CacheKey {
        CacheKey::new(
            &site.parse().unwrap(),
            Scheme::Http,
            authority,
            path,
            query,
            &Policy { cache, rule, tier: Tier::Edge },
        )
    }

    #[test]
    fn queries() {
        let check = |keep: &[&str], drop: &[&str], sort: bool, query: &str, expected: &str| {
            let own = |patterns: &[&str]| patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
            let cache =
                CachePolicy { query: QueryPolicy { keep: own(keep), drop: own(drop), sort }, ..CachePolicy::default() };
            let found = key("s", "h", "/", Some(query), &cache, None).to_string();
            assert_eq!(found, format!("s http://h/{expected}"), "{keep:?} {drop:?} {sort} {query}");
        };
        check(&["*"], &[], false, "b=1&&a", "?b=1&&a");
        check(&["*"], &[], false, "", "?");
        check(&["*"], &["utm_*", "fbclid"], false, "utm_source=x&b=1&fbclid=2&fbclidx=3", "?b=1&fbclidx=3");
        check(&["*"], &["utm_*"], false, "utm_a", "");
        check(&["a", "c*"], &[], false, "b=1&a=2&cd=3&a", "?a=2&cd=3&a");
        check(&[], &[], false, "a=1", "");
        check(&["*"], &[], true, "b=2&a=2&b=1&a=1&", "?a=2&a=1&b=2&b=1");
    }

    #[test]
    fn the_site_is_found_again() {
        let check = |key: CacheKey, site: &str| assert_eq!(key.site(), site.as_bytes(), "{key:?}");
        let primary = key("www", "h", "/a", Some("b"), &CachePolicy::default(), None);
        // An id with zeros in it, and one without.
        check(primary.variant(1), "www");
        check(primary.variant(u64::MAX), "www");
        check(primary, "www");
        check(CacheKey::from_bytes(b""), "");
        check(CacheKey::from_bytes(b"abc"), "");
        check(CacheKey::from_bytes(&[PRIMARY, b'a']), "");
        check(CacheKey::from_bytes(&[VARIANT, 1, 2]), "");
    }

    #[test]
    fn parts_never_run_together() {
        let cache = CachePolicy::default();
        let all = [
            key("a", "b", "/", None, &cache, None),
            key("ab", "", "/", None, &cache, None),
            key("a", "b/", "/", None, &cache, None),
            key("a", "b", "/x", None, &cache, None),
            key("a", "b", "/", Some(""), &cache, None),
            key("a", "b", "/", Some("x"), &cache, None),
            key("a", "b", "/", None, &cache, None).variant(0),
            key("a", "b", "/", None, &cache, None).variant(1),
        ];
        for (index, one) in all.iter().enumerate() {
            for other in all.iter().skip(index + 1) {
                assert_ne!(one, other);
                assert_ne!(one.hash128(1), other.hash128(1));
            }
        }
    }

    #[test]
    fn authorities_are_normal() {
        let cache = CachePolicy::default();
        let plain = key("a", "b.example", "/", None, &cache, None);
        assert_eq!(plain, key("a", "B.Example:80", "/", None, &cache, None));
        assert_eq!(plain, key("a", "b.example:", "/", None, &cache, None));
        assert_ne!(plain, key("a", "b.example:443", "/", None, &cache, None));
        assert_eq!(plain.variant(7).to_string(), "a http://b.example/#7");
        assert_eq!(CacheKey::from_bytes(plain.as_bytes()), plain);
        assert_ne!(plain.hash64(1), plain.hash64(2));
        let rule = RuleCache { ignore_query: true, ..RuleCache::default() };
        assert_eq!(plain, key("a", "b.example", "/", Some("x=1"), &cache, Some(&rule)));
    }
}
