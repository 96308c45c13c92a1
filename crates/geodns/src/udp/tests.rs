//! Both ways of reading a socket, over loopback.

use std::{net::UdpSocket, sync::Arc};

use arc_swap::ArcSwap;
use perigee_dns::{CookieSecret, Limiter, Memory, Transport, dnssec::Signatures};
use perigee_node::access_log::AccessLog;
use perigee_protocol::document;

use super::*;
use crate::{answerer::Shared, metrics::DnsMetrics};

const DOCUMENT: &str = r#"
version = 1
[cdn]
name = "test"
zone = "cdn.example"
[[pop]]
id = "fra"
city = "Frankfurt"
country = "DE"
latitude = 50.11
longitude = 8.68
addresses = ["198.18.49.10"]
[[site]]
id = "www"
origins = [{ url = "http://198.18.0.90:8000" }]
"#;

/// A nameserver of one site, without sockets.
pub(crate) fn shared() -> Shared {
    let document = document::load("test.toml", DOCUMENT).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let place = crate::zones::Place { folder: std::path::PathBuf::new(), document: None };
    let zone = crate::zones::ZoneData::read(&document, &place, None).unwrap();
    Shared {
        name: "test".to_owned(),
        snapshot: ArcSwap::from_pointee(
            crate::world::snapshot(
                &document,
                &zone,
                crate::databases::Databases::default(),
                crate::world::service(&document, "test", CookieSecret::new([0; 16])),
                None,
            )
            .unwrap(),
        ),
        health: ArcSwap::default(),
        metrics: DnsMetrics::default(),
        query_log: AccessLog::off(),
        tap: Default::default(),
        samples: Default::default(),
        transfers: Default::default(),
    }
}

fn answerer() -> Answerer {
    let memory = Memory::new(Limiter::new([0; 16], 1), Signatures::new([0; 16]));
    Answerer::new(Arc::new(shared()), Transport::Udp, memory)
}

const QUESTION: &[u8] = b"\x03www\x03cdn\x07example\x00\x00\x01\x00\x01";

/// Sends many queries, runs rounds until nothing is left, and wants as many replies with the same ids.
fn check(address: &str, mut round: impl FnMut(&UdpSocket, Wait, &mut Answerer) -> io::Result<usize>) {
    let server = UdpSocket::bind((address, 0)).unwrap();
    let to = server.local_addr().unwrap();
    let client = UdpSocket::bind((address, 0)).unwrap();
    let mut answerer = answerer();
    // The second pass finds buffers that were used before.
    for pass in 0..2_u16 {
        let count = BATCH_MESSAGES as u16 * 2 + 3;
        for id in 0..count {
            let header = [id.to_be_bytes(), [0, 0], [0, 1], [0, 0], [0, 0], [0, 0]].concat();
            client.send_to(&[&header, QUESTION].concat(), to).unwrap();
        }
        let mut received = 0;
        while received < usize::from(count) {
            let wait = if pass == 0 { Wait::First } else { Wait::No };
            let round = round(&server, wait, &mut answerer).unwrap();
            assert!((1..=BATCH_MESSAGES).contains(&round), "pass {pass}");
            received += round;
        }
        assert_eq!(round(&server, Wait::No, &mut answerer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        for id in 0..count {
            let mut reply = [0; 512];
            let (length, from) = client.recv_from(&mut reply).unwrap();
            assert_eq!((from, &reply[..2]), (to, &id.to_be_bytes()[..]));
            assert!(reply[..length].ends_with(&[198, 18, 49, 10]), "{:?}", &reply[..length]);
        }
    }
}

#[test]
fn batches() {
    for (address, is_ipv4) in [("127.0.0.1", true), ("::1", false)] {
        if !is_ipv4 && !perigee_testkit::has_ipv6() {
            continue;
        }
        let mut batches = batch::Batches::new(is_ipv4);
        check(address, |socket, wait, answerer| batches.round(socket, wait, answerer));
    }
}

#[test]
fn one_by_one() {
    for (address, is_ipv4) in [("127.0.0.1", true), ("::1", false)] {
        if !is_ipv4 && !perigee_testkit::has_ipv6() {
            continue;
        }
        let mut batches = single::Batches::new(is_ipv4);
        check(address, |socket, wait, answerer| batches.round(socket, wait, answerer));
    }
}

#[test]
fn a_thread_answers_until_it_is_to_end_and_then_what_is_queued() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (to, client) = (server.local_addr().unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let (drain, draining) = watch::channel(false);
    let pulse = perigee_node::pulse::Pulses::default().add();
    let ask = |id: u16| {
        let header = [id.to_be_bytes(), [0, 0], [0, 1], [0, 0], [0, 0], [0, 0]].concat();
        client.send_to(&[&header, QUESTION].concat(), to).unwrap();
    };
    let heard = || {
        let mut reply = [0; 512];
        client.recv(&mut reply).unwrap();
        u16::from_be_bytes([reply[0], reply[1]])
    };
    // Told to end before it begins: what is queued is answered all the same.
    drain.send_replace(true);
    (0..3).for_each(ask);
    serve(&server, answerer(), &draining, &pulse);
    assert_eq!([heard(), heard(), heard()], [0, 1, 2]);
    drain.send_replace(false);
    thread::scope(|scope| {
        scope.spawn(|| serve(&server, answerer(), &draining, &pulse));
        ask(7);
        assert_eq!(heard(), 7);
        drain.send_replace(true);
    });
    // One whose nameserver is gone ends too.
    drop(drain);
    let (drain, draining) = watch::channel(false);
    drop(drain);
    serve(&server, answerer(), &draining, &pulse);
}
