use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use perigee_protocol::document;
use proptest::prelude::*;

use super::*;
use crate::{build::build, world::DemoBase, world::demo_world};

mod explain;
mod health;
mod systems;
mod table;

/// A document with these PoPs (`id latitude longitude addresses… key=value…`), more of the document and more of its site.
fn document(pops: &str, more: &str, site: &str) -> Document {
    let mut text = "version = 1\n[cdn]\nname = \"t\"\nzone = \"cdn.example\"\ncontact = \"h@cdn.example\"\n".to_owned();
    text += more;
    text += "\n";
    for line in pops.lines().filter(|line| !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (place, rest) = words.split_at(3);
        let (keys, addresses): (Vec<&str>, Vec<&str>) = rest.iter().partition(|word| word.contains('='));
        let [id, latitude, longitude] = place else { panic!("{line}") };
        text += &format!("[[pop]]\nid = \"{id}\"\ncity = \"C\"\nlatitude = {latitude}\nlongitude = {longitude}\n");
        text += &format!("addresses = {addresses:?}\n{}\n", keys.join("\n"));
    }
    text += &format!(
        "[[site]]\nid = \"www\"\nhosts = [\"a.example\"]\norigins = [{{ url = \"http://10.0.0.1\" }}]\n{site}\n"
    );
    document::load("test.toml", &text).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"))
}

const WORLD: &str = r#"
    fra  50.11    8.68  198.18.49.10 2001:db8:49::10
    lon  51.51   -0.13  198.18.44.10
    nyc  40.71  -74.01  198.18.1.10  2001:db8:1::10
    sin   1.35  103.82  198.18.65.10
    syd -33.87  151.21  198.18.61.10
"#;

/// Where 127.N is the country of telephone code N.
fn world() -> GeoDatabase<Vec<u8>> {
    GeoDatabase::from_source(build(demo_world(DemoBase::Loopback).as_bytes()).unwrap()).unwrap()
}

fn show(steered: &Steered<'_>) -> String {
    let addresses: Vec<String> = steered.addresses.iter().map(ToString::to_string).collect();
    let pop = steered.pop.map_or("-", |pop| pop.as_str());
    let country = steered.country.map_or("-".to_owned(), |country| country.to_string());
    let km = steered.km.map_or("-".to_owned(), |km| format!("{km:.0}"));
    let Steered { scope_prefix, reason, source, .. } = steered;
    format!("{pop} [{}] /{scope_prefix} {reason} by {source} {country} {km} km", addresses.join(" "))
}

#[derive(Debug)]
struct Fleet {
    steering: Steering,
    world: Option<GeoDatabase<Vec<u8>>>,
}

impl Fleet {
    fn new(pops: &str, more: &str, site: &str) -> Self {
        Self { steering: Steering::new(&document(pops, more, site)), world: Some(world()) }
    }

    fn ask(&self, client: &str, family: Family, down: &[&str]) -> Steered<'_> {
        let prefix: ipnet::IpNet = client.parse().or_else(|_| client.parse::<IpAddr>().map(Into::into)).unwrap();
        let client = ClientPrefix::new(prefix.addr(), prefix.prefix_len());
        let health = HealthView::new(1, down.iter().map(|address| address.parse().unwrap()));
        self.steering.answer(self.world.as_ref(), &client, self.steering.site("www").unwrap(), &health, family)
    }

    fn check(&self, client: &str, down: &[&str], expected: Expect) {
        expected.assert_eq(&show(&self.ask(client, Family::V4, down)));
    }

    fn check_v6(&self, client: &str, down: &[&str], expected: Expect) {
        expected.assert_eq(&show(&self.ask(client, Family::V6, down)));
    }
}

