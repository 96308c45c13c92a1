//! `geo.steering.fence`: a country → the only PoPs its clients may use.

use perigee_protocol::{id::PopId, model};

use crate::place::Country;

/// PoPs that may be used; None: any.
type Allowed = Option<Vec<usize>>;

#[derive(Debug)]
pub(super) struct Fences {
    /// In order of country, as the document's map is.
    countries: Vec<(Country, Allowed)>,
    /// `"*"`: every other country, and the unknown one.
    others: Allowed,
}

impl Fences {
    pub(super) fn new(steering: &model::Steering, pop_index: impl Fn(&PopId) -> Option<usize>) -> Self {
        let allowed =
            |pops: &Vec<PopId>| -> Allowed { (!pops.is_empty()).then(|| pops.iter().filter_map(&pop_index).collect()) };
        let named = steering.fence.iter().filter_map(|(country, pops)| Some((country.parse().ok()?, allowed(pops))));
        Self { countries: named.collect(), others: steering.fence.get("*").and_then(allowed) }
    }

    /// Whether two clients may fare differently for their countries.
    pub(super) fn know_countries(&self) -> bool {
        !self.countries.is_empty()
    }

    /// Whether a client of that country may be sent to that PoP.
    pub(super) fn allow(&self, country: Option<Country>, pop: usize) -> bool {
        let named = country.and_then(|country| {
            let at = self.countries.binary_search_by_key(&country, |(named, _)| *named).ok()?;
            self.countries.get(at)
        });
        let allowed = named.map_or(&self.others, |(_, allowed)| allowed);
        allowed.as_ref().is_none_or(|pops| pops.contains(&pop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let check = |fence: &[(&str, &[&str])], country: &str, expected: [bool; 3]| {
            let ids = ["a", "b", "c"];
            let pops = |pops: &[&str]| pops.iter().map(|id| id.parse().unwrap()).collect();
            let fence_map = fence.iter().map(|(country, ids)| ((*country).to_owned(), pops(ids))).collect();
            let steering = model::Steering { answers: 1, bias: Default::default(), fence: fence_map };
            let fences = Fences::new(&steering, |id| ids.iter().position(|known| *known == id.as_str()));
            let got = [0, 1, 2].map(|pop| fences.allow(country.parse().ok(), pop));
            assert_eq!(got, expected, "{fence:?} {country}");
        };
        check(&[], "CN", [true; 3]);
        check(&[("CN", &["b"]), ("*", &[])], "CN", [false, true, false]);
        check(&[("CN", &["b"]), ("*", &[])], "DE", [true; 3]);
        check(&[("CN", &["b"]), ("*", &[])], "unknown", [true; 3]);
        check(&[("CN", &["b"]), ("*", &["a", "c"])], "unknown", [true, false, true]);
        check(&[("CN", &[]), ("*", &["a"])], "CN", [true; 3]);
        check(&[("CN", &["b"]), ("AU", &["c"])], "AU", [false, false, true]);
    }
}
