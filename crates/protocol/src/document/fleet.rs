//! `[cdn]`, `[control]`, `[admin]`, and what several sections share.

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, time::Duration};

use super::{
    geo::prefix,
    limits::{EXEMPT_MAX, NAMESERVERS_MAX, NODE_ADDRESSES_MAX, TOKENS_MAX, TTL_MAX, WHY_MAX},
    names,
    read::Table,
    value::{Seen, Value},
    words::nearest,
};
use crate::{
    id::{PopId, SiteId},
    model::{
        Admin, AdminToken, Cdn, Control, ControlEngine, DnsOffer, DnsTls, Dnssec, DnssecAlgorithm, Nameserver,
        RateLimit, Scope,
    },
};

const WORD: &str = "must be 1 to 63 letters, digits and -._~+";

/// A word that may stand in Via and CDN-Loop.
fn word<'a>(value: &Value<'a>) -> Option<&'a str> {
    value.parse(WORD, |text| {
        let well_formed = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+".contains(&b));
        (well_formed && names::is_token(text) && text.len() <= 63).then_some(text)
    })
}

/// The name of a file or folder, relative to the document.
pub(crate) fn path(value: &Value<'_>) -> Option<PathBuf> {
    value.parse("must be the name of a file", |text| (!text.is_empty() && !text.contains('\0')).then(|| text.into()))
}

pub(crate) const HOST_LAW: &str =
    "must be a host name: labels of 1 to 63 letters, digits and hyphens, at most 253 in all";

/// A DNS time to live: whole seconds (RFC 2181 §8).
pub(crate) fn ttl(value: &Value<'_>) -> Option<Duration> {
    let ttl = value.duration(Duration::ZERO..=TTL_MAX)?;
    if ttl.subsec_millis() != 0 {
        value.refuse("must be whole seconds");
        return None;
    }
    Some(ttl)
}

/// An address that a client can be sent to.
pub(crate) fn address(value: &Value<'_>) -> Option<IpAddr> {
    let address = value.parse("must be an IPv4 or IPv6 address", |text| text.parse::<IpAddr>().ok())?;
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if address.is_unspecified() || address.is_multicast() || mapped {
        value.refuse("must be an address that a client can connect to");
        return None;
    }
    Some(address)
}

/// The PoPs that the document has, whether or not they are right in all else.
#[derive(Debug)]
pub(crate) struct KnownPops<'a>(BTreeSet<&'a str>);

