//! Answers made ahead are those that would be made now, and their scopes are the shortest that are true.

use super::*;

fn table_of(fleet: &Fleet, health: &HealthView, blocks: usize) -> AnswerTable {
    let mut builder = fleet.steering.table(health);
    while builder.step(fleet.world.as_ref(), blocks) == Step::More {}
    builder.finish()
}

fn health(down: &[&str]) -> HealthView {
    HealthView::new(1, down.iter().map(|address| address.parse().unwrap()))
}

impl Fleet {
    fn ask_by(&self, table: &AnswerTable, client: &str, family: Family, down: &[&str]) -> Steered<'_> {
        let client = ClientPrefix::host(client.parse().unwrap());
        let site = self.steering.site("www").unwrap();
        self.steering.answer_by(Some(table), self.world.as_ref(), &client, site, &health(down), family)
    }

    /// What is answered by a table, which is what is answered without; the scope may be shorter.
    fn check_by(&self, table: &AnswerTable, client: &str, down: &[&str], expected: Expect) {
        let (by, plain) = (self.ask_by(table, client, Family::V4, down), self.ask(client, Family::V4, down));
        assert_eq!(
            (&by.addresses, by.pop, by.reason, by.source, by.country),
            (&plain.addresses, plain.pop, plain.reason, plain.source, plain.country),
            "{client}"
        );
        assert!(by.scope_prefix <= plain.scope_prefix, "{client}");
        let pop = by.pop.map_or("-", |pop| pop.as_str());
        expected.assert_eq(&format!("{pop} /{} instead of /{}", by.scope_prefix, plain.scope_prefix));
    }
}

#[test]
fn neighbours_of_one_answer_are_one_scope() {
    let fleet = Fleet::new(WORLD, "[geo.steering]\nanswers = 1", "");
    let table = table_of(&fleet, &health(&[]), 1_000);
    // 127.30 to 127.39 are Greece to Italy, in the countries' order: the Netherlands and others are nearer to London.
    fleet.check_by(&table, "127.49.0.1", &[], expect!["fra /15 instead of /16"]);
    fleet.check_by(&table, "127.64.0.1", &[], expect!["syd /16 instead of /16"]);
    fleet.check_by(&table, "8.8.8.8", &[], expect!["fra /2 instead of /2"]);
    fleet.check_by(&table, "200.8.8.8", &[], expect!["fra /1 instead of /1"]);
    fleet.check_by(&table, "::ffff:127.64.0.1", &[], expect!["syd /112 instead of /112"]);
    assert_eq!(table.figures().left_out, 0);

    // With all but one down everybody is answered the same.
    let down = ["198.18.44.10", "198.18.1.10", "198.18.65.10", "198.18.61.10"];
    let one = table_of(&fleet, &health(&down), 1_000);
    fleet.check_by(&one, "127.61.0.1", &down, expect!["fra /0 instead of /16"]);
    // Of other health, a table is of no use.
    let other = HealthView::new(2, []);
    assert!(one.is_of(&health(&down)) && !one.is_of(&other));
    let client = ClientPrefix::host("127.61.0.1".parse().unwrap());
    assert_eq!(one.scope(&client, fleet.steering.site("www").unwrap(), &other, Family::V4), None);
}

#[test]
fn shares_keep_their_own_scope() {
    let pops = format!("{WORLD}    syn -33.87 151.21 198.18.61.11\n");
    let fleet = Fleet::new(&pops, "[geo.steering]\nanswers = 1", "");
    let table = table_of(&fleet, &health(&[]), 1_000);
    fleet.check_by(&table, "127.49.0.1", &[], expect!["fra /15 instead of /16"]);
    let shared = fleet.ask_by(&table, "127.64.0.1", Family::V4, &[]);
    assert_eq!(shared.scope_prefix, 24);
}