#[test]
fn the_nearest() {
    let fleet = Fleet::new(WORLD, "", "");
    fleet.check("127.49.0.1", &[], expect!["fra [198.18.49.10 198.18.44.10] /16 nearest by database DE 423 km"]);
    fleet.check("127.44.3.0/24", &[], expect!["lon [198.18.44.10 198.18.49.10] /16 nearest by database GB 0 km"]);
    fleet.check("127.81.0.1", &[], expect!["sin [198.18.65.10 198.18.61.10] /16 nearest by database JP 5314 km"]);
    fleet.check("127.64.0.1", &[], expect!["syd [198.18.61.10 198.18.65.10] /16 nearest by database NZ 2156 km"]);
    // Nowhere: the default location, which without one is the first PoP's.
    fleet.check("127.0.0.1", &[], expect!["fra [198.18.49.10 198.18.44.10] /16 nearest by default - 0 km"]);
    fleet.check("8.8.8.8", &[], expect!["fra [198.18.49.10 198.18.44.10] /2 nearest by default - 0 km"]);
    fleet.check(
        "::ffff:127.81.0.1",
        &[],
        expect!["sin [198.18.65.10 198.18.61.10] /112 nearest by database JP 5314 km"],
    );
    fleet.check("2001:db8::1", &[], expect!["fra [198.18.49.10 198.18.44.10] /21 nearest by default - 0 km"]);
    let placed = Fleet::new(WORLD, "[geo]\ndefault_location = { latitude = -30.0, longitude = 150.0 }", "");
    placed.check("127.0.0.1", &[], expect!["syd [198.18.61.10 198.18.65.10] /16 nearest by default - 445 km"]);
}

#[test]
fn several_answers_come_nearest_first() {
    let fleet = Fleet::new(WORLD, "[geo.steering]\nanswers = 3", "");
    fleet.check(
        "127.44.0.1",
        &[],
        expect!["lon [198.18.44.10 198.18.49.10 198.18.1.10] /16 nearest by database GB 0 km"],
    );
    fleet.check(
        "127.81.0.1",
        &["198.18.65.10"],
        expect!["syd [198.18.61.10 198.18.49.10 198.18.44.10] /16 next-nearest by database JP 7826 km"],
    );
    let all = Fleet::new(WORLD, "[geo.steering]\nanswers = 16", "");
    all.check(
        "127.55.0.1",
        &[],
        expect![
            "nyc [198.18.1.10 198.18.44.10 198.18.49.10 198.18.61.10 198.18.65.10] /16 nearest by database BR 7686 km"
        ],
    );
}

#[test]
fn a_family_has_its_own_candidates() {
    let fleet = Fleet::new(WORLD, "", "");
    fleet.check_v6(
        "127.44.0.1",
        &[],
        expect!["fra [2001:db8:49::10 2001:db8:1::10] /16 nearest by database GB 638 km"],
    );
    fleet.check_v6(
        "127.81.0.1",
        &[],
        expect!["fra [2001:db8:49::10 2001:db8:1::10] /16 nearest by database JP 9333 km"],
    );
    // Health is each address's: the PoP is up for A and down for AAAA.
    fleet.check_v6(
        "127.49.0.1",
        &["2001:db8:49::10"],
        expect!["nyc [2001:db8:1::10] /16 next-nearest by database DE 6385 km"],
    );
    fleet.check(
        "127.49.0.1",
        &["2001:db8:49::10"],
        expect!["fra [198.18.49.10 198.18.44.10] /16 nearest by database DE 423 km"],
    );
    let v4_only = Fleet::new(WORLD, "", "pops = [\"lon\", \"sin\"]");
    v4_only.check_v6("127.49.0.1", &[], expect!["- [] /0 no-address by default DE - km"]);
}

#[test]
fn the_dead_are_replaced() {
    let fleet = Fleet::new(&WORLD.replace("198.18.44.10", "198.18.44.10 fallback=[\"syd\",\"sin\"]"), "", "");
    fleet.check(
        "127.44.0.1",
        &["198.18.44.10"],
        expect!["syd [198.18.61.10 198.18.65.10] /16 fallback by database GB 16994 km"],
    );
    fleet.check(
        "127.44.0.1",
        &["198.18.44.10", "198.18.61.10"],
        expect!["sin [198.18.65.10 198.18.49.10] /16 fallback by database GB 10848 km"],
    );
    fleet.check(
        "127.44.0.1",
        &["198.18.44.10", "198.18.61.10", "198.18.65.10"],
        expect!["fra [198.18.49.10 198.18.1.10] /16 next-nearest by database GB 638 km"],
    );
    let all = ["198.18.49.10", "198.18.44.10", "198.18.1.10", "198.18.65.10", "198.18.61.10"];
    fleet.check("127.44.0.1", &all, expect!["lon [198.18.44.10 198.18.49.10] /16 all-down by database GB 0 km"]);
    // Nobody is answered twice: Frankfurt stands in for London, and then for itself.
    let stand_in = Fleet::new(
        &WORLD.replace("198.18.44.10", "198.18.44.10 fallback=[\"fra\"]"),
        "[geo.steering]\nanswers = 3",
        "",
    );
    stand_in.check(
        "127.44.0.1",
        &["198.18.44.10"],
        expect!["fra [198.18.49.10 198.18.1.10 198.18.65.10] /16 fallback by database GB 638 km"],
    );
    // A fallback that the site is not served from is none.
    let limited = Fleet::new(
        &WORLD.replace("198.18.44.10", "198.18.44.10 fallback=[\"syd\",\"sin\"]"),
        "[geo.steering]\nanswers = 2",
        "pops = [\"lon\", \"sin\", \"nyc\"]",
    );
    limited.check(
        "127.44.0.1",
        &["198.18.44.10"],
        expect!["sin [198.18.65.10 198.18.1.10] /16 fallback by database GB 10848 km"],
    );
}

