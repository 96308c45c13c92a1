//! `perigee geo stats`: what a database holds.

use std::{
    collections::{BTreeSet, HashSet},
    io::Write,
};

use ipnet::IpNet;
use serde_json::json;

use super::{
    args::GeoStatsArgs,
    file::{Known, date},
};

/// Networks, and how much of the address space they are: of all IPv4 addresses, and of all IPv6 /48s of 2000::/3.
#[derive(Default)]
struct Covered {
    networks_v4: u64,
    networks_v6: u64,
    addresses_v4: u64,
    sites_v6: u64,
}

/// Shares are of these.
const ADDRESSES_V4: f64 = (1_u64 << 32) as f64;
const SITES_V6: f64 = (1_u64 << 45) as f64;

impl Covered {
    fn add(&mut self, network: IpNet) {
        match network {
            IpNet::V4(network) => {
                self.networks_v4 += 1;
                self.addresses_v4 += 1 << (32 - network.prefix_len());
            }
            IpNet::V6(network) => {
                self.networks_v6 += 1;
                // Only 2000::/3 is given to networks so far; a prefix longer than /48 is a part of a site.
                if network.addr().segments()[0] >> 13 == 1 && network.prefix_len() >= 3 {
                    self.sites_v6 += 1_u64.checked_shl(48_u32.saturating_sub(network.prefix_len().into())).unwrap_or(0);
                }
            }
        }
    }

    fn lines(&self, what: &str) -> [(String, String); 2] {
        let percent = |part: f64, of: f64| 100.0 * part / of;
        let (v4, v6) = (self.addresses_v4 as f64, self.sites_v6 as f64);
        [
            (
                format!("{what}, IPv4"),
                format!("{} networks, {:.2} % of all addresses", self.networks_v4, percent(v4, ADDRESSES_V4)),
            ),
            (
                format!("{what}, IPv6"),
                format!("{} networks, {:.4} % of 2000::/3", self.networks_v6, percent(v6, SITES_V6)),
            ),
        ]
    }

    fn object(&self) -> serde_json::Value {
        json!({
            "ipv4": { "networks": self.networks_v4, "addresses": self.addresses_v4, "share": self.addresses_v4 as f64 / ADDRESSES_V4 },
            "ipv6": { "networks": self.networks_v6, "prefixes_48": self.sites_v6, "share": self.sites_v6 as f64 / SITES_V6 },
        })
    }
}

pub(crate) fn stats(args: &GeoStatsArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let known = Known::open(&args.database)?;
    let info = known.info();
    let mut lines = vec![
        ("kind".to_owned(), format!("{} ({})", info.kind, known.what())),
        ("built".to_owned(), date(info.built_at_s)),
        ("nodes".to_owned(), info.nodes.to_string()),
    ];
    let mut object = json!({
        "kind": info.kind, "of": known.what(), "built_at_s": info.built_at_s, "ip_version": info.ip_version, "nodes": info.nodes,
    });
    match &known {
        Known::Places(places) => {
            let [mut by_city, mut by_country, mut unplaced] = <[Covered; 3]>::default();
            let mut countries = BTreeSet::new();
            for (network, place) in places.networks() {
                countries.extend(place.country);
                match (place.location, place.is_centre) {
                    (Some(_), false) => by_city.add(network),
                    (Some(_), true) => by_country.add(network),
                    (None, _) => unplaced.add(network),
                }
            }
            let records = places.count_records();
            lines.extend([
                ("records".to_owned(), records.to_string()),
                ("countries".to_owned(), countries.len().to_string()),
            ]);
            lines.extend(
                [by_city.lines("a place"), by_country.lines("a country only"), unplaced.lines("nowhere")]
                    .into_iter()
                    .flatten(),
            );
            object["records"] = json!(records);
            object["countries"] = json!(countries.len());
            object["level"] = json!(places.level().as_str());
            object["place"] = by_city.object();
            object["country_only"] = by_country.object();
            object["nowhere"] = unplaced.object();
        }
        Known::Systems(systems) => {
            let (mut covered, mut numbers) = (Covered::default(), HashSet::new());
            for (network, asn) in systems.networks() {
                covered.add(network);
                numbers.insert(asn);
            }
            let records = systems.count_records();
            lines.extend([
                ("records".to_owned(), records.to_string()),
                ("systems".to_owned(), numbers.len().to_string()),
            ]);
            lines.extend(covered.lines("a system"));
            object["records"] = json!(records);
            object["systems"] = json!(numbers.len());
            object["system"] = covered.object();
        }
    }
    if args.json {
        writeln!(out, "{object}")?;
        return Ok(());
    }
    for (name, value) in lines {
        writeln!(out, "{name:<22} {value}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_the_address_space() {
        let covered = |networks: &[&str]| {
            let mut covered = Covered::default();
            networks.iter().for_each(|network| covered.add(network.parse().unwrap()));
            [covered.networks_v4, covered.addresses_v4, covered.networks_v6, covered.sites_v6]
        };
        assert_eq!(covered(&["0.0.0.0/0"]), [1, 1 << 32, 0, 0]);
        assert_eq!(covered(&["192.0.2.0/24", "192.0.2.77/32"]), [2, 257, 0, 0]);
        assert_eq!(covered(&["2000::/3"]), [0, 0, 1, 1 << 45]);
        assert_eq!(covered(&["2001:db8::/32", "2001:db8::/48"]), [0, 0, 2, (1 << 16) + 1]);
        // A part of a /48, and what nobody has.
        assert_eq!(covered(&["2001:db8::/64", "fd00::/8", "::/0"]), [0, 0, 3, 1]);
    }
}
