//! Overrides and fences by autonomous system; in the demo's world the country of telephone code N is AS 64512 + N.

use super::*;

fn fleet(more: &str) -> Fleet {
    let systems = AsnDatabase::from_source(build(demo_world(DemoBase::Loopback).as_bytes()).unwrap()).unwrap();
    let document = document(WORLD, &format!("[geo]\nasn_database = \"asn.mmdb\"\n{more}"), "");
    Fleet { steering: Steering::with_systems(&document, Some(&systems)), world: Some(world()) }
}

#[test]
fn overrides() {
    let fleet = fleet(
        "[[geo.override]]\nasn = [64561, 64593]\npop = \"nyc\"\n\
         [[geo.override]]\nprefixes = [\"127.49.9.0/24\"]\npop = \"syd\"\n\
         [[geo.override]]\nasn = [64573]\nlocation = { latitude = 1.0, longitude = 103.0 }\n\
         [geo.steering]\nanswers = 1",
    );
    fleet.check("127.49.0.1", &[], expect!["nyc [198.18.1.10] /21 override by override DE 0 km"]);
    fleet.check("127.81.0.1", &[], expect!["nyc [198.18.1.10] /16 override by override JP 0 km"]);
    fleet.check("127.61.0.1", &[], expect!["sin [198.18.65.10] /16 nearest by override AU 99 km"]);
    // A prefix goes before the system around it.
    fleet.check("127.49.9.1", &[], expect!["syd [198.18.61.10] /24 override by override DE 0 km"]);
    // Of no system that is named: as far as the nearest of those.
    fleet.check("127.48.0.1", &[], expect!["fra [198.18.49.10] /16 nearest by database PL 890 km"]);
    fleet.check("8.8.8.8", &[], expect!["fra [198.18.49.10] /2 nearest by default - 0 km"]);
    fleet.check("127.49.0.1", &["198.18.1.10"], expect!["lon [198.18.44.10] /21 next-nearest by override DE 5570 km"]);
}