#[test]
fn sites_are_served_from_their_pops() {
    let fleet = Fleet::new(WORLD, "", "pops = [\"syd\", \"nyc\"]");
    fleet.check("127.49.0.1", &[], expect!["nyc [198.18.1.10 198.18.61.10] /16 nearest by database DE 6385 km"]);
    // The same for everybody: scope 0.
    let one = Fleet::new(WORLD, "", "pops = [\"syd\"]");
    one.check("127.49.0.1", &[], expect!["syd [198.18.61.10] /0 nearest by database DE 16095 km"]);
    one.check("127.49.0.1", &["198.18.61.10"], expect!["syd [198.18.61.10] /0 all-down by database DE 16095 km"]);
}

#[test]
fn fences_hold() {
    let fence = "[geo.steering]\nanswers = 2\nfence = { DE = [\"sin\", \"syd\"], JP = [\"lon\"], \"*\" = [] }";
    let fleet = Fleet::new(WORLD, fence, "");
    fleet.check("127.49.0.1", &[], expect!["sin [198.18.65.10 198.18.61.10] /16 nearest by database DE 9917 km"]);
    fleet.check("127.33.0.1", &[], expect!["lon [198.18.44.10 198.18.49.10] /16 nearest by database FR 343 km"]);
    // Down behind the fence, and still not across it.
    fleet.check("127.81.0.1", &["198.18.44.10"], expect!["lon [198.18.44.10] /16 all-down by database JP 9559 km"]);
    // No PoP of its fence has IPv6.
    fleet.check_v6("127.81.0.1", &[], expect!["- [] /16 fenced by database JP - km"]);
    fleet.check("127.0.0.1", &[], expect!["fra [198.18.49.10 198.18.44.10] /16 nearest by default - 0 km"]);
}

#[test]
fn overrides_come_first() {
    let overrides = r#"
[[geo.override]]
prefixes = ["127.81.7.0/24", "2001:db8:5::/48", "8.0.0.0/8"]
pop = "syd"
[[geo.override]]
prefixes = ["127.81.7.128/25"]
location = { latitude = 51.0, longitude = 0.0 }
"#;
    let fleet = Fleet::new(WORLD, &format!("{overrides}[geo.steering]\nanswers = 2\nfence = {{ US = [\"nyc\"] }}"), "");
    fleet.check("127.81.7.1", &[], expect!["syd [198.18.61.10 198.18.65.10] /25 override by override JP 0 km"]);
    fleet.check(
        "127.81.7.1",
        &["198.18.61.10"],
        expect!["sin [198.18.65.10 198.18.1.10] /25 next-nearest by override JP 6306 km"],
    );
    fleet.check("127.81.7.129", &[], expect!["lon [198.18.44.10 198.18.49.10] /25 nearest by override JP 57 km"]);
    // An override inside its record's prefix makes a neighbour's scope longer.
    fleet.check("127.81.6.1", &[], expect!["sin [198.18.65.10 198.18.61.10] /24 nearest by database JP 5314 km"]);
    fleet.check("127.81.200.1", &[], expect!["sin [198.18.65.10 198.18.61.10] /17 nearest by database JP 5314 km"]);
    fleet.check("8.8.8.8", &[], expect!["syd [198.18.61.10 198.18.65.10] /8 override by override - 0 km"]);
    fleet.check("2001:db8:5::1", &[], expect!["syd [198.18.61.10 198.18.65.10] /48 override by override - 0 km"]);
    fleet.check_v6(
        "2001:db8:5::1",
        &[],
        expect!["nyc [2001:db8:1::10 2001:db8:49::10] /48 nearest by override - 15988 km"],
    );
    let without = Fleet { world: None, ..Fleet::new(WORLD, overrides, "") };
    without.check("8.8.8.8", &[], expect!["syd [198.18.61.10 198.18.65.10] /8 override by override - 0 km"]);
    without.check("10.0.0.1", &[], expect!["fra [198.18.49.10 198.18.44.10] /7 nearest by default - 0 km"]);
}

