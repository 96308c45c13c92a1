//! What is answered when PoPs are down, drained, or above their load marks.

use super::*;
use crate::health::{Kept, LAST_KNOWN_WINDOW_MS, Operator, Out, PopHealth};

impl Fleet {
    fn steer(&self, client: &str, family: Family, health: &HealthView) -> Steered<'_> {
        let client = ClientPrefix::host(client.parse().unwrap());
        self.steering.answer(self.world.as_ref(), &client, self.steering.site("www").unwrap(), health, family)
    }

    fn is_all_down(&self, client: &str, health: &HealthView) -> (bool, u8) {
        let client = ClientPrefix::host(client.parse().unwrap());
        self.steering.is_all_down(self.world.as_ref(), &client, self.steering.site("www").unwrap(), health)
    }
}

/// `address=word` each: `drained`, `draining`, or the milliseconds since which it is down.
fn out(facts: &str) -> HealthView {
    let facts = facts.split_whitespace().map(|fact| {
        let (address, word) = fact.split_once('=').unwrap();
        let out = match word {
            "drained" => Out::Drained,
            "draining" => Out::Draining,
            since => Out::Down { since_ms: since.parse().unwrap() },
        };
        (address.parse().unwrap(), out)
    });
    HealthView::of(1, facts, [])
}

const THREE: &str = r#"
    fra  50.11    8.68  198.18.49.10 2001:db8:49::10
    lon  51.51   -0.13  198.18.44.10
    syd -33.87  151.21  198.18.61.10
"#;

const ONE_ANSWER: &str = "[geo.steering]\nanswers = 1";

#[test]
fn all_down() {
    let check = |policy: &str, facts: &str, family: Family, expected: &str| {
        let fleet = Fleet::new(THREE, "", policy);
        let steered = fleet.steer("127.49.0.1", family, &out(facts));
        let addresses: Vec<String> = steered.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(format!("{} {}", steered.reason, addresses.join(" ")), expected, "{policy} {facts}");
    };
    let v4 = "198.18.49.10=1 198.18.44.10=1 198.18.61.10=1";
    let all = &*format!("{v4} 2001:db8:49::10=1");
    check("", v4, Family::V4, "all-down 198.18.49.10 198.18.44.10");
    check("all_down = \"nearest\"", all, Family::V4, "all-down 198.18.49.10 198.18.44.10");
    check("all_down = \"nodata\"", v4, Family::V4, "all-down-nodata ");
    check("all_down = \"nodata\"", v4, Family::V6, "nearest 2001:db8:49::10");
    // As long as one family lives there is no CNAME, and the other has no address: clients take the first.
    check("all_down = { cname = \"s.example\" }", v4, Family::V4, "all-down-nodata ");
    check("all_down = { cname = \"s.example\" }", v4, Family::V6, "nearest 2001:db8:49::10");
    check("all_down = { cname = \"s.example\" }", all, Family::V4, "all-down-cname ");
    check("all_down = { cname = \"s.example\" }", all, Family::V6, "all-down-cname ");
    // One that is drained is not down.
    let spared = &*all.replace("44.10=1", "44.10=drained");
    for policy in ["", "all_down = \"nodata\"", "all_down = { cname = \"s.example\" }"] {
        check(policy, spared, Family::V4, "drained 198.18.44.10");
    }
}

#[test]
fn the_last_known_ones() {
    let check = |[fra, lon, syd]: [u64; 3], expected: &str| {
        let fleet = Fleet::new(THREE, "", "all_down = \"last_known\"");
        let health = out(&format!("198.18.49.10={fra} 198.18.44.10={lon} 198.18.61.10={syd}"));
        let steered = fleet.steer("127.49.0.1", Family::V4, &health);
        let addresses: Vec<String> = steered.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(format!("{} {}", steered.reason, addresses.join(" ")), expected, "{fra} {lon} {syd}");
    };
    let last = 1_000_000;
    let (together, before) = (last - LAST_KNOWN_WINDOW_MS, last - LAST_KNOWN_WINDOW_MS - 1);
    check([last, together, together], "all-down-last-known 198.18.49.10 198.18.44.10");
    check([before, together, last], "all-down-last-known 198.18.44.10 198.18.61.10");
    check([before, before, last], "all-down-last-known 198.18.61.10");
    // Also of the reserves.
    let pops = THREE.replace("198.18.61.10", "198.18.61.10 weight=0");
    let fleet = Fleet::new(&pops, "", "all_down = \"last_known\"");
    let health = out(&format!("198.18.49.10={before} 198.18.44.10={before} 198.18.61.10={last}"));
    assert_eq!(*fleet.steer("127.49.0.1", Family::V4, &health).addresses, ["198.18.61.10".parse::<IpAddr>().unwrap()]);
}

