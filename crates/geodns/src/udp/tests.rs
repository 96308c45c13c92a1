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

fn answerer() -> Answerer {
    let document = document::load("test.toml", DOCUMENT).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let shared = Shared {
        name: "test".to_owned(),
        snapshot: ArcSwap::from_pointee(
            crate::world::snapshot(
                &document,
                None,
                crate::world::service(&document, "test", CookieSecret::new([0; 16])),
                None,
            )
            .unwrap(),
        ),
        health: ArcSwap::default(),
        metrics: DnsMetrics::default(),
        query_log: AccessLog::off(),
    };
    let memory = Memory { limiter: Limiter::new([0; 16], 1), signatures: Signatures::new([0; 16]) };
    Answerer::new(Arc::new(shared), Transport::Udp, memory)
}

const QUESTION: &[u8] = b"\x03www\x03cdn\x07example\x00\x00\x01\x00\x01";

/// Sends many queries, runs rounds until nothing is left, and wants as many replies with the same ids.
async fn check(address: &str, round: fn(&tokio::net::UdpSocket, bool, &mut Answerer) -> io::Result<Round>) {
    let server = UdpSocket::bind((address, 0)).unwrap();
    server.set_nonblocking(true).unwrap();
    let to = server.local_addr().unwrap();
    let server = tokio::net::UdpSocket::from_std(server).unwrap();
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
            let round = round(&server, to.is_ipv4(), &mut answerer).unwrap();
            assert!((1..=BATCH_MESSAGES).contains(&round.received) && round.unsent.is_empty(), "pass {pass}");
            received += round.received;
        }
        assert_eq!(round(&server, to.is_ipv4(), &mut answerer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        for id in 0..count {
            let mut reply = [0; 512];
            let (length, from) = client.recv_from(&mut reply).unwrap();
            assert_eq!((from, &reply[..2]), (to, &id.to_be_bytes()[..]));
            assert!(reply[..length].ends_with(&[198, 18, 49, 10]), "{:?}", &reply[..length]);
        }
    }
}

#[tokio::test]
async fn batches() {
    check("127.0.0.1", batch::round).await;
    check("::1", batch::round).await;
}

#[tokio::test]
async fn one_by_one() {
    check("127.0.0.1", single::round).await;
    check("::1", single::round).await;
}