#[test]
fn bias_divides_distance() {
    // Vienna: 599 km from Frankfurt, 1,233 from London.
    let biased = |bias: &str| Fleet::new(WORLD, &format!("[geo.steering]\nbias = {{ {bias} }}"), "");
    biased("lon = 2.0").check(
        "127.43.0.1",
        &[],
        expect!["fra [198.18.49.10 198.18.44.10] /16 nearest by database AT 597 km"],
    );
    biased("lon = 2.1").check(
        "127.43.0.1",
        &[],
        expect!["lon [198.18.44.10 198.18.49.10] /16 nearest by database AT 1235 km"],
    );
    biased("fra = 0.48").check(
        "127.43.0.1",
        &[],
        expect!["lon [198.18.44.10 198.18.49.10] /16 nearest by database AT 1235 km"],
    );
}

/// Where weights share a place, bias and overrides still come before them.
#[test]
fn bias_and_overrides_part_one_place() {
    let biased = Fleet::new(
        "a 0.0 0.0 192.0.2.1\nb 0.0 0.0 192.0.2.2",
        "[geo]\ndefault_location = { latitude = 9.0, longitude = 0.0 }\n[geo.steering]\nanswers = 1\nbias = { b = 1.1 }",
        "",
    );
    let named = Fleet::new(
        "a 0.0 0.0 192.0.2.1\nb 0.0 0.0 192.0.2.2",
        "[geo.steering]\nanswers = 1\n[[geo.override]]\nprefixes = [\"11.0.0.0/8\"]\npop = \"b\"",
        "",
    );
    for client in 0..64 {
        let steered = named.ask(&format!("11.0.{client}.1"), Family::V4, &[]);
        assert_eq!((steered.pop.unwrap().as_str(), steered.reason), ("b", SteerReason::Override));
        assert_eq!(biased.ask(&format!("11.0.{client}.1"), Family::V4, &[]).pop.unwrap().as_str(), "b");
    }
}

#[test]
fn reserves_wait_for_the_end() {
    let fleet = Fleet::new(&WORLD.replace("198.18.49.10", "198.18.49.10 weight=0"), "[geo.steering]\nanswers = 5", "");
    fleet.check(
        "127.49.0.1",
        &[],
        expect!["lon [198.18.44.10 198.18.1.10 198.18.65.10 198.18.61.10] /16 nearest by database DE 931 km"],
    );
    let others = ["198.18.44.10", "198.18.1.10", "198.18.65.10", "198.18.61.10"];
    fleet.check("127.49.0.1", &others, expect!["fra [198.18.49.10] /16 reserve by database DE 423 km"]);
    fleet.check(
        "127.49.0.1",
        &[&others[..], &["198.18.49.10"]].concat(),
        expect!["lon [198.18.44.10 198.18.1.10 198.18.65.10 198.18.61.10] /16 all-down by database DE 931 km"],
    );
}

#[test]
fn equals_are_ordered_by_the_document() {
    let fleet = Fleet::new("west 0.0 -10.0 192.0.2.1\neast 0.0 10.0 192.0.2.2", AT_ZERO, "");
    assert_eq!(fleet.ask("8.8.8.8", Family::V4, &[]).pop.unwrap().as_str(), "west");
    let turned = Fleet::new("east 0.0 10.0 192.0.2.2\nwest 0.0 -10.0 192.0.2.1", AT_ZERO, "");
    assert_eq!(turned.ask("8.8.8.8", Family::V4, &[]).pop.unwrap().as_str(), "east");
}

const AT_ZERO: &str = "[geo]\ndefault_location = { latitude = 0.0, longitude = 0.0 }";

/// Which PoP or address each of 4,096 client prefixes gets first.
fn shares(fleet: &Fleet, down: &[&str]) -> BTreeMap<String, Vec<u32>> {
    let mut shares: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for client in 0..4_096_u32 {
        let steered = fleet.ask(&format!("11.{}.{}.7", client >> 8, client & 255), Family::V4, down);
        assert_eq!(steered.scope_prefix, 24);
        shares.entry(steered.addresses[0].to_string()).or_default().push(client);
    }
    shares
}

