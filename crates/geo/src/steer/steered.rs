//! What steering answers, and why.

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::IpAddr,
    ops::Deref,
};

use perigee_protocol::id::PopId;

use crate::place::Country;

/// The most addresses that one answer holds; the document's `geo.steering.answers` is not above it.
pub const ADDRESSES_MAX: usize = 16;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// A
    V4,
    /// AAAA
    V6,
}

impl Family {
    /// Of A and AAAA.
    pub(super) fn index(self) -> usize {
        match self {
            Self::V4 => 0,
            Self::V6 => 1,
        }
    }

    /// The one that was not asked for.
    pub fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// A decision: addresses for one client, site and family.
#[derive(Clone, Debug)]
pub struct Steered<'a> {
    /// Best first; empty: NODATA.
    pub addresses: Addresses,
    /// The PoP of the first address.
    pub pop: Option<&'a PopId>,
    /// For how many leading bits of the client's address the addresses are the same: the ECS scope to return
    /// (RFC 7871 §7.2.1). It may be longer than the source prefix that was asked with; the RFC allows that, and clamping
    /// it would claim more than was looked at. Only an answer to source prefix 0 must carry scope 0.
    pub scope_prefix: u8,
    /// Why this PoP.
    pub reason: SteerReason,
    /// Where the client's place is from.
    pub source: PlaceSource,
    /// The client's, where the database knows it.
    pub country: Option<Country>,
    /// From the client's place to the PoP; not told of answers made ahead.
    pub km: Option<f64>,
}

/// Why a PoP was chosen, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SteerReason {
    /// The nearest by biased distance, and up.
    Nearest,
    /// An override names it, and it is up.
    Override,
    /// The preferred one is down and names this one as its fallback.
    Fallback,
    /// The preferred one is down and so are its fallbacks: the nearest living.
    NextNearest,
    /// Only PoPs of weight 0 are left.
    Reserve,
    /// The preferred one is above its load mark and sends this client on.
    Shed,
    /// Only PoPs are left that an operator drains, or that say themselves that they are about to end.
    Drained,
    /// None is up: the preferred one anyway.
    AllDown,
    /// None is up: those that were up until shortly before the last of them went.
    AllDownLastKnown,
    /// None is up, and then there is no address.
    AllDownNoData,
    /// None is up, in either family, and then the name is a CNAME.
    AllDownCname,
    /// The client's country may use none of the site's PoPs.
    Fenced,
    /// None of the site's PoPs has an address of that family.
    NoAddress,
}

impl SteerReason {
    /// Every reason, for metrics that begin at 0.
    pub const ALL: [Self; 13] = [
        Self::Nearest,
        Self::Override,
        Self::Fallback,
        Self::NextNearest,
        Self::Reserve,
        Self::Shed,
        Self::Drained,
        Self::AllDown,
        Self::AllDownLastKnown,
        Self::AllDownNoData,
        Self::AllDownCname,
        Self::Fenced,
        Self::NoAddress,
    ];

    /// The word in labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Override => "override",
            Self::Fallback => "fallback",
            Self::NextNearest => "next-nearest",
            Self::Reserve => "reserve",
            Self::Shed => "shed",
            Self::Drained => "drained",
            Self::AllDown => "all-down",
            Self::AllDownLastKnown => "all-down-last-known",
            Self::AllDownNoData => "all-down-nodata",
            Self::AllDownCname => "all-down-cname",
            Self::Fenced => "fenced",
            Self::NoAddress => "no-address",
        }
    }
}

impl fmt::Display for SteerReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who said where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PlaceSource {
    /// The database's record.
    Database,
    /// The database knows the country only: its [centre](Country::centre).
    Country,
    /// `[[geo.override]]`
    Override,
    /// Nobody: `geo.default_location`.
    Default,
}

impl PlaceSource {
    /// The word in labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Country => "country",
            Self::Override => "override",
            Self::Default => "default",
        }
    }
}

impl fmt::Display for PlaceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Up to [`ADDRESSES_MAX`] addresses in line, so that a decision allocates nothing for them.
#[derive(Clone, Copy)]
pub struct Addresses {
    len: usize,
    items: [IpAddr; ADDRESSES_MAX],
}

impl Addresses {
    /// None.
    pub fn new() -> Self {
        Self { len: 0, items: [IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED); ADDRESSES_MAX] }
    }

    /// Adds one, or drops it when there is no room.
    pub(super) fn push(&mut self, address: IpAddr) {
        if let Some(free) = self.items.get_mut(self.len) {
            *free = address;
            self.len += 1;
        }
    }
}

impl Default for Addresses {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for Addresses {
    type Target = [IpAddr];
    fn deref(&self) -> &[IpAddr] {
        self.items.get(..self.len).unwrap_or_default()
    }
}

impl PartialEq for Addresses {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Addresses {}

impl Hash for Addresses {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
