//! `perigee geo diff`: which clients another database would move to another PoP.
//!
//! Each database is asked for the answer at an address and for the scope of that answer, which is true for all of the scope
//! (RFC 7871): so the whole space is gone through in strides of two scopes' common part.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal as _, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use anyhow::{Context, anyhow};
use perigee_geo::{
    asn::AsnDatabase,
    database::GeoDatabase,
    health::HealthView,
    place::Country,
    steer::{ClientPrefix, Family, SiteIndex, Steering},
};
use perigee_geodns::zones;
use perigee_node::mmap::MappedFile;
use serde_json::json;

use super::{args::GeoDiffArgs, file};

type Places = GeoDatabase<MappedFile>;

/// IPv6 in use: 2000::/3, in /48s.
const FIRST_V6: u128 = 0x2000 << 112;
const LAST_V6: u128 = FIRST_V6 | u128::MAX >> 3;
const SITE_BITS: u8 = 48;
/// Databases lead Teredo (RFC 4380) and 6to4 (RFC 3056) into IPv4, which is counted once.
const EMBEDDING: [(u128, u8); 2] = [(0x2001_0000 << 96, 32), (0x2002 << 112, 16)];
/// Countries told for each move; JSON has all.
const COUNTRIES_TOLD: usize = 5;
const PROGRESS_STRIDES: u64 = 1 << 16;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    ipv4: u64,
    /// /48s
    ipv6: u64,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.ipv4 += other.ipv4;
        self.ipv6 += other.ipv6;
    }
}

/// A client's first PoP, if it has one.
type First<'a> = Option<&'a str>;

#[derive(Default)]
struct Moves<'a> {
    all: Count,
    moved: Count,
    /// From, to → by country, as the new database has it.
    by_pops: BTreeMap<(First<'a>, First<'a>), BTreeMap<Option<Country>, Count>>,
}

/// Clients that were sent from one PoP to another.
struct Move<'a> {
    from: First<'a>,
    to: First<'a>,
    total: Count,
    countries: Vec<(String, Count)>,
}

struct Diff<'a> {
    steering: &'a Steering,
    databases: [&'a Places; 2],
    site: SiteIndex,
    health: HealthView,
}

pub(crate) fn diff(args: &GeoDiffArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let loaded = perigee_node::document::read(&args.document)?;
    let folder = loaded.resolve(Path::new(""));
    let prefixes = zones::load_prefixes(&loaded.document, &folder).map_err(|mistakes| anyhow!("{mistakes}"))?;
    let document = &*zones::with_prefixes(&loaded.document, &prefixes);
    let systems = match &document.geo.asn_database {
        Some(named) => {
            let path = loaded.resolve(named);
            let mapped = MappedFile::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Some(AsnDatabase::from_source(mapped).with_context(|| format!("cannot use {}", path.display()))?)
        }
        None => None,
    };
    let steering = Steering::with_systems(document, systems.as_ref());
    let site = args.site.as_deref().or(document.sites.first().map(|site| site.id.as_str())).unwrap_or_default();
    let [old, new] = [file::places(&args.old)?, file::places(&args.new)?];
    let diff = Diff {
        steering: &steering,
        databases: [&old, &new],
        site: steering.site(site).with_context(|| format!("{site:?} is no site of {}", args.document.display()))?,
        health: HealthView::default(),
    };
    let moves = diff.walk();
    if args.json {
        return Ok(writeln!(out, "{}", moves.object(site))?);
    }
    moves.print(site, &args.old, &args.new, out)
}

