//! DNS cookies (RFC 7873) in the interoperable form (RFC 9018): a client that shows a cookie of ours lives where it says.
//!
//! The secret rolls by itself: each day has its own, derived from one that all nameservers of a fleet share. A cookie says
//! when it was made, hence by which day's secret, so that nobody has to keep old ones.

use std::{fmt, hash::Hasher, net::IpAddr};

use siphasher::sip::SipHasher24;

/// The option's code (RFC 7873 §4).
pub(crate) const OPTION_COOKIE: u16 = 10;
const CLIENT_BYTES: usize = 8;
const SERVER_BYTES: usize = 16;
/// RFC 9018 §4.1
const VERSION: u8 = 1;
/// RFC 9018 §4.3: the limits that it proposes for the time of a cookie, in seconds.
const AGE_MAX_S: u32 = 3_600;
const AHEAD_MAX_S: u32 = 300;
/// An older one is answered with a new one.
const RENEW_AFTER_S: u32 = 1_800;
const DAY_S: u64 = 86_400;

/// A client's part of a cookie.
pub(crate) type ClientCookie = [u8; CLIENT_BYTES];

/// What a query shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) client: ClientCookie,
    /// The server's part, where it has the form of ours.
    server: Option<[u8; SERVER_BYTES]>,
}

impl Shown {
    /// Reads the option's data. None: FORMERR (RFC 7873 §5.2.2).
    pub(crate) fn read(data: &[u8]) -> Option<Self> {
        let (client, server) = data.split_first_chunk::<CLIENT_BYTES>()?;
        // RFC 7873 §4: a server's part has 8 to 32 bytes, others' too.
        if !matches!(server.len(), 0 | 8..=32) {
            return None;
        }
        Some(Self { client: *client, server: server.try_into().ok() })
    }
}

/// What a shown cookie proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieState {
    /// No cookie, or none of ours: the client may live anywhere.
    Unproven,
    /// One of ours: the client lives where it says.
    Proven,
}

/// What makes cookies.
#[derive(Clone)]
pub struct CookieSecret([u8; 16]);

impl fmt::Debug for CookieSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieSecret")
    }
}

impl CookieSecret {
    /// All nameservers that answer under one address or name should have the same.
    pub fn new(secret: [u8; 16]) -> Self {
        Self(secret)
    }

    fn of_day(&self, day: u64) -> [u8; 16] {
        let half = |number: u8| {
            let mut hasher = SipHasher24::new_with_key(&self.0);
            hasher.write(&day.to_le_bytes());
            hasher.write(&[number]);
            hasher.finish().to_le_bytes()
        };
        let [[a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]] = [half(0), half(1)];
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// A server's part made at `made_s`.
    fn make(&self, client: ClientCookie, peer: IpAddr, made_s: u64) -> [u8; SERVER_BYTES] {
        server_cookie(&self.of_day(made_s / DAY_S), client, peer, made_s as u32)
    }

    /// What `shown` proves at `now_s`, and the server's part to answer with.
    pub(crate) fn judge(&self, shown: &Shown, peer: IpAddr, now_s: u64) -> (CookieState, [u8; SERVER_BYTES]) {
        let Some(server) = shown.server else {
            return (CookieState::Unproven, self.make(shown.client, peer, now_s));
        };
        let [.., t1, t2, t3, t4, _, _, _, _, _, _, _, _] = server;
        let made = u32::from_be_bytes([t1, t2, t3, t4]);
        // RFC 9018 §4.3: serial number arithmetic (RFC 1982).
        let age = (now_s as u32).wrapping_sub(made) as i32;
        let is_timely = age <= AGE_MAX_S as i32 && age >= -(AHEAD_MAX_S as i32);
        let made_s = now_s.saturating_add_signed(-i64::from(age));
        // A cookie proves an address; to compare in constant time hides nothing that its sender does not know.
        if !is_timely || server != self.make(shown.client, peer, made_s) {
            return (CookieState::Unproven, self.make(shown.client, peer, now_s));
        }
        let renewed = if age > RENEW_AFTER_S as i32 { self.make(shown.client, peer, now_s) } else { server };
        (CookieState::Proven, renewed)
    }
}

/// RFC 9018 §4: version, three reserved bytes, the time, and a hash of all that with the client's part and address.
fn server_cookie(key: &[u8; 16], client: ClientCookie, peer: IpAddr, made: u32) -> [u8; SERVER_BYTES] {
    let [t1, t2, t3, t4] = made.to_be_bytes();
    let head = [VERSION, 0, 0, 0, t1, t2, t3, t4];
    let mut hasher = SipHasher24::new_with_key(key);
    hasher.write(&client);
    hasher.write(&head);
    match peer {
        IpAddr::V4(peer) => hasher.write(&peer.octets()),
        IpAddr::V6(peer) => hasher.write(&peer.octets()),
    }
    // The reference writes SipHash's output as it stands in memory: little-endian.
    let [h1, h2, h3, h4, h5, h6, h7, h8] = hasher.finish().to_le_bytes();
    [VERSION, 0, 0, 0, t1, t2, t3, t4, h1, h2, h3, h4, h5, h6, h7, h8]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let digits: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        digits.try_into().unwrap()
    }

