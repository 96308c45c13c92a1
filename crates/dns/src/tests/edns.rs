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
    check(ask("other.example", 1).opt(1232, 0, &[]), "REFUSED (out-of-zone)\nopt v0 1232 ede=20");
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
    check(plain().opt(1232, 0, &[0, 5, 0, 0, 0xff, 0xff, 0, 2, 1, 2]), &format!("{ANSWER}\nopt v0 1232"));
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

fn reply_over(ask: Ask, transport: Transport) -> (Vec<u8>, String) {
    reply_to(&ask.bytes(), GERMANY, transport, &HealthView::default())
}

#[test]
fn who_answers() {
    check(plain().opt(1232, 0, &[0, 3, 0, 0]), &format!("{ANSWER}\nopt v0 1232 nsid=ns1"));
    // RFC 5001 §2.1 wants it empty; what is there is no reason to refuse.
    check(plain().opt(1232, 0, &[0, 3, 0, 1, 7]), &format!("{ANSWER}\nopt v0 1232 nsid=ns1"));
}

#[test]
fn extended_errors() {
    check(ask("cdn.example", 252).opt(1232, 0, &[]), "REFUSED (transfer)\nopt v0 1232 ede=18");
    check(Ask { class: 3, ..plain() }.opt(1232, 0, &[]), "REFUSED (class)\nopt v0 1232 ede=20");
    // Without OPT there is no place for it.
    check(ask("cdn.example", 252), "REFUSED (transfer)");
}

#[test]
fn keepalive_is_of_connections() {
    let asks = || plain().opt(1232, 0, &[0, 11, 0, 0]);
    check(asks(), &format!("{ANSWER}\nopt v0 1232"));
    assert_eq!(reply_over(asks(), Transport::Tcp).1, format!("{ANSWER}\nopt v0 1232 11=[0, 100]"));
    // RFC 7828 §3.3.2: over UDP it is nothing to us, whatever is in it.
    check(plain().opt(1232, 0, &[0, 11, 0, 2, 0, 50]), &format!("{ANSWER}\nopt v0 1232"));
}

#[test]
fn only_encrypted_answers_are_padded() {
    let asks = || plain().opt(1232, 0, &[0, 12, 0, 3, 0, 0, 0]);
    check(asks(), &format!("{ANSWER}\nopt v0 1232"));
    let (out, text) = reply_over(asks(), Transport::Tls);
    assert_eq!(out.len(), 468, "{text}");
    assert!(text.contains(" padding="), "{text}");
    // Who does not pad gets none.
    assert!(reply_over(plain().opt(1232, 0, &[]), Transport::Tls).0.len() < 100);
}

const CLIENT_COOKIE: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

fn cookie(data: &[u8]) -> Vec<u8> {
    [&[0, 10, 0, u8::try_from(data.len()).unwrap()], data].concat()
}

/// The server's part of an answer's cookie.
fn server_part(out: &[u8]) -> Vec<u8> {
    let message = Message::from_vec(out).unwrap();
    let edns = message.edns.unwrap();
    let Some(EdnsOption::Unknown(_, data)) = edns.option(EdnsCode::Cookie).cloned() else { panic!("no cookie") };
    assert_eq!((data.len(), &data[..8]), (24, &CLIENT_COOKIE[..]));
    data[8..].to_vec()
}

#[test]
fn cookies() {
    let (first, text) = reply_over(plain().opt(1232, 0, &cookie(&CLIENT_COOKIE)), Transport::Udp);
    assert!(text.starts_with(ANSWER), "{text}");
    let server = server_part(&first);
    let whole = cookie(&[&CLIENT_COOKIE[..], &server].concat());
    let (second, _) = reply_over(plain().opt(1232, 0, &whole), Transport::Udp);
    assert_eq!(server_part(&second), server, "a good cookie is given back");
    for length in [0, 7, 9, 15, 41] {
        let (_, text) = reply_over(plain().opt(1232, 0, &cookie(&vec![1; length])), Transport::Udp);
        assert_eq!(text, "FORMERR (cookie)\nopt v0 1232", "{length}");
    }
    // RFC 7873 §5.4: a query for nothing but a cookie.
    let (out, text) = reply_over(Ask { questions: 0, ..plain() }.opt(1232, 0, &cookie(&CLIENT_COOKIE)), Transport::Udp);
    assert!(text.starts_with("NOERROR (cookie)\nopt"), "{text}");
    assert_eq!(server_part(&out), server);
    check(Ask { questions: 0, ..plain() }.opt(1232, 0, &[]), "FORMERR (question-count)\nopt v0 1232");
}

#[test]
fn who_asks_too_often_is_sent_to_tcp_or_for_a_cookie() {
    let limited = snapshot_with(1);
    let mut memory = memory();
    let mut said = |ask: Ask, transport| {
        let mut out = Vec::new();
        let peer = GERMANY.parse().unwrap();
        let arrival = Arrival { peer, transport, now_ms: NOW_MS };
        let health = HealthView::default();
        let outcome = answer_with(&limited, arrival, &ask.bytes(), &health, &mut memory, &mut out);
        (render(&out, &outcome), out)
    };
    assert_eq!(said(plain(), Transport::Udp).0, ANSWER);
    assert_eq!(said(plain(), Transport::Udp).0, "dropped (rate-limit)");
    assert_eq!(said(plain(), Transport::Udp).0, "NOERROR tc (rate-limit)");
    assert_eq!(said(plain(), Transport::Tcp).0, ANSWER, "who connects is no forger");
    let with_cookie = |data: &[u8]| plain().opt(1232, 0, &cookie(data));
    assert_eq!(said(with_cookie(&CLIENT_COOKIE), Transport::Udp).0, "dropped (rate-limit)");
    let (text, out) = said(with_cookie(&CLIENT_COOKIE), Transport::Udp);
    assert!(text.starts_with("BADCOOKIE (rate-limit)"), "{text}");
    let whole = [&CLIENT_COOKIE[..], &server_part(&out)].concat();
    for _ in 0..10 {
        assert!(said(with_cookie(&whole), Transport::Udp).0.starts_with(ANSWER), "who shows a cookie is no forger");
    }
}