#[test]
fn whether_a_name_is_a_cname_now() {
    let cname = "all_down = { cname = \"s.example\" }";
    let all = out("198.18.49.10=1 2001:db8:49::10=1 198.18.44.10=1 198.18.61.10=1");
    let one_lives = out("198.18.49.10=1 198.18.44.10=1 198.18.61.10=1");
    let fleet = Fleet::new(THREE, "", cname);
    assert_eq!(fleet.is_all_down("127.49.0.1", &all), (true, 0));
    assert_eq!(fleet.is_all_down("127.49.0.1", &one_lives), (false, 0));
    assert_eq!(fleet.is_all_down("127.49.0.1", &HealthView::default()), (false, 0));
    assert_eq!(Fleet::new(THREE, "", "").is_all_down("127.49.0.1", &all), (false, 0));
    // Behind the fence all may be down while others live, and the country decides.
    let fenced = Fleet::new(THREE, "[geo.steering]\nfence = { DE = [\"lon\"] }", cname);
    let lon = out("198.18.44.10=1");
    assert_eq!(fenced.is_all_down("127.49.0.1", &lon), (true, 16));
    assert_eq!(fenced.is_all_down("127.61.0.1", &lon), (false, 16));
    assert_eq!(fenced.steer("127.49.0.1", Family::V4, &lon).reason, SteerReason::AllDownCname);
    // A fence without any PoP of the site is no outage.
    let without =
        Fleet::new(THREE, "[geo.steering]\nfence = { DE = [\"lon\"] }", &format!("{cname}\npops = [\"fra\"]"));
    assert_eq!(without.is_all_down("127.49.0.1", &all), (false, 16));
}

#[test]
fn drained_ones_come_after_reserves() {
    let pops = THREE.replace("198.18.61.10", "198.18.61.10 weight=0");
    let fleet = Fleet::new(&pops, ONE_ANSWER, "");
    let check = |facts: &str, expected: &str| {
        let steered = fleet.steer("127.49.0.1", Family::V4, &out(facts));
        assert_eq!(format!("{} {:?}", steered.reason, steered.addresses), expected, "{facts}");
    };
    check("198.18.49.10=drained", "next-nearest [198.18.44.10]");
    check("198.18.49.10=draining", "next-nearest [198.18.44.10]");
    check("198.18.49.10=drained 198.18.44.10=1", "reserve [198.18.61.10]");
    check("198.18.49.10=drained 198.18.44.10=1 198.18.61.10=1", "drained [198.18.49.10]");
    check("198.18.49.10=1 198.18.44.10=draining 198.18.61.10=drained", "drained [198.18.44.10]");
}

fn shedding(parts: &[(&str, f64)]) -> HealthView {
    let pops = parts
        .iter()
        .map(|(pop, part)| (pop.parse().unwrap(), PopHealth { kept: Kept::of(*part), ..PopHealth::default() }));
    HealthView::of(1, [], pops)
}

/// How many in a thousand German /24s each PoP gets first.
fn shares(fleet: &Fleet, health: &HealthView) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for n in 0..5_000 {
        let steered = fleet.steer(&format!("127.49.{}.{}", n / 20, n % 20), Family::V4, health);
        *shares.entry(steered.pop.unwrap().to_string()).or_insert(0) += 1;
    }
    shares.values_mut().for_each(|count| *count /= 5);
    shares
}

#[test]
fn a_part_of_the_clients_goes_to_the_next() {
    let fleet = Fleet::new(THREE, ONE_ANSWER, "");
    let share = |health: &HealthView, pop: &str| shares(&fleet, health).get(pop).copied().unwrap_or(0);
    assert_eq!(share(&shedding(&[]), "fra"), 1_000);
    let some = shedding(&[("fra", 0.7)]);
    let fra = share(&some, "fra");
    assert!((600..800).contains(&fra), "{fra}");
    assert_eq!(share(&some, "lon"), 1_000 - fra);
    // The next sheds too, of what comes to it.
    let both = shedding(&[("fra", 0.5), ("lon", 0.5)]);
    assert!(share(&both, "syd") > 100 && share(&both, "lon") > 100 && share(&both, "fra") > 300);
    // Nobody is left without an answer.
    let all = shedding(&[("fra", 0.0), ("lon", 0.0), ("syd", 0.0)]);
    assert_eq!(share(&all, "fra"), 1_000);
    let steered = fleet.steer("127.49.0.1", Family::V4, &all);
    assert_eq!((steered.reason, steered.scope_prefix), (SteerReason::Nearest, 24));
}