    /// RFC 9018, appendix A.
    #[test]
    fn the_published_vectors() {
        let check = |key: &str, client: &str, peer: &str, made: u32, expected: &str| {
            let cookie = server_cookie(&bytes(key), bytes(client), peer.parse().unwrap(), made);
            assert_eq!(cookie, bytes(expected), "{peer}");
        };
        let secret = "e5e973e5a6b2a43f48e7dc849e37bfcf";
        check(secret, "2464c4abcf10c957", "198.51.100.100", 1_559_731_985, "010000005cf79f111f8130c3eee29480");
        check(secret, "2464c4abcf10c957", "198.51.100.100", 1_559_734_385, "010000005cf7a871d4a564a1442aca77");
    }

    const NOW_S: u64 = 1_800_000_000;
    const CLIENT: ClientCookie = *b"\x01\x02\x03\x04\x05\x06\x07\x08";

    fn shown(server: &[u8]) -> Shown {
        Shown::read(&[&CLIENT, server].concat()).unwrap()
    }

    #[test]
    fn a_cookie_proves_its_client_for_an_hour() {
        let secret = CookieSecret::new([7; 16]);
        let (here, there): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let (state, cookie) = secret.judge(&shown(&[]), here, NOW_S);
        assert_eq!(state, CookieState::Unproven);
        let check = |peer: IpAddr, now_s: u64, state: CookieState, is_kept: bool| {
            let (judged, answered) = secret.judge(&shown(&cookie), peer, now_s);
            assert_eq!((judged, answered == cookie), (state, is_kept), "{peer} {now_s}");
        };
        check(here, NOW_S, CookieState::Proven, true);
        check(there, NOW_S, CookieState::Unproven, false);
        check(here, NOW_S + 1_800, CookieState::Proven, true);
        check(here, NOW_S + 1_801, CookieState::Proven, false);
        check(here, NOW_S + 3_600, CookieState::Proven, false);
        check(here, NOW_S + 3_601, CookieState::Unproven, false);
        // Another nameserver's clock may be ahead of ours.
        check(here, NOW_S - 300, CookieState::Proven, true);
        check(here, NOW_S - 301, CookieState::Unproven, false);
        let other = CookieSecret::new([8; 16]);
        assert_eq!(other.judge(&shown(&cookie), here, NOW_S).0, CookieState::Unproven);
    }

    /// Over midnight, and over the year 2106, when 32 bits of seconds begin anew.
    #[test]
    fn days_end_and_clocks_wrap() {
        let (secret, here): (_, IpAddr) = (CookieSecret::new([7; 16]), [192, 0, 2, 1].into());
        for made_s in [20_000 * DAY_S - 60, (1 << 32) - 60] {
            let (_, cookie) = secret.judge(&shown(&[]), here, made_s);
            assert_eq!(secret.judge(&shown(&cookie), here, made_s + 120), (CookieState::Proven, cookie));
        }
        assert_ne!(secret.of_day(1), secret.of_day(2));
    }

    #[test]
    fn options() {
        for (len, is_read) in
            [(0, false), (7, false), (8, true), (9, false), (15, false), (16, true), (40, true), (41, false)]
        {
            assert_eq!(Shown::read(&vec![0; len]).is_some(), is_read, "{len}");
        }
        let (state, _) = CookieSecret::new([7; 16]).judge(&shown(&[1; 16]), [192, 0, 2, 1].into(), NOW_S);
        assert_eq!(state, CookieState::Unproven);
    }
}