impl<'a> KnownPops<'a> {
    pub(crate) fn new(pops: &[Value<'a>]) -> Self {
        Self(pops.iter().filter_map(Value::raw_id).collect())
    }

    /// The id of a PoP of this document.
    pub(crate) fn id(&self, value: &Value<'_>) -> Option<PopId> {
        self.key(value.string()?, value)
    }

    /// As [`Self::id`], where the id is the key of `value`.
    pub(crate) fn key(&self, text: &str, value: &Value<'_>) -> Option<PopId> {
        if !self.0.contains(text) {
            let remedy = match (nearest(text, self.0.iter().copied()), self.0.len()) {
                (Some(near), _) => format!("did you mean \"{near}\"?"),
                (None, 0..=20) => format!("the PoPs are {}", self.0.iter().copied().collect::<Vec<_>>().join(", ")),
                _ => "add a [[pop]] of that id".to_owned(),
            };
            value.wrong_beside_others("must be the id of a PoP of this document", remedy);
            return None;
        }
        text.parse().ok()
    }
}

pub(crate) fn cdn(value: &Value<'_>) -> Option<Cdn> {
    let mut table = value.table()?;
    let name = table.or("name", "perigee", "\"perigee\"", word);
    let zone = table.must("zone", "\"cdn.example\"", zone);
    let nameservers = table.or("nameservers", Vec::new(), "none", |value| nameservers(value, zone.as_deref()));
    let contact = contact(&mut table, zone.as_deref());
    let ttl_of_answers = table.or("ttl", Duration::from_secs(30), "\"30s\"", ttl);
    let negative_ttl = table.or("negative_ttl", Duration::from_secs(60), "\"60s\"", ttl);
    let apex_site =
        table.maybe("apex_site", |value| value.parse("must be the id of a site", |text| text.parse::<SiteId>().ok()));
    let secret_file = table.maybe("secret_file", path);
    let dnssec = table.maybe("dnssec", dnssec);
    let dns_tls = table.maybe("dns_tls", dns_tls);
    let rate_limit = table.or("rate_limit", RateLimit::default(), "1000 a second and network", rate_limit);
    let loopback = || ["127.0.0.0/8", "::1/128"].iter().filter_map(|network| network.parse().ok()).collect();
    let why = table.or("why", None, "loopback", |value| value.set(0..=WHY_MAX, prefix).map(Some));
    Some(Cdn {
        name: name?.to_owned(),
        zone: zone?,
        nameservers: nameservers?,
        contact: contact?,
        ttl: ttl_of_answers?,
        negative_ttl: negative_ttl?,
        apex_site: apex_site?,
        secret_file: secret_file?,
        dnssec: dnssec?,
        dns_tls: dns_tls?,
        rate_limit: rate_limit?,
        why: why?.unwrap_or_else(loopback),
    })
}

/// Leaves room for the steered names below it.
fn zone(value: &Value<'_>) -> Option<String> {
    value.parse(
        "must be a domain name: labels of 1 to 63 letters, digits and hyphens, at most 253 in all",
        names::domain_name,
    )
}

fn contact(table: &mut Table<'_>, zone: Option<&str>) -> Option<String> {
    const LOCAL_BYTES_MAX: usize = 63; // becomes one label of the SOA's RNAME (RFC 1035 §8)
    let default = zone.map(|zone| format!("hostmaster@{zone}"));
    let Some(value) = table.optional("contact", default.as_deref().unwrap_or("hostmaster@ZONE")) else {
        return default;
    };
    value.parse("must be a mail address", |text| {
        let (local, domain) = text.split_once('@')?;
        let domain = names::domain_name(domain)?;
        let well_formed = (1..=LOCAL_BYTES_MAX).contains(&local.len()) && local.split('.').all(names::is_token);
        (well_formed && local.len() + domain.len() < names::NAME_BYTES_MAX).then(|| format!("{local}@{domain}"))
    })
}

fn nameservers(value: &Value<'_>, zone: Option<&str>) -> Option<Vec<Nameserver>> {
    let (mut hosts, mut addresses_seen) = (Seen::default(), Seen::default());
    let read: Vec<_> = value
        .list(0..=NAMESERVERS_MAX)?
        .iter()
        .map(|value| {
            let mut table = value.table()?;
            let host = table.must("host", "\"ns1.cdn.example\"", |value| {
                let host = value.parse(HOST_LAW, names::domain_name)?;
                hosts.is_new(host.clone(), value).then_some(host)
            });
            let addresses = table.or("addresses", Vec::new(), "none", |value| {
                let list: Vec<_> = value
                    .list(0..=NODE_ADDRESSES_MAX)?
                    .iter()
                    .map(|value| address(value).filter(|address| addresses_seen.is_new(*address, value)))
                    .collect();
                list.into_iter().collect()
            });
            let (host, addresses) = (host?, addresses?);
            if addresses.is_empty() && zone.is_some_and(|zone| names::is_in_zone(&host, zone)) {
                table.refuse(
                    "a nameserver inside the zone needs addresses: nobody else can tell them",
                    "add addresses = [\"198.18.0.53\"]",
                );
                return None;
            }
            Some(Nameserver { host, addresses })
        })
        .collect();
    read.into_iter().collect()
}

fn rate_limit(value: &Value<'_>) -> Option<RateLimit> {
    let default = RateLimit::default();
    let mut table = value.table()?;
    let responses_per_second =
        table.integer_or("responses_per_second", default.responses_per_second.into(), 0..=10_000_000);
    let slip = table.integer_or("slip", default.slip.into(), 0..=100);
    let exempt =
        table.or("exempt", None, "loopback and private networks", |value| value.set(0..=EXEMPT_MAX, prefix).map(Some));
    Some(RateLimit {
        responses_per_second: u32::try_from(responses_per_second?).ok()?,
        slip: u32::try_from(slip?).ok()?,
        exempt: exempt?.unwrap_or(default.exempt),
    })
}

fn dnssec(value: &Value<'_>) -> Option<Dnssec> {
    let mut table = value.table()?;
    let keys = table.must("keys", "\"keys\"", path);
    let choices = [("ecdsa-p256", DnssecAlgorithm::EcdsaP256), ("ed25519", DnssecAlgorithm::Ed25519)];
    let algorithm = table.or("algorithm", DnssecAlgorithm::EcdsaP256, "\"ecdsa-p256\"", |value| value.choice(&choices));
    Some(Dnssec { keys: keys?, algorithm: algorithm? })
}

fn dns_tls(value: &Value<'_>) -> Option<DnsTls> {
    let mut table = value.table()?;
    let (certificate, key) = (table.must("certificate", "\"ns.pem\"", path), table.must("key", "\"ns.key\"", path));
    let choices = [("dot", DnsOffer::Dot), ("doq", DnsOffer::Doq), ("doh", DnsOffer::Doh)];
    let offers = table.or("offers", None, "[\"dot\", \"doq\"]", |value| {
        value.set(0..=choices.len(), |value| value.choice(&choices)).map(Some)
    });
    let offers =
        offers?.map_or_else(|| BTreeSet::from([DnsOffer::Dot, DnsOffer::Doq]), |list| list.into_iter().collect());
    Some(DnsTls { certificate: certificate?, key: key?, offers })
}

pub(crate) fn control(value: &Value<'_>) -> Option<Control> {
    let mut table = value.table()?;
    let choices = [("embedded", ControlEngine::Embedded), ("nats", ControlEngine::Nats)];
    let engine = table.or("engine", ControlEngine::Embedded, "\"embedded\"", |value| value.choice(&choices));
    let of_nats = |value: &Value<'_>| {
        if engine == Some(ControlEngine::Embedded) {
            value.wrong("is for engine = \"nats\" only", "remove it, or choose that engine");
        }
    };
    let url = table.maybe("url", |value| {
        of_nats(value);
        value.parse("must be nats://HOST:PORT or tls://HOST:PORT", |text| {
            let rest = text.strip_prefix("nats://").or_else(|| text.strip_prefix("tls://"))?;
            names::authority(rest).map(|_| text.to_owned())
        })
    });
    let credentials = table.maybe("credentials", |value| {
        of_nats(value);
        path(value)
    });
    if engine == Some(ControlEngine::Nats) && url == Some(None) {
        table.refuse("engine = \"nats\" needs the servers' url", "add url = \"nats://nats.cdn.example:4222\"");
    }
    Some(Control { engine: engine?, url: url?, credentials: credentials? })
}

