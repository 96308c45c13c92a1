//! `geo.steering.fence`: autonomous systems, countries and continents → the only PoPs their clients may use.
//!
//! Of the fences that a client is under, the first of system, country, continent and `"*"` holds. Continents are spelled
//! out as countries once, so that a decision looks one thing up.

use std::net::IpAddr;

use ipnet::IpNet;
use perigee_protocol::{id::PopId, model};

use crate::{
    country::{self, Continent},
    overrides::{Found, Overrides},
    place::Country,
};

/// PoPs that may be used; None: any.
type Allowed = Option<Vec<usize>>;

#[derive(Debug)]
pub(super) struct Fences {
    /// Prefixes of the systems that have a fence; targets are indices of the next. None: no system has one.
    prefixes: Option<Overrides>,
    systems: Vec<Allowed>,
    /// In order of country.
    countries: Vec<(Country, Allowed)>,
    /// `"*"`: every other country, and the unknown one.
    others: Allowed,
}

/// What fences know a client by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fenced {
    pub(super) country: Option<Country>,
    /// Which of the fences around systems; None: none.
    pub(super) system: Option<u32>,
}

impl Fences {
    /// `systems` are the prefixes of the autonomous systems that the document names.
    pub(super) fn new(
        steering: &model::Steering,
        pop_index: impl Fn(&PopId) -> Option<usize>,
        systems: &[(IpNet, u32)],
    ) -> Self {
        let allowed =
            |pops: &Vec<PopId>| -> Allowed { (!pops.is_empty()).then(|| pops.iter().filter_map(&pop_index).collect()) };
        let (mut by_system, mut numbers) = (Vec::new(), Vec::new());
        let (mut countries, mut continents) = (Vec::new(), Vec::new());
        for (clients, pops) in &steering.fence {
            if let Some(asn) = asn(clients) {
                numbers.push(asn);
                by_system.push(allowed(pops));
            } else if let Some(continent) = clients.strip_prefix("continent:").and_then(Continent::of_code) {
                continents.push((continent, allowed(pops)));
            } else if let Ok(country) = clients.parse::<Country>() {
                countries.push((country, allowed(pops)));
            }
        }
        for (country, continent) in country::all() {
            let known = countries.iter().any(|(known, _)| *known == country);
            if let Some((_, allowed)) = continents.iter().find(|(fenced, _)| !known && *fenced == continent) {
                countries.push((country, allowed.clone()));
            }
        }
        countries.sort_by_key(|(country, _)| *country);
        let index = |asn: &u32| u32::try_from(numbers.iter().position(|number| number == asn)?).ok();
        let prefixes = systems.iter().filter_map(|(prefix, asn)| Some((*prefix, index(asn)?)));
        Self {
            prefixes: (!numbers.is_empty()).then(|| Overrides::new(prefixes)),
            systems: by_system,
            countries,
            others: steering.fence.get("*").and_then(allowed),
        }
    }

    /// Whether two clients may fare differently for what they are.
    pub(super) fn part_clients(&self) -> bool {
        self.know_countries() || self.prefixes.is_some()
    }

    /// Whether two clients may fare differently for their countries.
    pub(super) fn know_countries(&self) -> bool {
        !self.countries.is_empty()
    }

    /// The fence around a client's autonomous system, and how many bits of the address say so.
    pub(super) fn find(&self, address: IpAddr) -> Found {
        self.prefixes.as_ref().map_or(Found { target: None, prefix_len: 0 }, |prefixes| prefixes.find(address))
    }

    /// Whether such a client may be sent to that PoP.
    pub(super) fn allow(&self, client: Fenced, pop: usize) -> bool {
        let of_system = client.system.and_then(|system| self.systems.get(usize::try_from(system).ok()?));
        let of_country = || {
            let country = client.country?;
            let at = self.countries.binary_search_by_key(&country, |(named, _)| *named).ok()?;
            self.countries.get(at).map(|(_, allowed)| allowed)
        };
        let allowed = of_system.or_else(of_country).unwrap_or(&self.others);
        allowed.as_ref().is_none_or(|pops| pops.contains(&pop))
    }
}

