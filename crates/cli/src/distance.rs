//! Distance for the demo and for `deploy/compose.yaml`: relays in front of nodes that hold back what passes for as long as light
//! in fibre would take.
//!
//! Who dials is told by its address, as everywhere in these two worlds. The demo's own nodes all dial from 127.0.0.1: of them the
//! relay reads the Via of a connection's first request. Deliberately absent: loss, jitter, slow start; and any use outside of
//! the demo and that file: no server knows of relays.

mod command;
mod datagrams;
mod relay;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use perigee_geo::{distance::km, world::DEMO_COUNTRIES};
use perigee_protocol::model::Location;
use tokio::task::JoinHandle;

pub use self::command::run;
pub(crate) use self::relay::{Road, Stand};
use crate::cities::{CITIES, City, SHIELDS};

/// Light in fibre, and half as far again, since cables follow coasts.
const KM_PER_MS: f64 = 200.0 / 1.5;
/// Of every way, for the last mile and what stands on it.
const ONE_WAY_MIN: Duration = Duration::from_micros(500);
/// Before accepting again, when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener that ends when it is dropped; what is connected goes on.
#[derive(Debug)]
pub(crate) struct Relay {
    task: JoinHandle<()>,
    at: SocketAddr,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    /// Where it listens.
    pub(crate) fn at(&self) -> SocketAddr {
        self.at
    }
}

/// Which addresses stand for places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum World {
    /// The demo: clients of 127.CODE.0.0/16, everybody else in the first city.
    Loopback,
    /// `deploy/compose.yaml`: clients of 198.18.CODE.0/24, edges at 198.18.0.(100 + CODE), everybody else beside the node.
    Compose,
}

/// Where a demo's node listens itself, when a relay has its address: 127.81.0.80 → 127.81.1.80. None for what is not on IPv4's
/// loopback, where a relay could not speak with a client's address.
pub(crate) fn behind(address: SocketAddr) -> Option<SocketAddr> {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => {
            let [a, b, c, d] = ip.octets();
            Some(SocketAddr::new(IpAddr::from([a, b, c.wrapping_add(1), d]), address.port()))
        }
        _ => None,
    }
}

/// Where a node of that name stands: an edge in its city, the western shield in Frankfurt, the eastern one in Singapore; the
/// origin and whoever is unknown in the first city.
pub(crate) fn place(name: &str) -> Location {
    let name = if Some(&name) == SHIELDS.last() { "sin" } else { name };
    at(CITIES.iter().find(|city| city.id == name).unwrap_or(&CITIES[0]))
}

fn at(city: &City) -> Location {
    Location { latitude: city.latitude, longitude: city.longitude }
}

/// Whether a node of that name is there.
fn is_node(name: &str) -> bool {
    name == "origin" || SHIELDS.contains(&name) || CITIES.iter().any(|city| city.id == name)
}

/// How long one way takes.
pub(crate) fn one_way(from: Location, to: Location) -> Duration {
    ONE_WAY_MIN + Duration::from_secs_f64(km(from, to) / KM_PER_MS / 1000.0)
}

impl World {
    /// Where somebody dials from; None: beside the node. `head` are the first bytes that came.
    fn whereabouts(self, peer: IpAddr, head: &[u8]) -> Option<Location> {
        match (self, peer.to_canonical()) {
            // Its nodes, and whoever did not say where it is.
            (Self::Loopback, IpAddr::V4(Ipv4Addr::LOCALHOST)) => Some(place(&via(head).unwrap_or_default())),
            (Self::Loopback, IpAddr::V4(peer)) => Some(country(peer.octets()[1]).unwrap_or_else(|| place(""))),
            (Self::Loopback, IpAddr::V6(_)) => Some(place("")),
            (Self::Compose, IpAddr::V4(peer)) => in_compose(peer),
            (Self::Compose, IpAddr::V6(_)) => None,
        }
    }
}

fn in_compose(peer: Ipv4Addr) -> Option<Location> {
    match peer.octets() {
        [198, 18, 0, 81] => Some(place("shield-west")),
        [198, 18, 0, 82] => Some(place("shield-east")),
        [198, 18, 0, 90] => Some(place("origin")),
        [198, 18, 0, edge @ 100..=u8::MAX] => CITIES.iter().find(|city| city.code == edge - 100).map(at),
        // Nameservers, whose probes come from beside the edge; and whoever else is on the backbone.
        [198, 18, 0, _] | [198, 18, _, 53 | 54] => None,
        [198, 18, code, _] => country(code),
        _ => None,
    }
}

