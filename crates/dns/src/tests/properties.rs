//! Whatever arrives: no panic, no answer to answers, and replies that readers understand.

use proptest::{collection::vec, prelude::*};

use super::*;

const NAMES: [&str; 12] = [
    "",
    "cdn.example",
    "www.cdn.example",
    "wWw.Cdn.example",
    "assets.cdn.example",
    "circle.cdn.example",
    "x.sub.cdn.example",
    "x.wild.cdn.example",
    "nobody.cdn.example",
    "long.cdn.example",
    "other.example",
    "deep.name.cdn.example",
];

/// Holds for every message.
fn check_reply(snapshot: &Snapshot<Vec<u8>>, message: &[u8], transport: Transport) -> Result<(), TestCaseError> {
    let mut out = b"left over".to_vec();
    let outcome = answer(snapshot, GERMANY.parse().unwrap(), transport, message, &HealthView::default(), &mut out);
    let is_query = message.len() >= 12 && message[2] & 0x80 == 0;
    prop_assert_eq!(outcome.rcode.is_some(), is_query);
    if !is_query {
        prop_assert!(out.is_empty());
        return Ok(());
    }
    let longest = if transport == Transport::Udp { 1232 } else { 65_535 };
    prop_assert!(out.len() <= longest, "{} bytes", out.len());
    prop_assert_eq!(&out[..2], &message[..2], "the id");
    prop_assert_eq!(out[2] & 0xf8, message[2] & 0x78 | 0x80, "QR and the opcode");
    let questions = u16::from_be_bytes([out[4], out[5]]);
    prop_assert!(questions <= 1);
    if questions == 1 {
        let end = 12 + message[12..].iter().position(|byte| *byte == 0).unwrap_or_default();
        // Labels may hold zeros: at least what comes before the first is the question's.
        prop_assert_eq!(&out[12..end], &message[12..end], "the question");
    }
    // hickory refuses opcodes that it does not know, and reads UPDATE otherwise.
    if message[2] & 0x78 == 0 {
        let parsed = Message::from_vec(&out);
        prop_assert!(parsed.is_ok(), "{:?}: {:?}", parsed, out);
    }
    Ok(())
}

proptest! {
    #[test]
    fn arbitrary_bytes(message in vec(any::<u8>(), 0..600), tcp: bool) {
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        check_reply(&snapshot(), &message, transport)?;
    }

    #[test]
    fn arbitrary_bytes_behind_a_header(mut message in vec(any::<u8>(), 0..600), tcp: bool) {
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let mut whole = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        whole.append(&mut message);
        check_reply(&snapshot(), &whole, transport)?;
    }

    #[test]
    fn damaged_queries(
        name in proptest::sample::select(&NAMES[..]),
        kind in proptest::sample::select(&[1, 2, 5, 6, 16, 28, 43, 255][..]),
        source in 0u8..=34,
        payload: u16,
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        tcp: bool,
    ) {
        let address = [127, 61, 9, 1, 0];
        let data = [&[0, 1, source, 0], &address[..usize::from(source.div_ceil(8))]].concat();
        let length = u8::try_from(data.len()).unwrap();
        let mut message = ask(name, kind).opt(payload, 0, &[&[0, 8, 0, length], &data[..]].concat()).bytes();
        for (at, byte) in damage {
            let at = at.index(message.len());
            message[at] = byte;
        }
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        check_reply(&snapshot(), &message, transport)?;
    }

    /// RFC 7871: a resolver may give one answer to every client inside the scope.
    #[test]
    fn scopes_are_true(address: u32, other: u32, within in proptest::sample::select(&[0u32, 127 << 24, 127 << 24 | 61 << 16, 203 << 24 | 113 << 8][..])) {
        let snapshot = snapshot();
        let address = if within == 0 { address } else { within | address & 0x00ff_ffff };
        let told = |address: u32| {
            let data = [&[0, 1, 32, 0][..], &address.to_be_bytes()].concat();
            let mut out = Vec::new();
            let message = ask("img.cdn.example", 1).subnet(&data).bytes();
            let outcome = answer(&snapshot, "192.0.2.1".parse().unwrap(), Transport::Udp, &message, &HealthView::default(), &mut out);
            (outcome.steered.unwrap().scope, Message::from_vec(&out).unwrap().answers)
        };
        let (scope, answers) = told(address);
        let mask = u32::MAX.checked_shl(32 - u32::from(scope)).unwrap_or(0);
        let neighbour = address & mask | other & !mask;
        prop_assert_eq!(told(neighbour).1, answers, "{:x} {:x} /{}", address, neighbour, scope);
    }
}
