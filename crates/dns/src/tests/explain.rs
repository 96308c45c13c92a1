//! `_why.NAME`, and the same to callers.

use perigee_geo::steer::{ClientPrefix, Family};

use super::*;

const WHY_GERMANY: &str = "\
NOERROR aa (why)
_why.www.cdn.example. 0 TXT answer: www.cdn.example A 198.18.49.10 198.18.61.10, TTL 30s, nearest from fra
_why.www.cdn.example. 0 TXT client: 127.49.0.1 at 52.5200 13.4000 by database, country DE
_why.www.cdn.example. 0 TXT scope: /16 by country /16, place /16
_why.www.cdn.example. 0 TXT 1. fra: 423 km, weight 100, 198.18.49.10 up: answered
_why.www.cdn.example. 0 TXT 2. syd: 16095 km, weight 100, 198.18.61.10 up: answered
_why.www.cdn.example. 0 TXT 3. gru: 10246 km, weight 100, 198.18.55.10 up: dropped by site";

#[track_caller]
fn check_from(from: &str, ask: &Ask, expected: &str) {
    let (_, text) = reply_to(&ask.bytes(), from, Transport::Tcp, &HealthView::default());
    assert_eq!(text, expected, "{from} {ask:?}");
}

#[test]
fn the_listed_may_ask_why() {
    check_from(GERMANY, &ask("_why.www.cdn.example", 16), WHY_GERMANY);
    check_from(GERMANY, &ask("_WHY.WWW.cdn.example", 16), &WHY_GERMANY.replace("_why.www", "_WHY.WWW"));
    // The name after the zone's CNAMEs.
    check_from(GERMANY, &ask("_why.assets.cdn.example", 16), &WHY_GERMANY.replace("_why.www", "_why.assets"));
    let (_, v6) = reply_to(&ask("_why6.www.cdn.example", 16).bytes(), GERMANY, Transport::Tcp, &HealthView::default());
    assert!(
        v6.contains("AAAA 2001:db8:49::10, TTL 30s") && v6.contains("syd: 16095 km, weight 100: dropped by family"),
        "{v6}"
    );
}

#[test]
fn for_the_client_that_the_query_tells_of() {
    // 127.61.0.0/16
    let from_australia = ask("_why.www.cdn.example", 16).subnet(&[0, 1, 16, 0, 127, 61]);
    let (_, told) = reply_to(&from_australia.bytes(), GERMANY, Transport::Tcp, &HealthView::default());
    assert!(told.contains("client: 127.61.0.0 at -35.2800 149.1300 by database, country AU"), "{told}");
    assert!(told.contains("127.61.0.0/16/16"), "{told}");
}

#[test]
fn to_all_others_it_is_a_name_that_is_not_there() {
    let soa = "\nauthority cdn.example. 60 SOA ns1.cdn.example. host\\.master.cdn.example. 2026 3600 600 604800 60";
    let nothing = |reason: &str| format!("{reason}{soa}");
    let why = ask("_why.www.cdn.example", 16);
    check_from("127.61.0.1", &why, &nothing("NXDOMAIN aa (nx-domain)"));
    check_from("192.0.2.1", &why, &nothing("NXDOMAIN aa (nx-domain)"));
    for name in ["_why.mail.cdn.example", "_why.nobody.cdn.example", "_why.cdn.example.other", "a._why.www.cdn.example"]
    {
        let (_, told) = reply_to(&ask(name, 16).bytes(), GERMANY, Transport::Tcp, &HealthView::default());
        assert!(!told.contains("TXT"), "{name}: {told}");
    }
    check_from(GERMANY, &ask("_why.www.cdn.example", 1), &nothing("NXDOMAIN aa (nx-domain)"));
}

#[test]
fn what_is_not_steered_has_no_explanation() {
    let snapshot = snapshot();
    let client = ClientPrefix::host(GERMANY.parse().unwrap());
    let check = |name: &str, expected: &str| {
        let told = snapshot.explain(name, &client, &HealthView::default(), Family::V4);
        let told = told.map_or_else(|error| error.to_string(), |told| told.name.to_string());
        assert!(told.contains(expected), "{name}: {told}");
    };
    check("www.cdn.example", "www.cdn.example");
    check("WWW.cdn.example.", "www.cdn.example");
    check("cdn.example", "cdn.example");
    check("assets.cdn.example", "www.cdn.example");
    check("mail.cdn.example", "mail.cdn.example is not steered");
    check("circle.cdn.example", "is not steered");
    check("nobody.cdn.example", "nobody.cdn.example is not there (NXDOMAIN)");
    check("www.example.com", "www.example.com is not in the zone cdn.example");
    check("leaves.cdn.example", "leaves.cdn.example is not in the zone");
    check("x.sub.cdn.example", "is not in the zone");
    check("a..b", "is no domain name");
}