/// The city that is nearest to somebody.
fn nearest(from: Location) -> Location {
    let cities = CITIES.iter().map(at);
    cities.min_by(|one, other| km(from, *one).total_cmp(&km(from, *other))).unwrap_or(from)
}

/// Where the clients of a telephone country code are.
fn country(code: u8) -> Option<Location> {
    let row = DEMO_COUNTRIES.iter().find(|row| row.code == code)?;
    Some(Location { latitude: row.latitude, longitude: row.longitude })
}

/// The last name in Via (RFC 9110 §7.6.3), which is the one who dials.
fn via(head: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let head = text.split("\r\n\r\n").next()?;
    let value = head.lines().filter_map(|line| line.strip_prefix("via:")).next_back()?;
    value.rsplit(',').next()?.split_whitespace().nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_dials_is_somewhere() {
        let check = |peer: &str, head: &str, expected: Option<Location>| {
            let peer = peer.parse().unwrap();
            assert_eq!(World::Loopback.whereabouts(peer, head.as_bytes()), expected, "{peer} {head:?}");
        };
        let get = "GET / HTTP/1.1\r\n";
        check("127.81.0.1", &format!("{get}\r\n"), Some(place("tyo")));
        // Clients of Germany are in Berlin, as in the geo database; the edge is in Frankfurt.
        check("127.49.0.1", "", Some(Location { latitude: 52.52, longitude: 13.4 }));
        check("127.82.0.1", "", country(82));
        check("127.0.0.1", &format!("{get}\r\n"), Some(place("fra")));
        check("127.0.0.1", &format!("{get}Via: 1.1 tyo\r\n\r\n"), Some(place("tyo")));
        check("127.0.0.1", &format!("{get}via: 1.1 tyo, 1.1 shield-east\r\n\r\n"), Some(place("sin")));
        check("127.0.0.1", &format!("{get}via: 1.1 tyo, 1.1 shield-west\r\n\r\n"), Some(place("fra")));
        check("127.0.0.1", &format!("{get}via: 1.1 somebody\r\n\r\n"), Some(place("fra")));
        check("127.0.0.1", &format!("{get}\r\nvia: 1.1 tyo\r\n"), Some(place("fra")));
        // A client that is somewhere stays there, whatever it claims.
        check("127.81.0.1", &format!("{get}Via: 1.1 syd\r\n\r\n"), Some(place("tyo")));
        check("127.0.0.1", "via:", Some(place("fra")));
        check("127.0.0.1", "via: ,", Some(place("fra")));
        check("127.99.0.1", "", Some(place("fra")));
        check("::1", "", Some(place("fra")));
    }

    #[test]
    fn whoever_dials_in_compose_is_somewhere() {
        let check = |peer: &str, expected: Option<Location>| {
            let found = World::Compose.whereabouts(peer.parse().unwrap(), b"GET / HTTP/1.1\r\nVia: 1.1 syd\r\n\r\n");
            assert_eq!(found, expected, "{peer}");
        };
        check("198.18.81.20", country(81));
        check("::ffff:198.18.81.20", country(81));
        check("198.18.0.149", Some(place("fra")));
        check("198.18.0.181", Some(place("tyo")));
        check("198.18.0.101", Some(place("nyc")));
        check("198.18.0.81", Some(place("fra")));
        check("198.18.0.82", Some(place("sin")));
        check("198.18.0.100", None);
        check("198.18.0.53", None);
        check("198.18.81.54", None);
        check("198.18.99.20", None);
        check("127.0.0.1", None);
    }

    #[test]
    fn the_way_is_as_long_as_the_cable() {
        let ms = |from: &str, to: &str| one_way(place(from), place(to)).as_millis();
        assert_eq!((ms("fra", "shield-west"), ms("sin", "shield-east"), ms("fra", "origin")), (0, 0, 0));
        // 9,350 km.
        assert!((69..73).contains(&ms("fra", "tyo")), "{}", ms("fra", "tyo"));
    }

    #[test]
    fn a_node_listens_behind_its_relay() {
        let check = |front: &str, back: Option<&str>| {
            assert_eq!(behind(front.parse().unwrap()), back.map(|back| back.parse().unwrap()), "{front}");
        };
        check("127.81.0.80:8080", Some("127.81.1.80:8080"));
        check("192.0.2.1:53", None);
        check("[::1]:53", None);
    }
}