impl<'a> Diff<'a> {
    fn walk(&self) -> Moves<'a> {
        let (mut moves, mut strides) = (Moves::default(), 0_u64);
        let mut next = Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let is_watched = io::stderr().is_terminal();
        while let Some(address) = next {
            if is_watched && strides.is_multiple_of(PROGRESS_STRIDES) {
                // Whoever has gone does not miss it.
                write!(io::stderr(), "\rat {address} ").unwrap_or_default();
            }
            strides += 1;
            next = self.stride(address, &mut moves);
        }
        if is_watched {
            write!(io::stderr(), "\r").unwrap_or_default();
        }
        moves
    }

    /// Counts the clients around `address` that fare alike. Where the next ones begin.
    fn stride(&self, address: IpAddr, moves: &mut Moves<'a>) -> Option<IpAddr> {
        if let IpAddr::V6(v6) = address
            && let Some((_, len)) =
                EMBEDDING.iter().find(|(bits, len)| (v6.to_bits() ^ bits).leading_zeros() >= u32::from(*len))
        {
            return after_v6(v6.to_bits(), *len);
        }
        let client = ClientPrefix::host(address);
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        let [old, new] = self.databases.map(|database| {
            let steered = self.steering.answer(Some(database), &client, self.site, &self.health, family);
            (steered.pop.map(|pop| pop.as_str()), steered.country, steered.scope_prefix)
        });
        let bits = old.2.max(new.2);
        let (count, next) = match address {
            IpAddr::V4(v4) => {
                let last = v4.to_bits() | u32::MAX.checked_shr(bits.into()).unwrap_or(0);
                let count = Count { ipv4: u64::from(last - v4.to_bits()) + 1, ipv6: 0 };
                let next = last.checked_add(1).map(|next| IpAddr::V4(Ipv4Addr::from_bits(next)));
                (count, next.or(Some(IpAddr::V6(Ipv6Addr::from_bits(FIRST_V6)))))
            }
            IpAddr::V6(v6) => {
                // What is longer than a /48 counts as its first part.
                let bits = bits.clamp(3, SITE_BITS);
                (Count { ipv4: 0, ipv6: 1 << (SITE_BITS - bits) }, after_v6(v6.to_bits(), bits))
            }
        };
        moves.all.add(count);
        if old.0 != new.0 {
            moves.moved.add(count);
            moves.by_pops.entry((old.0, new.0)).or_default().entry(new.1).or_default().add(count);
        }
        next
    }
}

fn after_v6(address: u128, bits: u8) -> Option<IpAddr> {
    let last = address | u128::MAX.checked_shr(bits.into()).unwrap_or(0);
    let next = last.checked_add(1).filter(|next| *next <= LAST_V6);
    next.map(|next| IpAddr::V6(Ipv6Addr::from_bits(next)))
}

fn named(pop: First<'_>) -> &str {
    pop.unwrap_or("nowhere")
}

fn country_name(country: Option<Country>) -> String {
    country.map_or("unknown".to_owned(), |country| country.to_string())
}

impl Moves<'_> {
    /// Those that move the most come first.
    fn ordered(&self) -> Vec<Move<'_>> {
        let moves = self.by_pops.iter().map(|((from, to), countries)| {
            let mut total = Count::default();
            countries.values().for_each(|count| total.add(*count));
            let mut countries: Vec<_> =
                countries.iter().map(|(country, count)| (country_name(*country), *count)).collect();
            countries.sort_by_key(|(_, count)| std::cmp::Reverse((count.ipv4, count.ipv6)));
            Move { from: *from, to: *to, total, countries }
        });
        let mut moves: Vec<_> = moves.collect();
        moves.sort_by_key(|one| std::cmp::Reverse((one.total.ipv4, one.total.ipv6)));
        moves
    }

    fn object(&self, site: &str) -> serde_json::Value {
        let count = |count: &Count| json!({ "ipv4_addresses": count.ipv4, "ipv6_prefixes_48": count.ipv6 });
        let moves = self.ordered().into_iter().map(|Move { from, to, total, countries }| {
            let countries: serde_json::Map<_, _> =
                countries.iter().map(|(country, of_country)| (country.clone(), count(of_country))).collect();
            json!({ "from": from, "to": to, "count": count(&total), "countries": countries })
        });
        json!({ "site": site, "all": count(&self.all), "moved": count(&self.moved), "moves": moves.collect::<Vec<_>>() })
    }

    fn print(&self, site: &str, old: &Path, new: &Path, out: &mut impl Write) -> anyhow::Result<()> {
        let percent = |part: u64, of: u64| if of == 0 { 0.0 } else { 100.0 * part as f64 / of as f64 };
        writeln!(out, "from {} to {}, clients of {site}:", old.display(), new.display())?;
        writeln!(
            out,
            "{} IPv4 addresses ({:.3} %) and {} IPv6 /48s ({:.3} %) move",
            self.moved.ipv4,
            percent(self.moved.ipv4, self.all.ipv4),
            self.moved.ipv6,
            percent(self.moved.ipv6, self.all.ipv6)
        )?;
        for Move { from, to, total, countries } in self.ordered() {
            let told: Vec<String> = countries.iter().take(COUNTRIES_TOLD).map(|(country, _)| country.clone()).collect();
            let more = countries.len().saturating_sub(COUNTRIES_TOLD);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let (told, from_to) = (told.join(", "), format!("{} -> {}", named(from), named(to)));
            writeln!(out, "  {from_to:<24} {:>12} IPv4, {:>14} /48: {told}{more}", total.ipv4, total.ipv6)?;
        }
        Ok(())
    }
}
