//! Names that are a CNAME while none of their site's PoPs is up.

use perigee_geo::steer::{ClientPrefix, Family};

use super::*;
use crate::dnssec::{Algorithm, KeyRing, Life, Role, ZoneKey};

const DOWN: [&str; 3] = ["198.18.49.10", "2001:db8:49::10", "198.18.61.10"];

fn document(target: &str) -> String {
    let policy = format!("id = \"img\"\nall_down = {{ cname = \"{target}\" }}");
    // `www` is at the apex, where there can be no CNAME.
    format!("{DOCUMENT}{}", delegations())
        .replace("id = \"img\"", &policy)
        .replace("pops = [\"fra\", \"syd\", \"gru\"]", "pops = [\"fra\", \"syd\"]")
}

fn health(down: &[&str]) -> HealthView {
    HealthView::new(1, down.iter().map(|address| address.parse().unwrap()))
}

#[track_caller]
fn check_to(target: &str, ask: &Ask, down: &[&str], expected: &str) {
    let snapshot = snapshot_of(&document(target), |_| {});
    let mut out = Vec::new();
    let outcome = answer(&snapshot, GERMANY.parse().unwrap(), Transport::Udp, &ask.bytes(), &health(down), &mut out);
    assert_eq!(render(&out, &outcome), expected, "{target} {ask:?} without {down:?}");
}

#[test]
fn every_type_gets_the_cname_and_nothing_else() {
    let said = "NOERROR aa (all-down-cname)\nimg.cdn.example. 30 CNAME status.example.net.";
    for kind in [1, 28, 5, 255, 16, 65, 15] {
        check_to("status.example.net", &ask("img.cdn.example", kind), &DOWN, said);
    }
    // While one address lives there is none.
    check_to(
        "status.example.net",
        &ask("img.cdn.example", 1),
        &DOWN[1..],
        "NOERROR aa (nearest)\nimg.cdn.example. 30 A 198.18.49.10",
    );
    let soa = "authority cdn.example. 60 SOA ns1.cdn.example. host\\.master.cdn.example. 2026 3600 600 604800 60";
    let of_the_dead_family = ["198.18.49.10", "198.18.61.10"];
    check_to(
        "status.example.net",
        &ask("img.cdn.example", 1),
        &of_the_dead_family,
        &format!("NOERROR aa (all-down-nodata)\n{soa}"),
    );
    check_to(
        "status.example.net",
        &ask("img.cdn.example", 28),
        &of_the_dead_family,
        "NOERROR aa (nearest)\nimg.cdn.example. 30 AAAA 2001:db8:49::10",
    );
    check_to("status.example.net", &ask("img.cdn.example", 5), &[], &format!("NOERROR aa (no-data)\n{soa}"));
}

#[test]
fn it_is_followed_inside_the_zone() {
    check_to(
        "a.deep.name.cdn.example",
        &ask("img.cdn.example", 1),
        &DOWN,
        "NOERROR aa (all-down-cname)\nimg.cdn.example. 30 CNAME a.deep.name.cdn.example.\n\
         a.deep.name.cdn.example. 3600 A 192.0.2.1",
    );
    // Another site, whose PoPs are down too and answered all the same; asked through an alias.
    check_to(
        "www.cdn.example",
        &ask("img.cdn.example", 28),
        &DOWN,
        "NOERROR aa (all-down-cname)\nimg.cdn.example. 30 CNAME www.cdn.example.\n\
         www.cdn.example. 30 AAAA 2001:db8:49::10",
    );
    let soa = "authority cdn.example. 60 SOA ns1.cdn.example. host\\.master.cdn.example. 2026 3600 600 604800 60";
    check_to(
        "nobody.cdn.example",
        &ask("img.cdn.example", 1),
        &DOWN,
        &format!("NXDOMAIN aa (all-down-cname)\nimg.cdn.example. 30 CNAME nobody.cdn.example.\n{soa}"),
    );
    // In a circle, which ends.
    check_to(
        "circle.cdn.example",
        &ask("img.cdn.example", 1),
        &DOWN,
        "NOERROR aa (all-down-cname)\nimg.cdn.example. 30 CNAME circle.cdn.example.\n\
         circle.cdn.example. 3600 CNAME circle2.cdn.example.\ncircle2.cdn.example. 3600 CNAME circle.cdn.example.",
    );
}