#[test]
fn sites_alike_are_made_once() {
    let mut document = document(WORLD, "", "");
    let first = document.sites[0].clone();
    for (id, pops) in [("more", None), ("less", Some(vec!["fra".parse().unwrap()]))] {
        document.sites.push(model::Site { id: id.parse().unwrap(), pops, ..first.clone() });
    }
    let fleet = Fleet { steering: Steering::new(&document), world: Some(world()) };
    let table = table_of(&fleet, &health(&[]), 1_000);
    // A and AAAA of all PoPs, and both of one that has both.
    assert_eq!((table.figures().kinds, table.figures().left_out), (3, 0));
}

/// Where every PoP has both families, AAAA is answered from the same PoPs, and is made with A.
#[test]
fn both_families_are_made_at_once() {
    let pops: String = WORLD
        .lines()
        .filter(|line| !line.trim().is_empty())
        .enumerate()
        .map(|(index, line)| {
            format!(
                "{} 198.18.99.{index} 2001:db8:{index}::1 2001:db8:{index}::2\n",
                line.split("2001:").next().unwrap()
            )
        })
        .collect();
    let fleet = Fleet::new(&pops, "[geo.steering]\nanswers = 2", "");
    for (down, kinds) in [
        // Two nodes of a PoP share its clients; one does not.
        (&[][..], 1),
        (&["198.18.99.0", "198.18.99.1", "198.18.99.2", "2001:db8::2", "2001:db8:1::2", "2001:db8:2::2"], 1),
        (&["198.18.49.10", "198.18.99.1", "198.18.99.2", "2001:db8::1", "2001:db8:1::2", "2001:db8:2::2"], 1),
        (&["198.18.49.10", "198.18.99.1", "198.18.99.2", "2001:db8::2", "2001:db8:1::2", "2001:db8:2::2"], 2),
        (&["198.18.49.10", "198.18.99.0", "198.18.99.1", "198.18.99.2"], 2),
    ] {
        let table = table_of(&fleet, &health(down), 1_000);
        assert_eq!(table.figures().kinds, kinds, "{down:?}");
        for client in (0..256).map(|country| format!("127.{country}.0.1")).chain(["2001:db8:77::1".to_owned()]) {
            for family in [Family::V4, Family::V6] {
                let (by, plain) = (fleet.ask_by(&table, &client, family, down), fleet.ask(&client, family, down));
                assert_eq!((by.addresses, by.pop, by.reason), (plain.addresses, plain.pop, plain.reason), "{client}");
                assert!(by.scope_prefix <= plain.scope_prefix);
            }
        }
    }
}

#[test]
fn without_candidates_there_is_nothing_to_make() {
    let fleet = Fleet::new("only 0.0 0.0 2001:db8::1", "", "");
    let table = table_of(&fleet, &health(&[]), 1_000);
    assert_eq!(table.figures().kinds, 1);
    let steered = fleet.ask_by(&table, "127.49.0.1", Family::V4, &[]);
    assert_eq!((steered.reason, steered.scope_prefix), (SteerReason::NoAddress, 0));
}

/// Steps of any size make the same.
#[test]
fn steps_are_of_any_size() {
    let fleet = Fleet::new(WORLD, "", "");
    let whole = table_of(&fleet, &health(&[]), usize::MAX);
    assert_eq!(table_of(&fleet, &health(&[]), 1).figures(), whole.figures());
    assert!(whole.figures().blocks > 60, "{:?}", whole.figures());
}