pub(crate) fn admin(value: &Value<'_>) -> Option<Admin> {
    let mut table = value.table()?;
    let tokens = table.or("tokens", Vec::new(), "none", |value| {
        let (mut token_names, mut hashes) = (Seen::default(), Seen::default());
        let read: Vec<_> =
            value.list(0..=TOKENS_MAX)?.iter().map(|value| token(value, &mut token_names, &mut hashes)).collect();
        read.into_iter().collect()
    });
    Some(Admin { tokens: tokens? })
}

fn token(value: &Value<'_>, token_names: &mut Seen<String>, hashes: &mut Seen<[u8; 32]>) -> Option<AdminToken> {
    let mut table = value.table()?;
    let name = table.must("name", "\"ops\"", |value| {
        let name = word(value)?.to_owned();
        token_names.is_new(name.clone(), value).then_some(name)
    });
    let sha256 = table.must("sha256", "\"(what sha256sum prints of the token)\"", |value| {
        let hash = value.parse("must be the SHA-256 of the token: 64 hexadecimal digits", hash)?;
        hashes.is_new(hash, value).then_some(hash)
    });
    let choices = [("purge", Scope::Purge), ("drain", Scope::Drain), ("read", Scope::Read)];
    let scopes = table.must("scopes", "[\"read\"]", |value| {
        let indices =
            value.set(1..=choices.len(), |value| value.choice(&[("purge", 0_usize), ("drain", 1), ("read", 2)]))?;
        indices.into_iter().map(|index| choices.get(index).map(|(_, scope)| *scope)).collect()
    });
    Some(AdminToken { name: name?, sha256: sha256?, scopes: scopes? })
}

fn hash(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = [0; 32];
    for (index, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(hash)
}