#[test]
fn the_scope_is_of_all_that_was_looked_at() {
    let scope = |target: &str, name: &'static str, down: &[&str]| {
        let snapshot = snapshot_of(&document(target), |_| {});
        let mut out = Vec::new();
        let message = ask(name, 1).subnet(&[0, 1, 24, 0, 127, 49, 9]).bytes();
        let outcome = answer(&snapshot, GERMANY.parse().unwrap(), Transport::Udp, &message, &health(down), &mut out);
        render(&out, &outcome).rsplit('/').next().unwrap().to_owned()
    };
    // There are fences by country.
    assert_eq!(scope("status.example.net", "img.cdn.example", &DOWN), "16");
    assert_eq!(scope("a.deep.name.cdn.example", "img.cdn.example", &DOWN), "16");
    assert_eq!(scope("www.cdn.example", "img.cdn.example", &DOWN), "16");
    assert_eq!(scope("status.example.net", "a.deep.name.cdn.example", &DOWN), "0");
}

#[test]
fn it_is_signed() {
    let always = Life { publish_s: 0, activate_s: 0, retire_s: None, remove_s: None };
    let key = ZoneKey::new(Algorithm::Ed25519, &[9; 32], Role::Csk, always).unwrap();
    let snapshot =
        snapshot_signed(&document("a.deep.name.cdn.example"), KeyRing::new(vec![key]).at(NOW_MS / 1_000).unwrap());
    let mut out = Vec::new();
    let message = ask("img.cdn.example", 1).opt(1232, 0x8000, &[]).bytes();
    answer(&snapshot, GERMANY.parse().unwrap(), Transport::Tcp, &message, &health(&DOWN), &mut out);
    let message = Message::from_vec(&out).unwrap();
    super::signed::check_section(&message.answers, &[]);
    let kinds: Vec<String> = message.answers.iter().map(|record| record.record_type().to_string()).collect();
    assert_eq!(kinds, ["CNAME", "RRSIG", "A", "RRSIG"]);
    assert!(message.authorities.is_empty());
}

#[test]
fn it_is_explained() {
    let snapshot = snapshot_of(&document("status.example.net"), |_| {});
    let client = ClientPrefix::host(GERMANY.parse().unwrap());
    let explained = snapshot.explain("img.cdn.example", &client, &health(&DOWN), Family::V4).unwrap();
    let first = explained.lines().swap_remove(0);
    assert_eq!(first, "answer: img.cdn.example A CNAME status.example.net, TTL 30s, all-down-cname");
}

#[test]
fn where_other_records_are_there_is_no_zone() {
    let text = document("status.example.net");
    let mut document = document::load("test.toml", &text).unwrap();
    document.records[0].name = "img.cdn.example".into();
    let steering = perigee_geo::steer::Steering::new(&document);
    let error = crate::Zone::new(&document, &Default::default(), &steering, 1, None).unwrap_err();
    assert!(error.to_string().contains("img.cdn.example"), "{error}");
}

#[test]
fn a_pop_whose_ipv6_is_dead_answers_a_and_explains_so() {
    let down = ["2001:db8:49::10"];
    let www = |kind| ask("www.cdn.example", kind);
    let (_, a) = reply_to(&www(1).bytes(), GERMANY, Transport::Udp, &health(&down));
    assert!(a.starts_with("NOERROR aa (nearest)\nwww.cdn.example. 30 A 198.18.49.10\n"), "{a}");
    let explained = |family| {
        let snapshot = snapshot();
        let client = ClientPrefix::host(GERMANY.parse().unwrap());
        snapshot.explain("www.cdn.example", &client, &health(&down), family).unwrap().lines().swap_remove(3)
    };
    assert_eq!(explained(Family::V4), "1. fra: 423 km, weight 100, 198.18.49.10 up: answered");
    // The only one with IPv6, so that all are down, and the default policy answers it.
    assert_eq!(explained(Family::V6), "1. fra: 423 km, weight 100, 2001:db8:49::10 down: answered");
}