#[test]
fn fences() {
    let fleet = fleet(
        "[geo.steering]\nanswers = 1\nfence = { AS64561 = [\"lon\"], DE = [\"syd\"], AS64593 = [], \"continent:AS\" = [\"nyc\"], \
         \"*\" = [\"fra\", \"syd\"] }",
    );
    // System before country before continent before the others.
    fleet.check("127.49.0.1", &[], expect!["lon [198.18.44.10] /16 nearest by database DE 931 km"]);
    fleet.check("127.81.0.1", &[], expect!["sin [198.18.65.10] /16 nearest by database JP 5314 km"]);
    fleet.check("127.82.0.1", &[], expect!["nyc [198.18.1.10] /16 nearest by database KR 11052 km"]);
    fleet.check("127.44.0.1", &[], expect!["fra [198.18.49.10] /16 nearest by database GB 638 km"]);
    fleet.check("127.0.0.1", &[], expect!["fra [198.18.49.10] /16 nearest by default - 0 km"]);
    fleet.check("127.49.0.1", &["198.18.44.10"], expect!["lon [198.18.44.10] /16 all-down by database DE 931 km"]);
    fleet.check_v6("127.49.0.1", &[], expect!["- [] /16 fenced by database DE - km"]);
    let without = Fleet {
        steering: Steering::new(&document(
            WORLD,
            "[geo]\nasn_database = \"a\"\n[geo.steering]\nanswers = 1\nfence = { AS64561 = [\"lon\"] }",
            "",
        )),
        world: Some(world()),
    };
    // As long as no database tells who is in it, nobody is.
    without.check("127.49.0.1", &[], expect!["fra [198.18.49.10] /16 nearest by database DE 423 km"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// RFC 7871 §7.2.1: whoever is inside a scope gets the same answer.
    #[test]
    fn scopes_are_true(
        networks in prop::collection::vec((any::<u16>(), 8..=24_u8, 1..6_u32), 1..20),
        cities in prop::collection::vec((any::<u16>(), 8..=20_u8, -80..80_i8), 0..10),
        // How a system is meant: by an override, a fence, both, or not at all.
        rules in prop::collection::vec((0..5_usize, 0..4_u8), 5),
        clients in prop::collection::vec((any::<u16>(), any::<u32>()), 40),
    ) {
        let mut csv = "prefix,asn\n".to_owned();
        let mut known = Vec::new();
        for (start, len, asn) in networks {
            let net = ipnet::IpNet::new(std::net::Ipv4Addr::from_bits(u32::from(start) << 16 | u32::from(start)).into(), len).unwrap().trunc();
            if !known.contains(&net) {
                csv += &format!("{net},{asn}\n");
                known.push(net);
            }
        }
        let systems = AsnDatabase::from_source(build(csv.as_bytes()).unwrap()).unwrap();
        let mut world = "prefix,country,lat,lon\n0.0.0.0/32,DE,50,8\n".to_owned();
        let mut known = Vec::new();
        for (start, len, latitude) in cities {
            let net = ipnet::IpNet::new(std::net::Ipv4Addr::from_bits(u32::from(start) << 16).into(), len).unwrap().trunc();
            if !known.contains(&net) && net.prefix_len() < 32 {
                world += &format!("{net},JP,{latitude},100\n");
                known.push(net);
            }
        }
        let world = GeoDatabase::from_source(build(world.as_bytes()).unwrap()).unwrap();
        let pops = ["fra", "lon", "nyc", "sin", "syd"];
        let (mut overrides, mut fences) = (String::new(), String::new());
        for (asn, (pop, rule)) in rules.iter().enumerate() {
            if rule & 1 != 0 {
                overrides += &format!("[[geo.override]]\nasn = [{}]\npop = \"{}\"\n", asn + 1, pops[*pop]);
            }
            if rule & 2 != 0 {
                fences += &format!("AS{} = [\"{}\", \"{}\"], ", asn + 1, pops[*pop], pops[(pop + 1) % 5]);
            }
        }
        let more = format!("[geo]\nasn_database = \"a\"\n{overrides}[geo.steering]\nfence = {{ {fences}JP = [\"sin\"] }}\n");
        let fleet = Fleet { steering: Steering::with_systems(&document(WORLD, &more, ""), Some(&systems)), world: Some(world) };
        let health = HealthView::new(1, []);
        let mut builder = fleet.steering.table(&health);
        while builder.step(fleet.world.as_ref(), 1_000) == Step::More {}
        let table = builder.finish();
        let site = fleet.steering.site("www").unwrap();
        let by_table = |client: std::net::Ipv4Addr| {
            let client = ClientPrefix::host(client.into());
            fleet.steering.answer_by(Some(&table), fleet.world.as_ref(), &client, site, &health, Family::V4)
        };
        for (part, random) in clients {
            // Near the edges of networks, and anywhere in the scope.
            let client = std::net::Ipv4Addr::from_bits(u32::from(part) << 16 | u32::from(part));
            let told = fleet.ask(&client.to_string(), Family::V4, &[]);
            let mask = u32::MAX.checked_shr(told.scope_prefix.into()).unwrap_or(0);
            let other = std::net::Ipv4Addr::from_bits(client.to_bits() & !mask | random & mask);
            let others = fleet.ask(&other.to_string(), Family::V4, &[]);
            prop_assert_eq!(told.addresses, others.addresses, "{} /{} {}", client, told.scope_prefix, other);
            prop_assert_eq!(told.scope_prefix, others.scope_prefix);
            // With neighbours of one answer merged, too.
            let merged = by_table(client);
            prop_assert_eq!((told.addresses, told.pop), (merged.addresses, merged.pop));
            prop_assert!(merged.scope_prefix <= told.scope_prefix, "{} /{}", client, merged.scope_prefix);
            let mask = u32::MAX.checked_shr(merged.scope_prefix.into()).unwrap_or(0);
            let other = std::net::Ipv4Addr::from_bits(client.to_bits() & !mask | random & mask);
            prop_assert_eq!(by_table(other).addresses, merged.addresses, "{} /{}", client, merged.scope_prefix);
        }
    }
}
