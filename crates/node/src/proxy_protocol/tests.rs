use super::*;

/// Feeds the header as its reader asks for it, with a request right behind: not one byte of that may be taken.
fn check(header: &[u8], expected: Result<Option<&str>, ProxyError>) {
    let stream = [header, b"GET / HTTP/1.1\r\n"].concat();
    let mut taken = 0;
    let outcome = loop {
        match read(&stream[..taken]) {
            Ok(Progress::Need(more)) => {
                assert!(more > 0);
                taken += more;
                assert!(expected.is_err() || taken <= header.len(), "{} bytes of {:?} taken", taken, header);
                if taken > stream.len() {
                    panic!("{header:?} never ends");
                }
            }
            Ok(Progress::Done(client)) => break Ok(client),
            Err(error) => break Err(error),
        }
    };
    if outcome.is_ok() {
        assert_eq!(taken, header.len(), "{header:?}");
    }
    assert_eq!(outcome, expected.map(|client| client.map(|client| client.parse().unwrap())), "{header:?}");
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, rest].concat()
}

const FOUR: [u8; 12] = [203, 0, 113, 7, 192, 0, 2, 1, 0x30, 0x39, 0, 80];

fn six() -> Vec<u8> {
    let (source, destination): (Ipv6Addr, Ipv6Addr) = ("2001:db8::7".parse().unwrap(), Ipv6Addr::LOCALHOST);
    [&source.octets()[..], &destination.octets(), &[0x30, 0x39, 1, 187]].concat()
}

#[test]
fn version_2_headers() {
    let address = Ok(Some("203.0.113.7:12345"));
    check(&v2(0x21, 0x11, &FOUR), address);
    check(&v2(0x21, 0x12, &FOUR), address);
    // TLVs behind the addresses, whatever they say.
    check(&v2(0x21, 0x11, &[&FOUR[..], &[4, 0, 2, 9, 9]].concat()), address);
    check(&v2(0x21, 0x11, &[&FOUR[..], &[0xff; 7]].concat()), address);
    check(&v2(0x21, 0x21, &six()), Ok(Some("[2001:db8::7]:12345")));
    for (name, header) in [
        ("LOCAL", v2(0x20, 0x00, &[])),
        ("LOCAL with addresses", v2(0x20, 0x11, &FOUR)),
        ("UNSPEC", v2(0x21, 0x00, &[])),
        ("UNIX", v2(0x21, 0x31, &[b'/'; 216])),
        ("a family to come", v2(0x21, 0x71, &[1, 2, 3])),
    ] {
        eprintln!("{name}");
        check(&header, Ok(None));
    }
    check(&v2(0x21, 0x11, &FOUR[..11]), Err(ProxyError::Short));
    check(&v2(0x21, 0x21, &six()[..35]), Err(ProxyError::Short));
    check(&v2(0x22, 0x11, &FOUR), Err(ProxyError::Command));
    check(&v2(0x11, 0x11, &FOUR), Err(ProxyError::Command));
}

#[test]
fn version_2_lengths() {
    let filled = |bytes: usize| v2(0x21, 0x11, &[&FOUR[..], &vec![0; bytes - FIXED_BYTES - FOUR.len()]].concat());
    check(&filled(HEADER_BYTES_MAX), Ok(Some("203.0.113.7:12345")));
    check(&filled(HEADER_BYTES_MAX + 1), Err(ProxyError::Long));
}

#[test]
fn version_1_lines() {
    check(b"PROXY UNKNOWN\r\n", Ok(None));
    check(b"PROXY UNKNOWN ffff::1 whatever\r\n", Ok(None));
    check(b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 80\r\n", Ok(Some("203.0.113.7:12345")));
    check(b"PROXY TCP6 2001:db8::7 ::1 12345 443\r\n", Ok(Some("[2001:db8::7]:12345")));
    for bad in [
        &b"PROXY TCP4 203.0.113.7 192.0.2.1 12345\r\n"[..],
        b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 80 9\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 +2345 80\r\n",
        b"PROXY TCP4 203.0.113.7 192.0.2.1 65536 80\r\n",
        b"PROXY TCP4 203.0.113.7  192.0.2.1 12345 80\r\n",
        b"PROXY TCP4 2001:db8::7 ::1 12345 443\r\n",
        b"PROXY TCP6 203.0.113.7 192.0.2.1 12345 80\r\n",
        b"PROXY UDP4 203.0.113.7 192.0.2.1 12345 80\r\n",
        b"PROXY TCP4 \xff.0.113.7 192.0.2.1 12345 80\r\n",
    ] {
        check(bad, Err(ProxyError::Line));
    }
    let padded = |bytes: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(bytes - 16));
    check(padded(LINE_BYTES_MAX).as_bytes(), Ok(None));
    check(padded(LINE_BYTES_MAX + 1).as_bytes(), Err(ProxyError::Long));
}

#[test]
fn other_beginnings() {
    for bad in
        [&b"GET / HTTP/1.1\r\n"[..], b"\r\n\r\nGET / HTTP/1.1\r\n", b"PROXI TCP4 1.2.3.4\r\n", &[0x16, 3, 1, 2, 0]]
    {
        check(bad, Err(ProxyError::NoHeader));
    }
}

#[test]
fn any_bytes_end_or_ask_for_more_within_the_limits() {
    let mut state = 7_u64;
    for _ in 0..20_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let length = usize::try_from(state % 64).unwrap();
        let noise: Vec<u8> = (0..length).map(|index| (state >> (index % 56)) as u8).collect();
        for header in [noise.clone(), v2(0x21, state as u8, &noise), [&b"PROXY TCP4 "[..], &noise].concat()] {
            if let Ok(Progress::Need(more)) = read(&header) {
                assert!(header.len() + more <= HEADER_BYTES_MAX);
            }
        }
    }
}
