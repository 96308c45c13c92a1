//! What a purge names, and what a lookup asks for: both come to the same hashes.

use std::fmt;

use perigee_protocol::{
    id::SiteId,
    model::{self, Scheme},
};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use crate::{
    key::{CacheKey, normalise_query, strip_default_port},
    policy::{Policy, Tier},
    tags,
};

/// What a purge is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All sites.
    Everything,
    /// All of a site.
    Site(SiteId),
    /// One URL with all that is stored for it: every variant, and both schemes.
    Url {
        /// Whose.
        site: SiteId,
        /// Of the key: the site's `host_header` where it is set, else the client's host; with its port, unless that is the
        /// scheme's own.
        authority: String,
        /// Path and query in the form that is keyed.
        target: String,
    },
    /// All URLs of a site whose path begins so, byte for byte.
    Prefix {
        /// Whose.
        site: SiteId,
        /// Of the key; `None`: whichever.
        authority: Option<String>,
        /// Begins with `/`; has no query.
        path: String,
    },
    /// All of a site that carries a surrogate key.
    Tag {
        /// Whose.
        site: SiteId,
        /// The surrogate key, byte for byte.
        tag: String,
    },
    /// All of one origin of a site that is in a cache group (RFC 9875 §3): invalidated by the origin itself.
    Group {
        /// Whose.
        site: SiteId,
        /// Of the key: the origin.
        authority: String,
        /// The group.
        group: String,
    },
}

/// A [`Scope`] as the ledger keeps it: hashed with the node's secret seed, so that all entries are of one small size and
/// nobody outside can choose names that collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// All sites.
    Everything,
    /// A site.
    Site(u64),
    /// A URL of a site.
    Url(u64, u128),
    /// A prefix of a site's paths.
    Prefix(u64, Length, u128),
    /// A surrogate key of a site.
    Tag(u64, u128),
}

/// How long a prefix is in bytes, and whether it is for one authority alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Length {
    pub(super) bytes: u32,
    pub(super) with_authority: bool,
}

/// Keeps hashes of one kind apart from those of another.
mod salt {
    pub(super) const URL: u64 = 0x75_72_6c;
    pub(super) const PREFIX: u64 = 0x70_72_65_66;
    pub(super) const PREFIX_OF_HOST: u64 = 0x68_6f_73_74;
    pub(super) const TAG: u64 = 0x74_61_67;
    pub(super) const GROUP: u64 = 0x67_72_6f_75;
}

fn site_hash(site: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(site, seed)
}

fn hash(site: u64, salt: u64, bytes: &[u8]) -> u128 {
    xxh3_128_with_seed(bytes, site ^ salt)
}

/// Of a group of one origin: another's group of the same name is another group.
fn group_hash(site: u64, authority: &[u8], group: &str) -> u128 {
    hash(site ^ xxh3_64_with_seed(authority, site), salt::GROUP, group.as_bytes())
}

impl Scope {
    /// What the ledger keeps of it.
    pub fn target(&self, seed: u64) -> Target {
        let site_of = |site: &SiteId| site_hash(site.as_str().as_bytes(), seed);
        match self {
            Self::Everything => Target::Everything,
            Self::Site(site) => Target::Site(site_of(site)),
            Self::Url { site, authority, target } => {
                let site = site_of(site);
                Target::Url(site, hash(site, salt::URL, &joined(authority, target)))
            }
            Self::Prefix { site, authority, path } => {
                let site = site_of(site);
                let bytes = u32::try_from(path.len()).unwrap_or(u32::MAX);
                let length = Length { bytes, with_authority: authority.is_some() };
                let prefix = match authority {
                    Some(authority) => hash(site, salt::PREFIX_OF_HOST, &joined(authority, path)),
                    None => hash(site, salt::PREFIX, path.as_bytes()),
                };
                Target::Prefix(site, length, prefix)
            }
            Self::Tag { site, tag } => {
                let site = site_of(site);
                Target::Tag(site, hash(site, salt::TAG, tag.as_bytes()))
            }
            Self::Group { site, authority, group } => {
                let site = site_of(site);
                Target::Tag(site, group_hash(site, authority.to_ascii_lowercase().as_bytes(), group))
            }
        }
    }