#[test]
fn ipv6_is_made_by_its_first_64_bits() {
    let overrides = r#"
[[geo.override]]
prefixes = ["2a00::/16", "2400:1::/32", "2002:102::/32"]
pop = "syd"
[[geo.override]]
prefixes = ["2400:2:3:4:5::/80"]
pop = "sin"
"#;
    let fleet = Fleet::new(WORLD, overrides, "");
    let table = table_of(&fleet, &health(&[]), 1_000);
    let check = |client: &str, expected: Expect| {
        fleet.check_by(&table, client, &[], expected);
    };
    check("2a00::1", expect!["syd /16 instead of /16"]);
    check("2400:1::1", expect!["syd /32 instead of /32"]);
    check("2400:2:3:4:5::1", expect!["sin /80 instead of /80"]);
    check("2400:2:3:4:6::1", expect!["fra /79 instead of /79"]);
    check("2400:2:3:5::1", expect!["fra /64 instead of /64"]);
    check("8000::1", expect!["fra /1 instead of /1"]);
    // 6to4 and the mapped ones are led into IPv4 by databases: their own prefixes are told, and no scope holds them.
    check("2002:102::1", expect!["syd /32 instead of /32"]);
    check("2003::1", expect!["fra /16 instead of /16"]);
    check("::1", expect!["fra /98 instead of /98"]);
}

/// Addresses such that each stretch between the cuts of [`any_fleet`] has its first and its last among them.
fn representatives() -> Vec<u32> {
    let mut points = vec![0, 0x7F30_0000, 0x7F30_00FF, 0x7F30_0100, 0x7F31_0000 - 1, 0x7F31_8000, u32::MAX];
    for part in 0..32_u32 {
        let base = 0x7F31_0000 | part << 10;
        points.extend((0..=10).flat_map(|bits| [base + (1 << bits) - 1, base + (1 << bits)]));
        points.extend([base, base - 1]);
    }
    points.sort_unstable();
    points.dedup();
    points
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// RFC 7871 §7.2.1: whoever is inside the scope gets the same answer; and no shorter one would do.
    #[test]
    fn scopes_are_the_shortest_that_are_true((fleet, down) in any_fleet(), clients: [u16; 12]) {
        let down: Vec<&str> = down.iter().map(String::as_str).collect();
        let table = table_of(&fleet, &health(&down), 1_000);
        let text = |address: u32| IpAddr::from(address.to_be_bytes()).to_string();
        let site = fleet.steering.site("www").unwrap();
        let client_of = |address: u32| ClientPrefix::host(IpAddr::from(address.to_be_bytes()));
        let points: Vec<_> = representatives().into_iter().map(|point| {
            let told = fleet.steering.explain(fleet.world.as_ref(), &client_of(point), site, &health(&down), Family::V4);
            // Then it is known of a /24 only.
            (point, told.steered, told.scope.iter().any(|(source, _)| *source == ScopeSource::Share))
        }).collect();
        for client in clients {
            let client = 0x7F31_0000 | u32::from(client >> 1);
            let (plain, by) = (fleet.ask(&text(client), Family::V4, &down), fleet.ask_by(&table, &text(client), Family::V4, &down));
            prop_assert_eq!(
                (&by.addresses, by.pop, by.reason, by.source, by.country),
                (&plain.addresses, plain.pop, plain.reason, plain.source, plain.country)
            );
            let inside = |bits: u8| {
                let host = u32::MAX.checked_shr(bits.into()).unwrap_or(0);
                points.iter().filter(move |(point, ..)| point & !host == client & !host)
            };
            for (point, other, _) in inside(by.scope_prefix) {
                prop_assert_eq!(&other.addresses, &by.addresses, "{} is in {}/{}", text(*point), text(client), by.scope_prefix);
                let its = fleet.ask_by(&table, &text(*point), Family::V4, &down);
                // Scopes do not overlap (RFC 7871 §7.3.1).
                prop_assert_eq!(its.scope_prefix, by.scope_prefix, "{} and {}", text(*point), text(client));
            }
            if table.scope(&client_of(client), site, &health(&down), Family::V4).is_some_and(|bits| bits > 0) {
                let differs = inside(by.scope_prefix - 1).any(|(_, other, by_share)| *by_share || other.addresses != by.addresses);
                prop_assert!(differs, "{}/{} could be shorter", text(client), by.scope_prefix);
            }
        }
    }
}