#[test]
fn pops_of_one_place_share_by_weight() {
    let fleet = Fleet::new("a 0.0 0.001 192.0.2.1 weight=300\nb 0.0 0.002 192.0.2.2\nc 1.0 1.0 192.0.2.3", AT_ZERO, "");
    let all = shares(&fleet, &[]);
    let (a, b) = (all["192.0.2.1"].len(), all["192.0.2.2"].len());
    assert_eq!(a + b, 4_096);
    // 3 : 1, within four standard deviations.
    assert!((b as f64 - 1_024.0).abs() < 111.0, "{a} {b}");
    // When one goes, the others keep theirs; what comes back is as before.
    let without_a = shares(&fleet, &["192.0.2.1"]);
    assert_eq!(without_a["192.0.2.2"].len(), 4_096);
    assert_eq!(shares(&fleet, &[]), all);
}

#[test]
fn shares_that_are_not_reached_do_not_lengthen_the_scope() {
    let pops = format!(
        "{WORLD}    akl -36.85 174.76 198.18.64.10\n    akm -36.85 174.76 198.18.64.11\n    twin -36.0 174.0 198.18.64.20 198.18.64.21\n"
    );
    let fleet = Fleet::new(&pops, "", "");
    fleet.check("127.49.0.1", &[], expect!["fra [198.18.49.10 198.18.44.10] /16 nearest by database DE 423 km"]);
    assert_eq!(fleet.ask("127.64.0.1", Family::V4, &[]).scope_prefix, 24);
}

#[test]
fn nodes_of_one_pop_share_evenly() {
    let fleet = Fleet::new("a 0.0 0.0 192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4", AT_ZERO, "");
    let all = shares(&fleet, &[]);
    assert_eq!(all.len(), 4);
    assert!(all.values().all(|clients| (clients.len() as f64 - 1_024.0).abs() < 111.0));
    // Only the clients of the dead node move.
    let fewer = shares(&fleet, &["192.0.2.2"]);
    for (address, clients) in &fewer {
        assert!(all[address].iter().all(|client| clients.contains(client)), "{address}");
    }
    assert_eq!(fewer.len(), 3);
}

#[test]
fn an_index_of_another_document_finds_nothing() {
    let fleet = Fleet::new(WORLD, "", "");
    let client = ClientPrefix::host(IpAddr::from([127, 49, 0, 1]));
    let steered =
        fleet.steering.answer(fleet.world.as_ref(), &client, SiteIndex(7), &HealthView::default(), Family::V4);
    assert_eq!((steered.addresses.len(), steered.reason), (0, SteerReason::NoAddress));
    assert_eq!(fleet.steering.site("absent"), None);
}