    /// A URL of a site, in every form in which its rules may have keyed it: they differ in the query. Any host of a site with
    /// a `host_header` will do.
    pub fn of_url(site: &model::Site, scheme: Scheme, authority: &str, path: &str, query: Option<&str>) -> Vec<Self> {
        let authority = Self::authority_of(site, scheme, authority);
        let mut scopes: Vec<Self> = Vec::new();
        for rule in std::iter::once(None).chain(site.rules.iter().map(|rule| Some(&rule.cache))) {
            let query = normalise_query(query, &Policy { cache: &site.cache, rule, tier: Tier::Edge });
            let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
            let scope = Self::Url { site: site.id.clone(), authority: authority.clone(), target };
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        scopes
    }

    /// The authority that keys of a site have for a host that its clients use.
    pub fn authority_of(site: &model::Site, scheme: Scheme, authority: &str) -> String {
        strip_default_port(site.host_header.as_deref().unwrap_or(authority), scheme).to_ascii_lowercase()
    }

    /// A cache group of the origin that keys name so.
    pub fn group(site: &SiteId, scheme: Scheme, authority: &str, group: &str) -> Self {
        let authority = strip_default_port(authority, scheme).to_ascii_lowercase();
        Self::Group { site: site.clone(), authority, group: group.to_owned() }
    }

    /// The word in answers, logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::Site(_) => "site",
            Self::Url { .. } => "url",
            Self::Prefix { .. } => "prefix",
            Self::Tag { .. } => "tag",
            Self::Group { .. } => "group",
        }
    }
}

/// As in a key: authority in lower case, NUL, path and query.
fn joined(authority: &str, target: &str) -> Vec<u8> {
    let mut bytes = authority.to_ascii_lowercase().into_bytes();
    bytes.push(0);
    bytes.extend_from_slice(target.as_bytes());
    bytes
}

impl fmt::Display for Scope {
    /// For people; not parsed by anything.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("everything"),
            Self::Site(site) => write!(f, "site {site}"),
            Self::Url { site, authority, target } => write!(f, "{authority}{target} of {site}"),
            Self::Prefix { site, authority, path } => {
                write!(f, "{}{path}* of {site}", authority.as_deref().unwrap_or_default())
            }
            Self::Tag { site, tag } => write!(f, "tag {tag} of {site}"),
            Self::Group { site, authority, group } => write!(f, "group {group} of {authority} of {site}"),
        }
    }
}

/// What is looked up: a URL, and the surrogate keys of what is stored for it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    site: u64,
    /// Authority, NUL, path and query.
    url: &'a [u8],
    path: &'a [u8],
    tags: &'a [Box<str>],
}

impl<'a> Subject<'a> {
    /// Of a key, or one of its variants, and the surrogate keys in the stored head. `None` for bytes that are no key.
    pub fn new(key: &'a CacheKey, tags: &'a [Box<str>], seed: u64) -> Option<Self> {
        let (site, url) = key.site_and_url()?;
        let authority = url.iter().position(|byte| *byte == 0)?;
        let target = url.get(authority + 1..)?;
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        Some(Self { site: site_hash(site, seed), url, path, tags })
    }

    pub(super) fn site(&self) -> u64 {
        self.site
    }

    /// Whether the response has more surrogate keys than are kept: then it may have any.
    pub(super) fn has_more_tags(&self) -> bool {
        self.tags.iter().any(|tag| **tag == *tags::MORE)
    }

    pub(super) fn url_target(&self) -> Target {
        Target::Url(self.site, hash(self.site, salt::URL, self.url))
    }

    /// `None` when the path is shorter.
    pub(super) fn prefix_target(&self, length: Length) -> Option<Target> {
        let bytes = usize::try_from(length.bytes).ok()?;
        let prefix = self.path.get(..bytes)?;
        let prefix = if length.with_authority {
            // The path ends the URL, but for its query.
            let start = self.url.iter().position(|byte| *byte == 0)? + 1;
            hash(self.site, salt::PREFIX_OF_HOST, self.url.get(..start + bytes)?)
        } else {
            hash(self.site, salt::PREFIX, prefix)
        };
        Some(Target::Prefix(self.site, length, prefix))
    }

    pub(super) fn tag_targets(&self) -> impl Iterator<Item = Target> + '_ {
        let authority = self.url.split(|byte| *byte == 0).next().unwrap_or_default();
        self.tags.iter().map(move |tag| {
            let hash = match tags::group_of(tag) {
                Some(group) => group_hash(self.site, authority, group),
                None => hash(self.site, salt::TAG, tag.as_bytes()),
            };
            Target::Tag(self.site, hash)
        })
    }
}
