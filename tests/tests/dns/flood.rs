//! Garbage from everywhere, as fast as one thread sends it: whoever asks properly is answered, and nothing grows.
//!
//! `PERIGEE_FLOOD_SECONDS` makes it last; figures are printed.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    bench::{AUSTRALIA, Nameserver, document},
    load::query,
};

/// Addresses that the flood comes from.
const SOURCES: u32 = 400;
/// A resolver's patience with one try, and how often it tries: a machine that others use loses many, and the bound only decides how
/// long a nameserver that answers nobody is asked.
const TRY: Duration = Duration::from_millis(500);
const TRIES: usize = 600;
const RSS_GROWTH_BYTES_MAX: u64 = 64 << 20;
const LOG_LINES_MAX: usize = 200;

/// A good query, damaged in one of many ways; sometimes nothing but noise, sometimes an answer, sometimes whole.
fn damaged(random: &mut dyn FnMut() -> u64) -> Vec<u8> {
    let chosen = random();
    let name = format!("x{:x}.cdn.example", random() & 0xffff);
    let mut message = query((random() & 0xffff) as u16, &name, (random() % 300) as u16);
    match chosen % 8 {
        0 => message.truncate((random() as usize) % message.len()),
        1 => message[2] |= 0x80,
        2 => message = (0..random() % 600).map(|_| random() as u8).collect(),
        3 => message[5] = random() as u8,
        4 => message.extend((0..random() % 64).map(|_| random() as u8)),
        5 => {
            message[11] = 1;
            message.extend([
                0,
                0,
                41,
                4,
                208,
                0,
                random() as u8,
                random() as u8,
                0,
                0,
                11,
                0,
                8,
                0,
                7,
                0,
                1,
                random() as u8,
            ]);
        }
        6 => {
            for _ in 0..4 {
                let at = (random() as usize) % message.len();
                message[at] = random() as u8;
            }
        }
        _ => {}
    }
    message
}

/// Sends until told to stop; counts.
fn flood(server: SocketAddr, seed: u64, stop: &AtomicBool, sent: &AtomicU64) {
    let mut state = seed | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let address =
        |random: &mut dyn FnMut() -> u64| Ipv4Addr::from(127 << 24 | (random() as u32 & 0x003f_ffff) | 1 << 20);
    let sockets: Vec<UdpSocket> = (0..SOURCES).map(|_| UdpSocket::bind((address(&mut random), 0)).unwrap()).collect();
    // Made ahead: to send is all that the loop does.
    let messages: Vec<Vec<u8>> = (0..8_192).map(|_| damaged(&mut random)).collect();
    for (message, socket) in messages.iter().cycle().zip(sockets.iter().cycle()) {
        // A buffer that is full is a flood that is fast enough.
        drop(socket.send_to(message, server));
        if sent.fetch_add(1, Ordering::Relaxed).is_multiple_of(256) && stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Whether there is a good answer.
fn ask_over_tcp(server: SocketAddr, number: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(server) else { return false };
    let message = query(number, "www.cdn.example", 1);
    let framed = [&u16::try_from(message.len()).unwrap().to_be_bytes(), &message[..]].concat();
    let mut reply = [0; 2 + 12];
    let done = stream.write_all(&framed).and_then(|()| stream.read_exact(&mut reply));
    done.is_ok() && (reply[5] & 15, reply[9]) == (0, 1)
}

/// How many tries it took.
fn ask(server: SocketAddr, number: u16) -> usize {
    let socket = UdpSocket::bind((AUSTRALIA, 0)).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(TRY)).unwrap();
    for tried in 1..=TRIES {
        socket.send(&query(number, "www.cdn.example", 1)).unwrap();
        let mut reply = [0; 1_500];
        while let Ok(length) = socket.recv(&mut reply) {
            // An answer to an earlier try is one as well.
            if length > 12 && reply[..2] == number.to_be_bytes() && (reply[3] & 15, reply[7]) == (0, 1) {
                return tried;
            }
            // RFC 1035 §4.2.1: who is told of more comes over TCP, which no flood forges.
            if length > 12 && reply[..2] == number.to_be_bytes() && reply[2] & 2 != 0 && ask_over_tcp(server, number) {
                return tried;
            }
        }
    }
    panic!("query {number} was not answered in {TRIES} tries");
}

async fn good_queries_are_answered_in(more_of_cdn: &str, what: &str) {
    let seconds = std::env::var("PERIGEE_FLOOD_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(3);
    let mut nameserver = Nameserver::start(&document(more_of_cdn)).await;
    let server = nameserver.address;
    ask(server, 0);
    let before = nameserver.process.rss_bytes();
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let flooder = {
        let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
        thread::spawn(move || flood(server, 0x9e37_79b9, &stop, &sent))
    };
    let (mut tries, mut asked, mut slowest) = (0, 0_u16, Duration::ZERO);
    while began.elapsed() < Duration::from_secs(seconds) || asked < 10 {
        let asking = Instant::now();
        asked = asked.wrapping_add(1);
        tries += ask(server, asked);
        slowest = slowest.max(asking.elapsed());
    }
    stop.store(true, Ordering::SeqCst);
    flooder.join().unwrap();
    let flooded = began.elapsed().as_secs_f64();
    let grown = nameserver.process.peak_rss_bytes().saturating_sub(before);
    assert_eq!(nameserver.process.try_wait(), None, "it lives");
    // What it still has to read goes first.
    while ask(server, 9) > 1 {}
    let lines = nameserver.process.stderr().lines().count() + nameserver.process.stdout().lines().count();
    let taken = nameserver.metric("perigee_dns_queries_total", "").await;
    println!(
        "{what}: {:.0} packets a second for {flooded:.1} s, {:.0} % of them taken; {asked} good queries, {tries} tries, slowest {slowest:?}; \
         memory +{} KiB, {lines} log lines",
        sent.load(Ordering::Relaxed) as f64 / flooded,
        100.0 * taken / sent.load(Ordering::Relaxed) as f64,
        grown / 1024,
    );
    assert!(grown < RSS_GROWTH_BYTES_MAX, "{grown} bytes more");
    assert!(lines < LOG_LINES_MAX, "{lines} log lines");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_queries_are_answered_in_a_flood() {
    good_queries_are_answered_in("", "loopback exempt from the rate limit").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_so_they_are_under_the_rate_limit() {
    let limit = "[cdn.rate_limit]\nresponses_per_second = 100\nexempt = []\n";
    good_queries_are_answered_in(limit, "nobody exempt from the rate limit").await;
}
