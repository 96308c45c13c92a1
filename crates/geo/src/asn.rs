//! A database of autonomous systems over bytes: GeoLite2-ASN, GeoIP2-ISP, DB-IP's ASN Lite, and what `perigee geo build`
//! makes with an `asn` column.
//!
//! Steering never asks it while it answers: the prefixes of the systems that a document names are taken out of it once, at
//! load ([`AsnDatabase::prefixes_of`]), and are prefixes like others from then on.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use ipnet::IpNet;
use serde::Deserialize;

use crate::database::{
    DatabaseError, DatabaseInfo,
    checked::Checked,
    record::{self, SAMPLED_RECORDS_MAX},
};

/// A checked database. `S` is a `Vec` in tests and a mapped file in production.
#[derive(Debug)]
pub struct AsnDatabase<S: AsRef<[u8]>>(Checked<S>);

/// What is known of the network around an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// The record's prefix.
    pub network: IpNet,
    /// `autonomous_system_number`
    pub asn: u32,
    /// `autonomous_system_organization`
    pub organization: Option<String>,
}

impl<S: AsRef<[u8]>> AsnDatabase<S> {
    /// Takes the bytes of a database after checking them.
    pub fn from_source(source: S) -> Result<Self, DatabaseError> {
        let checked = Checked::from_source(source)?;
        let mut sampled = 0;
        let is_known = {
            let mut first = checked.networks().take(SAMPLED_RECORDS_MAX).inspect(|_| sampled += 1);
            first.any(|(_, found)| record::asn(&found).is_some())
        };
        if is_known {
            return Ok(Self(checked));
        }
        Err(DatabaseError::NoSystems { sampled, kind: checked.info().kind.clone() })
    }

    /// What it says of itself.
    pub fn info(&self) -> &DatabaseInfo {
        self.0.info()
    }

    /// The system that an address is of. None: the database does not know. IPv4-mapped IPv6 addresses are looked up as
    /// IPv4.
    pub fn describe(&self, address: IpAddr) -> Option<System> {
        #[derive(Deserialize)]
        struct Organization<'a> {
            autonomous_system_organization: Option<&'a str>,
        }
        let (found, prefix_len) = self.0.find(address)?;
        let asn = record::asn(&found)?;
        let organization = found.decode::<Organization<'_>>().ok().flatten();
        Some(System {
            network: IpNet::new(address, prefix_len).ok()?.trunc(),
            asn,
            organization: organization.and_then(|record| record.autonomous_system_organization.map(str::to_owned)),
        })
    }

    /// How many different records the tree points to. Walks all of it.
    pub fn count_records(&self) -> usize {
        self.0.networks().filter_map(|(_, found)| found.offset()).collect::<HashSet<_>>().len()
    }

    /// Every network that has a system, in order of address (IPv4 once, as IPv4). For people who wait.
    pub fn networks(&self) -> impl Iterator<Item = (IpNet, u32)> {
        self.0.networks().filter_map(|(network, found)| Some((network, record::asn(&found)?)))
    }

    /// Every prefix of these systems, in order of address. Walks the whole database: once per load, not per question.
    pub fn prefixes_of(&self, wanted: &BTreeSet<u32>) -> Vec<(IpNet, u32)> {
        // Most networks share their record with others, so that few are decoded.
        let mut known: HashMap<usize, Option<u32>> = HashMap::new();
        let of_wanted = self.0.networks().filter_map(|(network, found)| {
            let decode = || record::asn(&found).filter(|asn| wanted.contains(asn));
            Some((network, (*known.entry(found.offset()?).or_insert_with(decode))?))
        });
        of_wanted.collect()
    }
}

#[cfg(test)]
mod tests {
    use mmdb_writer::{Value, Writer};

    use super::*;
    use crate::build::build;

    fn database(networks: &[(&str, u32)]) -> AsnDatabase<Vec<u8>> {
        let mut writer = Writer::builder("Test-ASN").build();
        for (prefix, asn) in networks {
            let organization = format!("Net {asn}");
            let fields = [
                ("autonomous_system_number", Value::from(*asn)),
                ("autonomous_system_organization", Value::from(organization.as_str())),
            ];
            writer.insert_value(prefix.parse::<IpNet>().unwrap(), Value::map(fields)).unwrap();
        }
        AsnDatabase::from_source(writer.to_bytes().unwrap()).unwrap()
    }

    const NETWORKS: [(&str, u32); 5] = [
        ("192.0.2.0/24", 1),
        ("198.51.100.0/24", 2),
        ("203.0.113.0/24", 1),
        ("2001:db8::/32", 1),
        ("203.0.112.0/24", 0),
    ];

    #[test]
    fn describes() {
        let database = database(&NETWORKS);
        let check = |address: &str, expected: Option<(&str, u32)>| {
            let expected = expected.map(|(network, asn)| System {
                network: network.parse().unwrap(),
                asn,
                organization: Some(format!("Net {asn}")),
            });
            assert_eq!(database.describe(address.parse().unwrap()), expected, "{address}");
        };
        check("192.0.2.9", Some(("192.0.2.0/24", 1)));
        check("::ffff:192.0.2.9", Some(("::ffff:192.0.2.0/120", 1)));
        check("2001:db8:9::", Some(("2001:db8::/32", 1)));
        check("203.0.112.1", None);
        check("10.0.0.1", None);
    }

    #[test]
    fn tells_the_prefixes_of_systems() {
        let database = database(&NETWORKS);
        let check = |wanted: &[u32], expected: &[(&str, u32)]| {
            let expected: Vec<_> = expected.iter().map(|(network, asn)| (network.parse().unwrap(), *asn)).collect();
            assert_eq!(database.prefixes_of(&wanted.iter().copied().collect()), expected, "{wanted:?}");
        };
        check(&[], &[]);
        check(&[0, 3], &[]);
        check(&[2], &NETWORKS[1..2]);
        check(&[1, 2], &NETWORKS[..4]);
    }

    #[test]
    fn what_is_built_with_systems_is_one() {
        let csv = "prefix,country,asn\n192.0.2.0/24,DE,64512\n";
        let database = AsnDatabase::from_source(build(csv.as_bytes()).unwrap()).unwrap();
        assert_eq!(database.describe("192.0.2.1".parse().unwrap()).map(|system| system.asn), Some(64_512));
        assert_eq!(database.info().kind, crate::build::DATABASE_TYPE);
        let without = build(&b"prefix,country\n192.0.2.0/24,DE\n"[..]).unwrap();
        let refusal = AsnDatabase::from_source(without).map(|_| ()).unwrap_err().to_string();
        assert_eq!(
            refusal,
            "none of 1 sampled records of this \"Perigee-City\" database holds an autonomous_system_number"
        );
    }
}