/// The number of `AS64500`. `AS` alone is a country.
pub(super) fn asn(clients: &str) -> Option<u32> {
    clients.strip_prefix("AS")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYSTEMS: [(&str, u32); 3] = [("192.0.2.0/24", 64_500), ("198.51.100.0/24", 64_501), ("203.0.113.0/24", 9)];

    /// `client`: a country, or an address.
    fn check(fence: &[(&str, &[&str])], client: &str, expected: [bool; 3]) {
        let ids = ["a", "b", "c"];
        let pops = |pops: &[&str]| pops.iter().map(|id| id.parse().unwrap()).collect();
        let fence_map = fence.iter().map(|(clients, ids)| ((*clients).to_owned(), pops(ids))).collect();
        let steering = model::Steering { answers: 1, bias: Default::default(), fence: fence_map };
        let systems = SYSTEMS.map(|(prefix, asn)| (prefix.parse().unwrap(), asn));
        let fences = Fences::new(&steering, |id| ids.iter().position(|known| *known == id.as_str()), &systems);
        let system = client.parse().ok().and_then(|address| fences.find(address).target);
        // Whoever is looked at by address is in China.
        let country = if client.contains('.') { "CN" } else { client };
        let client = Fenced { country: country.parse().ok(), system };
        assert_eq!([0, 1, 2].map(|pop| fences.allow(client, pop)), expected, "{fence:?} {client:?}");
    }

    #[test]
    fn countries() {
        check(&[], "CN", [true; 3]);
        check(&[("CN", &["b"]), ("*", &[])], "CN", [false, true, false]);
        check(&[("CN", &["b"]), ("*", &[])], "DE", [true; 3]);
        check(&[("CN", &["b"]), ("*", &[])], "unknown", [true; 3]);
        check(&[("CN", &["b"]), ("*", &["a", "c"])], "unknown", [true, false, true]);
        check(&[("CN", &[]), ("*", &["a"])], "CN", [true; 3]);
        check(&[("CN", &["b"]), ("AU", &["c"])], "AU", [false, false, true]);
    }

    #[test]
    fn continents() {
        let fence: &[(&str, &[&str])] = &[("continent:AS", &["b"]), ("AS", &["a"]), ("JP", &["c"]), ("*", &["a", "b"])];
        check(fence, "CN", [false, true, false]);
        check(fence, "JP", [false, false, true]);
        // American Samoa is a country of Oceania.
        check(fence, "AS", [true, false, false]);
        check(fence, "DE", [true, true, false]);
        check(fence, "unknown", [true, true, false]);
        check(&[("continent:EU", &[]), ("*", &["a"])], "DE", [true; 3]);
    }

    #[test]
    fn systems() {
        let fence: &[(&str, &[&str])] = &[("AS64500", &["b"]), ("AS64501", &[]), ("CN", &["c"]), ("*", &["a"])];
        check(fence, "192.0.2.1", [false, true, false]);
        check(fence, "198.51.100.1", [true; 3]);
        check(fence, "203.0.113.1", [false, false, true]);
        check(fence, "10.0.0.1", [false, false, true]);
    }

    /// 192.0.2.0/24 and its neighbours part at the 24th bit, and no system is far from there.
    #[test]
    fn a_system_is_known_by_so_many_bits() {
        let fences = |fence: &str| {
            let steering = model::Steering {
                answers: 1,
                bias: Default::default(),
                fence: [(fence.to_owned(), Vec::new())].into_iter().collect(),
            };
            Fences::new(&steering, |_| None, &[("192.0.2.0/24".parse().unwrap(), 64_500)])
        };
        let bits = |fences: &Fences, address: &str| fences.find(address.parse().unwrap()).prefix_len;
        let known = fences("AS64500");
        assert!(known.part_clients() && !known.know_countries());
        assert_eq!(["192.0.2.1", "192.0.3.1", "10.0.0.1", "2001:db8::1"].map(|at| bits(&known, at)), [24, 24, 1, 0]);
        // The database does not have this one.
        assert_eq!(bits(&fences("AS64501"), "192.0.2.1"), 0);
        assert!(!fences("*").part_clients());
    }
}