#[test]
fn a_client_that_is_shed_is_so_while_less_is_kept() {
    let fleet = Fleet::new(THREE, ONE_ANSWER, "");
    for n in 0..500 {
        let client = format!("127.49.{}.1", n % 250);
        let kept = |part| fleet.steer(&client, Family::V4, &shedding(&[("fra", part)])).pop.unwrap().as_str() == "fra";
        let kept: Vec<bool> = [1.0, 0.9, 0.6, 0.3, 0.1, 0.0].map(kept).into();
        assert!(kept.is_sorted_by(|more, less| more >= less), "{client} {kept:?}");
    }
}

#[test]
fn shedding_decides_by_the_24() {
    let fleet = Fleet::new(THREE, ONE_ANSWER, "");
    let health = shedding(&[("fra", 0.5)]);
    let mut reasons = std::collections::BTreeSet::new();
    for n in 0..50 {
        let [one, other] = [1, 200].map(|host| fleet.steer(&format!("127.49.{n}.{host}"), Family::V4, &health));
        assert_eq!(one.addresses, other.addresses);
        assert_eq!(one.scope_prefix, 24);
        reasons.insert(one.reason);
    }
    assert_eq!(reasons.into_iter().collect::<Vec<_>>(), [SteerReason::Nearest, SteerReason::Shed]);
    // Whom it does not concern.
    assert_eq!(fleet.steer("127.61.0.1", Family::V4, &health).scope_prefix, 16);
    // What an operator sends there stays.
    let sent = Fleet::new(
        THREE,
        &format!("{ONE_ANSWER}\n[[geo.override]]\nprefixes = [\"127.49.0.0/16\"]\npop = \"fra\""),
        "",
    );
    assert_eq!(shares(&sent, &shedding(&[("fra", 0.0)])), BTreeMap::from([("fra".to_owned(), 1_000)]));
}

#[test]
fn mates_of_one_place_take_over_first() {
    let pops = "fra 50.11 8.68 198.18.49.10\nfrb 50.11 8.68 198.18.49.11\nlon 51.51 -0.13 198.18.44.10";
    let fleet = Fleet::new(pops, ONE_ANSWER, "");
    let shares = shares(&fleet, &shedding(&[("fra", 0.5)]));
    let (fra, frb) = (shares["fra"], shares["frb"]);
    assert!((180..320).contains(&fra) && (680..820).contains(&frb) && !shares.contains_key("lon"), "{shares:?}");
}

#[test]
fn explained() {
    let fleet = Fleet::new(THREE, ONE_ANSWER, "");
    let client = ClientPrefix::host("127.49.0.1".parse().unwrap());
    let tell = |health: &HealthView| {
        let site = fleet.steering.site("www").unwrap();
        let told = fleet.steering.explain(fleet.world.as_ref(), &client, site, health, Family::V4);
        let pops =
            told.pops.iter().map(|pop| format!("{} {}", pop.pop, pop.dropped.map_or("answered", Dropped::as_str)));
        (told.steered.reason.as_str(), pops.collect::<Vec<_>>().join(", "))
    };
    assert_eq!(tell(&shedding(&[("fra", 0.0)])), ("shed", "fra load, lon answered, syd answers".to_owned()));
    let drained = PopHealth { operator: Some(Operator::Drain), ..PopHealth::default() };
    let address = "198.18.49.10".parse().unwrap();
    let health = HealthView::of(1, [(address, Out::Drained)], [("fra".parse().unwrap(), drained)]);
    assert_eq!(tell(&health), ("next-nearest", "fra operator, lon answered, syd answers".to_owned()));
    assert_eq!(tell(&out("198.18.49.10=draining")).1, "fra draining, lon answered, syd answers");
    assert_eq!(tell(&out("198.18.49.10=5")).1, "fra down, lon answered, syd answers");
}