/// Any fleet with everything that may bear on a scope, in a space of addresses so small that prefixes meet.
fn any_fleet() -> impl Strategy<Value = (Fleet, Vec<String>)> {
    let pop =
        (-1..2_i32, -1..2_i32, prop::collection::vec(0..200_u8, 1..3), 0..3_u32, prop::option::of(0..5_usize), 0..4_u8);
    let net = (0..32_u32, 17..=32_u8).prop_map(|(part, len)| {
        ipnet::IpNet::new(IpAddr::from((0x7F31_0000 | part << 10).to_be_bytes()), len).unwrap().trunc()
    });
    let more = (
        prop::collection::vec((net.clone(), 0..5_usize, any::<bool>()), 0..5),
        prop::collection::vec((net, 0..4_usize), 1..5),
    );
    (prop::collection::vec(pop, 1..5), more, 1..4_usize, any::<bool>()).prop_map(
        |(pops, (overrides, records), answers, fenced)| {
            let count = pops.len();
            let (mut lines, mut down) = (String::new(), Vec::new());
            for (index, (latitude, longitude, nodes, weight, fallback, dead)) in pops.iter().enumerate() {
                lines += &format!("p{index} {latitude}.0 {longitude}.0");
                for node in 0..nodes.len() {
                    lines += &format!(" 192.0.{index}.{node}");
                    if *dead == 0 || (*dead == 1 && node == 0) {
                        down.push(format!("192.0.{index}.{node}"));
                    }
                }
                let fallback = fallback.filter(|other| other % count != index);
                lines += &fallback.map(|other| format!(" fallback=[\"p{}\"]", other % count)).unwrap_or_default();
                lines += &format!(" weight={weight}\n");
            }
            let mut more = "[geo]\ndefault_location = { latitude = 1.0, longitude = 2.0 }\n".to_owned();
            let mut named = Vec::new();
            for (net, pop, to_pop) in overrides {
                if !named.contains(&net) {
                    named.push(net);
                    let target = if to_pop {
                        format!("pop = \"p{}\"", pop % count)
                    } else {
                        "location = { latitude = -5.0, longitude = 3.0 }".into()
                    };
                    more += &format!("[[geo.override]]\nprefixes = [\"{net}\"]\n{target}\n");
                }
            }
            more += &format!("[geo.steering]\nanswers = {answers}\n");
            if fenced {
                more += "fence = { AA = [\"p0\"] }\n";
            }
            let mut rows: BTreeMap<String, String> = BTreeMap::new();
            for (net, place) in records {
                rows.insert(net.to_string(), ["AA,,-7,-7", "BB,,7,7", "AA,,,", ",,0.5,0.5"][place].to_owned());
            }
            let mut csv = "prefix,country,city,lat,lon\n127.48.0.0/24,AA,,1,1\n".to_owned();
            csv.extend(rows.iter().map(|(net, place)| format!("{net},{place}\n")));
            let database = GeoDatabase::from_source(build(csv.as_bytes()).unwrap()).unwrap();
            (Fleet { steering: Steering::new(&document(&lines, &more, "")), world: Some(database) }, down)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    /// RFC 7871 §7.2.1: whoever is inside the scope gets the same answer.
    #[test]
    fn scopes_are_truthful((fleet, down) in any_fleet(), client in 0..0x8000_u32, others: [u32; 8]) {
        let down: Vec<&str> = down.iter().map(String::as_str).collect();
        let client = 0x7F31_0000 | client;
        let text = |address: u32| IpAddr::from(address.to_be_bytes()).to_string();
        let answer = fleet.ask(&text(client), Family::V4, &down);
        prop_assert!(answer.scope_prefix <= 32);
        let host_bits = u32::MAX.checked_shr(u32::from(answer.scope_prefix)).unwrap_or(0);
        for other in others {
            // Some anywhere in the scope, some near by.
            for mask in [host_bits, host_bits & 0x7FFF, host_bits & 0xFF] {
                let other = (client & !mask) | (other & mask);
                let same = fleet.ask(&text(other), Family::V4, &down);
                prop_assert_eq!(&same.addresses, &answer.addresses, "{} {}/{}", text(other), text(client), answer.scope_prefix);
            }
        }
        // The truncated prefix asks for the same.
        if let Ok(prefix) = ipnet::IpNet::new(IpAddr::from(client.to_be_bytes()), answer.scope_prefix) {
            prop_assert_eq!(&fleet.ask(&prefix.to_string(), Family::V4, &down).addresses, &answer.addresses);
        }
        prop_assert!(!answer.addresses.is_empty() || answer.reason == SteerReason::Fenced);
    }

    /// Without weights, fences, overrides and deaths: the brute-force nearest by haversine.
    #[test]
    fn equals_brute_force(places in prop::collection::vec((-90.0..90.0_f64, -180.0..180.0_f64), 1..20), at in (-90.0..90.0_f64, -180.0..180.0_f64)) {
        let pops: String = places.iter().enumerate().map(|(index, (a, b))| format!("p{index} {a:.4} {b:.4} 192.0.2.{index}\n")).collect();
        let more = format!("[geo]\ndefault_location = {{ latitude = {:.4}, longitude = {:.4} }}", at.0, at.1);
        let document = document(&pops, &more, "");
        let fleet = Fleet { steering: Steering::new(&document), world: None };
        let from = document.geo.default_location.unwrap();
        let haversine = |to: perigee_protocol::model::Location| {
            let (p, q) = (from.latitude.to_radians(), to.latitude.to_radians());
            let half = |x: f64| (x / 2.0).sin().powi(2);
            (half(q - p) + p.cos() * q.cos() * half((to.longitude - from.longitude).to_radians())).sqrt().min(1.0).asin()
        };
        let nearest = document.pops.iter().min_by(|a, b| haversine(a.location).total_cmp(&haversine(b.location))).unwrap();
        prop_assert_eq!(fleet.ask("8.8.8.8", Family::V4, &[]).pop.unwrap(), &nearest.id);
    }
}
