//! Steered names: where clients are sent, and the ECS scope of it.

use super::*;

#[track_caller]
fn check_from(from: &str, ask: &Ask, down: &[&str], expected: &str) {
    let health = HealthView::new(1, down.iter().map(|address| address.parse::<IpAddr>().unwrap()));
    let (_, text) = reply_to(&ask.bytes(), from, Transport::Udp, &health);
    // The SOA of NODATA is told elsewhere.
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("authority")).collect();
    assert_eq!(lines.join("\n"), expected, "{from} {ask:?} without {down:?}");
}

fn www() -> Ask {
    ask("www.cdn.example", 1)
}

const FRA_FIRST: &str = "NOERROR aa (nearest)\nwww.cdn.example. 30 A 198.18.49.10\nwww.cdn.example. 30 A 198.18.61.10";
const SYD_FIRST: &str = "NOERROR aa (nearest)\nwww.cdn.example. 30 A 198.18.61.10\nwww.cdn.example. 30 A 198.18.49.10";

#[test]
fn by_the_address_of_who_asks() {
    check_from("127.49.0.1", &www(), &[], FRA_FIRST);
    check_from("127.61.0.1", &www(), &[], SYD_FIRST);
    check_from("::ffff:127.61.0.1", &www(), &[], SYD_FIRST);
    check_from("2001:db8:61::1", &www(), &[], SYD_FIRST);
    // Known to nobody: where the first PoP is.
    check_from("192.0.2.1", &www(), &[], FRA_FIRST);
    check_from("203.0.113.9", &www(), &[], &SYD_FIRST.replace("nearest", "override"));
}

#[test]
fn families_and_names() {
    check_from(
        "127.49.0.1",
        &ask("www.cdn.example", 28),
        &[],
        "NOERROR aa (nearest)\nwww.cdn.example. 30 AAAA 2001:db8:49::10",
    );
    check_from("127.61.0.1", &ask("cdn.example", 1), &[], &SYD_FIRST.replace("www.", ""));
    check_from(
        "127.55.0.1",
        &ask("img.cdn.example", 1),
        &[],
        "NOERROR aa (nearest)\nimg.cdn.example. 30 A 198.18.55.10\nimg.cdn.example. 30 A 198.18.49.10",
    );
}

#[test]
fn who_is_down_is_not_answered() {
    check_from("127.49.0.1", &www(), &["198.18.49.10"], "NOERROR aa (fallback)\nwww.cdn.example. 30 A 198.18.61.10");
    check_from(
        "127.61.0.1",
        &www(),
        &["198.18.61.10"],
        "NOERROR aa (next-nearest)\nwww.cdn.example. 30 A 198.18.49.10",
    );
    check_from("127.49.0.1", &www(), &["198.18.49.10", "198.18.61.10"], &FRA_FIRST.replace("nearest", "all-down"));
}

#[test]
fn fences_hold() {
    check_from("127.86.0.1", &www(), &[], "NOERROR aa (nearest)\nwww.cdn.example. 30 A 198.18.61.10");
    check_from("127.85.0.1", &www(), &[], "NOERROR aa (fenced)");
}

#[test]
fn client_subnets() {
    let subnet = |data: &[u8], first: &str, told: &str| {
        check_from("127.49.0.1", &www().subnet(data), &[], &format!("{first}\nopt v0 1232 {told}"));
    };
    subnet(&[0, 1, 24, 0, 127, 61, 9], SYD_FIRST, "127.61.9.0/24/16");
    subnet(&[0, 1, 32, 0, 127, 61, 9, 1], SYD_FIRST, "127.61.9.1/32/16");
    // Longer than asked with: RFC 7871 §7.2.1 allows it, and shorter would be a lie.
    subnet(&[0, 1, 8, 0, 127], FRA_FIRST, "127.0.0.0/8/11");
    subnet(&[0, 1, 24, 0, 203, 0, 113], &SYD_FIRST.replace("nearest", "override"), "203.0.113.0/24/24");
    subnet(&[0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 0, 0x61, 0], SYD_FIRST, "2001:db8:61::/56/48");
    // Opted out (§7.1.2): by who asks, and scope 0.
    subnet(&[0, 1, 0, 0], FRA_FIRST, "0.0.0.0/0/0");
    subnet(&[0, 2, 0, 0], FRA_FIRST, "::/0/0");
}

