//! EDNS: versions, sizes, options; and what does not fit.

use super::*;

const ANSWER: &str = "NOERROR aa (static)\nns1.cdn.example. 3600 A 198.18.0.53";

fn plain() -> Ask {
    ask("ns1.cdn.example", 1)
}

#[test]
fn opt_is_answered_with_opt() {
    check(plain().opt(4096, 0, &[]), &format!("{ANSWER}\nopt v0 1232"));
    check(plain().opt(0, 0, &[]), &format!("{ANSWER}\nopt v0 1232"));
    // RFC 3225 §3: DO is copied; the other flags are not.
    check(plain().opt(1232, 0x8000, &[]), &format!("{ANSWER}\nopt v0 1232 do"));
    check(plain().opt(1232, 0x7fff, &[]), &format!("{ANSWER}\nopt v0 1232"));
    check(ask("other.example", 1).opt(1232, 0, &[]), "REFUSED (out-of-zone)\nopt v0 1232");
}

#[test]
fn versions() {
    check(plain().opt(1232, 0x0001_0000, &[]), "BADVERS (edns-version)\nopt v0 1232");
    check(plain().opt(1232, 0x00ff_8000, &[9, 9, 9]), "BADVERS (edns-version)\nopt v0 1232 do");
}

#[test]
fn broken() {
    check(plain().opt(1232, 0, &[]).opt(1232, 0, &[]), "FORMERR (edns)\nopt v0 1232");
    check(plain().opt(1232, 0, &[0]), "FORMERR (edns)\nopt v0 1232");
    check(plain().opt(1232, 0, &[0, 3, 0]), "FORMERR (edns)\nopt v0 1232");
    check(plain().opt(1232, 0, &[0, 3, 0, 1]), "FORMERR (edns)\nopt v0 1232");
    check(plain().subnet(&[0, 1, 33, 0, 1, 2, 3, 4, 5]), "FORMERR (client-subnet)\nopt v0 1232");
    let twice = [0, 8, 0, 4, 0, 1, 0, 0, 0, 8, 0, 4, 0, 1, 0, 0];
    check(plain().opt(1232, 0, &twice), "FORMERR (client-subnet)\nopt v0 1232 0.0.0.0/0/0");
}

#[test]
fn unknown_options_are_ignored() {
    check(plain().opt(1232, 0, &[0, 3, 0, 0, 0xff, 0xff, 0, 2, 1, 2]), &format!("{ANSWER}\nopt v0 1232"));
}

#[test]
fn what_does_not_fit_is_truncated() {
    // Three TXT records of 255 bytes and their heads.
    let long = || ask("long.cdn.example", 16);
    let size = |ask: Ask, transport| {
        let (out, text) = reply_to(&ask.bytes(), GERMANY, transport, &HealthView::default());
        (out.len(), text.lines().count(), text.contains(" tc "))
    };
    let question = long().bytes().len();
    let whole = question + 3 * (12 + 1 + 254);
    assert_eq!(size(long(), Transport::Udp), (question, 1, true));
    assert_eq!(size(long(), Transport::Tcp), (whole, 4, false));
    let fits = u16::try_from(whole + 11).unwrap();
    assert_eq!(size(long().opt(fits, 0, &[]), Transport::Udp), (whole + 11, 5, false));
    assert_eq!(size(long().opt(fits - 1, 0, &[]), Transport::Udp), (question + 11, 2, true));
    assert_eq!(size(long().opt(4096, 0, &[]), Transport::Udp), (whole + 11, 5, false));
}