#[test]
fn answers_that_do_not_depend_on_the_client_have_scope_0() {
    let data = [0, 1, 24, 0, 127, 61, 9];
    let told = "opt v0 1232 127.61.9.0/24/0";
    check_from(
        "127.49.0.1",
        &ask("ns1.cdn.example", 1).subnet(&data),
        &[],
        &format!("NOERROR aa (static)\nns1.cdn.example. 3600 A 198.18.0.53\n{told}"),
    );
    check_from(
        "127.49.0.1",
        &ask("nobody.cdn.example", 1).subnet(&data),
        &[],
        &format!("NXDOMAIN aa (nx-domain)\n{told}"),
    );
    check_from(
        "127.49.0.1",
        &ask("other.example", 1).subnet(&data),
        &[],
        &format!("REFUSED (out-of-zone)\n{told} ede=20"),
    );
}

#[test]
fn the_outcome_tells_where_to() {
    let snapshot = snapshot();
    let mut out = Vec::new();
    let outcome = answer(
        &snapshot,
        "127.61.0.1".parse().unwrap(),
        Transport::Tcp,
        &www().bytes(),
        &HealthView::default(),
        &mut out,
    );
    let steered = outcome.steered.unwrap();
    assert_eq!(steered.pop.map(|pop| pop.as_str()), Some("syd"));
    assert_eq!((steered.country.map(|country| country.to_string()).as_deref(), steered.scope), (Some("AU"), 16));
}

#[test]
fn as_many_addresses_as_fit_are_an_answer() {
    let zone = format!("{0}.{0}.{0}.example", "z".repeat(60));
    let addresses: Vec<String> = (0..15).map(|host| format!("\"2001:db8:49::{host:x}\"")).collect();
    let text = DOCUMENT.split("[[zone.record]]").next().unwrap().replace("cdn.example", &zone);
    let text = text.replace("\"2001:db8:49::10\"", &addresses.join(", ")).replace("answers = 2", "answers = 16");
    let snapshot = snapshot_of(&text, |_| {});
    let count = |transport| {
        let mut message = ask("", 28).bytes();
        let name = [&b"\x03www"[..], &[&[60][..], &[b'z'; 60]].concat().repeat(3), b"\x07example"].concat();
        message.splice(12..12, name);
        let mut out = Vec::new();
        let outcome =
            answer(&snapshot, GERMANY.parse().unwrap(), transport, &message, &HealthView::default(), &mut out);
        assert!(!outcome.truncated);
        (out.len() <= 512, Message::from_vec(&out).unwrap().answers.len())
    };
    let room = 512 - (12 + 4 + 3 * 61 + 9 + 4);
    assert_eq!(count(Transport::Udp), (true, room / 28));
    assert_eq!(count(Transport::Tcp), (false, 15));
}

#[test]
fn sites_with_tls_say_how_to_reach_them() {
    let text = DOCUMENT.replace("id = \"img\"", "id = \"img\"\ntls = { certificate = \"c\", key = \"k\" }");
    let snapshot = snapshot_of(&text, |_| {});
    let said = |name: &'static str, from: &str| {
        let mut out = Vec::new();
        let message = ask(name, 65).subnet(&[0, 1, 24, 0, 127, 55, 0]).bytes();
        let outcome =
            answer(&snapshot, from.parse().unwrap(), Transport::Udp, &message, &HealthView::default(), &mut out);
        render(&out, &outcome)
    };
    let told = said("img.cdn.example", GERMANY);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "NOERROR aa (nearest)");
    assert_eq!(
        lines[1],
        "img.cdn.example. 30 HTTPS 1 . alpn=h2, ipv4hint=198.18.55.10,198.18.49.10, ipv6hint=2001:db8:49::10,"
    );
    assert!(lines[2].ends_with(" 127.55.0.0/24/16"), "{told}");
    // Without TLS there is nothing to say.
    assert!(said("www.cdn.example", GERMANY).starts_with("NOERROR aa (no-data)"), "no TLS");
}
