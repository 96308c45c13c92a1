//! Queries by the hundred thousand: a window of them under way, or so many a second, from one thread on the core of loads.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use super::{
    super::{LOAD_CORE, load::Figure, server::Server},
    SITE, ZONE,
    peers::Setup,
};
use crate::run::output;

/// Sockets of the load, as many clients.
const SOCKETS: usize = 8;
/// Queries under way from each.
const WINDOW: usize = 25;
/// Different queries, where they differ.
const VARIANTS: usize = 65_536;
/// After so long without an answer a query counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queries {
    /// Always the same.
    One,
    /// With a client subnet, a random /24.
    Subnets,
    /// Names that are not there.
    Random,
    /// As One, with DO.
    Signed,
}

impl Queries {
    fn messages(self) -> Vec<Vec<u8>> {
        let mut random = Random(88_172_645_463_325_252);
        match self {
            Self::One => vec![message(SITE, None)],
            Self::Signed => vec![message(SITE, Some(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]))],
            Self::Random => (0..VARIANTS).map(|_| message(&format!("{:x}.{ZONE}", random.next()), None)).collect(),
            Self::Subnets => (0..VARIANTS)
                .map(|_| {
                    let [a, b, c, ..] = random.next().to_be_bytes();
                    let option = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 11, 0, 8, 0, 7, 0, 1, 24, 0, 1 + a % 222, b, c];
                    message(SITE, Some(&option))
                })
                .collect(),
        }
    }
}

/// xorshift64
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A query for the A records of a name, its identifier to be set.
fn message(name: &str, opt: Option<&[u8]>) -> Vec<u8> {
    let mut message = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(opt.is_some())];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message.extend(opt.unwrap_or_default());
    message
}

/// What a run came to.
#[derive(Debug, Default)]
pub(super) struct Ran {
    pub(super) answers: u64,
    pub(super) lost: u64,
    pub(super) took: Duration,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// The longest time without any answer.
    pub(super) gap: Duration,
}

/// A client that asks again as soon as it is answered.
pub(super) struct Window {
    clients: Vec<Client>,
    messages: Vec<Vec<u8>>,
    next: usize,
}

struct Client {
    socket: UdpSocket,
    /// When each identifier was sent; None: it is not under way.
    sent: Vec<Option<Instant>>,
    id: u16,
    under_way: usize,
    heard: Instant,
}

impl Client {
    fn new(server: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        let sent = vec![None; usize::from(u16::MAX) + 1];
        Ok(Self { socket, sent, id: 0, under_way: 0, heard: Instant::now() })
    }

    fn ask(&mut self, message: &mut [u8], now: Instant) -> Result<()> {
        self.id = self.id.wrapping_add(1);
        if let Some(place) = message.first_chunk_mut() {
            *place = self.id.to_be_bytes();
        }
        match self.socket.send(message) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("a query cannot be sent"),
        }
        if let Some(slot) = self.sent.get_mut(usize::from(self.id)) {
            *slot = Some(now);
        }
        self.under_way += 1;
        Ok(())
    }

    /// Hands over how long each answer that is there took.
    fn hear(&mut self, now: Instant, mut each: impl FnMut(Duration)) -> Result<()> {
        let mut reply = [0; 2_048];
        loop {
            match self.socket.recv(&mut reply) {
                Ok(2..) => {}
                Ok(_) => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("an answer cannot be read"),
            }
            let [high, low, ..] = reply;
            let sent = self.sent.get_mut(usize::from(u16::from_be_bytes([high, low]))).and_then(Option::take);
            if let Some(sent) = sent {
                self.under_way -= 1;
                self.heard = now;
                each(now.saturating_duration_since(sent));
            }
        }
    }

    fn forget(&mut self) -> u64 {
        let lost = self.under_way as u64;
        self.sent.fill(None);
        self.under_way = 0;
        lost
    }
}

/// This thread, and those it starts, on the core of loads.
fn pin() -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(LOAD_CORE.parse()?)?;
    sched_setaffinity(Pid::from_raw(0), &cores).context("this thread cannot be bound to a core")
}

impl Window {
    pub(super) fn new(server: SocketAddr, queries: Queries) -> Result<Self> {
        let clients = (0..SOCKETS).map(|_| Client::new(server)).collect::<Result<_>>()?;
        Ok(Self { clients, messages: queries.messages(), next: 0 })
    }

    pub(super) fn run(&mut self, time: Duration) -> Result<Ran> {
        thread::scope(|scope| {
            let running = scope.spawn(|| {
                pin()?;
                self.run_here(time)
            });
            running.join().unwrap_or_else(|_| anyhow::bail!("the load panicked"))
        })
    }

    fn run_here(&mut self, time: Duration) -> Result<Ran> {
        let from = Instant::now();
        let (mut ran, mut delays) = (Ran::default(), Delays::new());
        loop {
            let now = Instant::now();
            if now - from >= time {
                break;
            }
            for client in &mut self.clients {
                client.hear(now, |delay| {
                    ran.answers += 1;
                    delays.add(delay);
                })?;
                if client.under_way > 0 && now - client.heard > LOST_AFTER {
                    ran.lost += client.forget();
                    client.heard = now;
                }
                while client.under_way < WINDOW {
                    let at = self.next % self.messages.len();
                    self.next += 1;
                    let Some(message) = self.messages.get_mut(at) else { break };
                    let before = client.under_way;
                    client.ask(message, now)?;
                    if client.under_way == before {
                        break;
                    }
                }
            }
        }
        ran.took = from.elapsed();
        (ran.p50_us, ran.p99_us) = (delays.percentile(0.5), delays.percentile(0.99));
        // What is under way when the time is over belongs to nobody.
        for client in &mut self.clients {
            client.forget();
        }
        Ok(ran)
    }
}

/// So many queries a second of random clients, whether they are answered or not; `meanwhile` runs beside them.
pub(super) fn paced(
    server: SocketAddr,
    rate: u32,
    time: Duration,
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<Ran> {
    thread::scope(|scope| {
        let running = scope.spawn(move || {
            pin()?;
            paced_here(server, rate, time)
        });
        let done = meanwhile();
        let ran = running.join().unwrap_or_else(|_| anyhow::bail!("the load panicked"))?;
        done.map(|()| ran)
    })
}

fn paced_here(server: SocketAddr, rate: u32, time: Duration) -> Result<Ran> {
    let mut clients: Vec<Client> = (0..SOCKETS).map(|_| Client::new(server)).collect::<Result<_>>()?;
    let mut messages = Queries::Subnets.messages();
    let (mut ran, mut delays) = (Ran::default(), Delays::new());
    let (mut asked, from) = (0_u64, Instant::now());
    let mut heard = from;
    loop {
        let now = Instant::now();
        let since = now - from;
        let due = (since.min(time).as_secs_f64() * f64::from(rate)) as u64;
        while asked < due {
            let (place, client) = (asked as usize % messages.len(), asked as usize % clients.len());
            if let (Some(message), Some(client)) = (messages.get_mut(place), clients.get_mut(client)) {
                client.ask(message, now)?;
            }
            asked += 1;
        }
        let before = ran.answers;
        for client in &mut clients {
            client.hear(now, |delay| {
                ran.answers += 1;
                delays.add(delay);
            })?;
        }
        if ran.answers > before {
            ran.gap = ran.gap.max(now - heard);
            heard = now;
        }
        let under_way: usize = clients.iter().map(|client| client.under_way).sum();
        if since >= time && (under_way == 0 || since >= time + LOST_AFTER) {
            break;
        }
    }
    ran.lost = asked.saturating_sub(ran.answers);
    ran.took = time;
    (ran.p50_us, ran.p99_us) = (delays.percentile(0.5), delays.percentile(0.99));
    Ok(ran)
}

/// Delays, by the microsecond.
struct Delays(Vec<u64>);

impl Delays {
    fn new() -> Self {
        Self(vec![0; 200_000])
    }

    fn add(&mut self, delay: Duration) {
        let last = self.0.len() - 1;
        let at = usize::try_from(delay.as_micros()).unwrap_or(last).min(last);
        if let Some(count) = self.0.get_mut(at) {
            *count += 1;
        }
    }

    fn percentile(&self, share: f64) -> f64 {
        let all: u64 = self.0.iter().sum();
        let mut left = (all as f64 * share).ceil() as u64;
        let at = self.0.iter().position(|count| {
            left = left.saturating_sub(*count);
            left == 0
        });
        at.unwrap_or(0) as f64
    }
}

/// Returns when the server answers a datagram.
pub(super) fn first_answer(server: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_millis(1)))?;
    let (message, from) = (message(SITE, None), Instant::now());
    let mut reply = [0; 512];
    loop {
        // A port that nobody has is an error of the one or the other call.
        let answered = socket.send(&message).and_then(|_| socket.recv(&mut reply));
        if answered.is_ok() {
            return Ok(());
        }
        ensure!(from.elapsed() < Duration::from_secs(30), "no answer within 30 s");
    }
}

/// dnsperf over 20 streams for so long; `mode` is tcp or dot.
pub(super) fn dnsperf(server: &Server, (mode, queries): (&str, u32), time: Duration, setup: &Setup) -> Result<Figure> {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", LOAD_CORE, "dnsperf", "-s", "127.0.0.1", "-c", "20", "-m", mode]);
    command.arg("-q").arg(queries.to_string()).arg("-p").arg(server.port_of(mode).to_string());
    command.arg("-l").arg(time.as_secs().to_string()).arg("-d").arg(&setup.names);
    let (cpu, from) = (server.cpu()?, Instant::now());
    let told = output(&mut command)?;
    let (cpu, took) = (server.cpu()?.saturating_sub(cpu), from.elapsed());
    let completed = completed(&told).with_context(|| format!("{}: dnsperf prints no count\n{told}", server.name))?;
    let average_us = seconds(&told, "Average Latency (s):").unwrap_or(f64::NAN) * 1e6;
    Ok(Figure { rate: completed / took.as_secs_f64(), cpu_us: cpu.as_secs_f64() * 1e6 / completed, p99_us: average_us })
}

/// h2load over 20 connections for so long; the delay is the mean, as of dnsperf.
pub(super) fn h2load(server: &Server, streams: u32, time: Duration, setup: &Setup) -> Result<Figure> {
    let query = setup.folder.join("query");
    std::fs::write(&query, message(SITE, None))?;
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", LOAD_CORE, "h2load", "-t", "1", "-c", "20"]);
    command.arg("-m").arg(streams.to_string()).arg("-D").arg(time.as_secs().to_string());
    command.arg("-d").arg(query).args(["-H", "content-type: application/dns-message"]);
    command.arg(format!("https://127.0.0.1:{}/dns-query", server.port_of("doh")));
    let (cpu, from) = (server.cpu()?, Instant::now());
    let told = output(&mut command)?;
    let (cpu, took) = (server.cpu()?.saturating_sub(cpu), from.elapsed());
    let (done, mean_us) = https(&told).with_context(|| format!("{}: h2load prints no count\n{told}", server.name))?;
    Ok(Figure { rate: done / took.as_secs_f64(), cpu_us: cpu.as_secs_f64() * 1e6 / done, p99_us: mean_us })
}

/// Of `status codes: 1234 2xx, 0 3xx, …` and `time for request: MIN MAX MEAN …`.
fn https(told: &str) -> Option<(f64, f64)> {
    let of = |field: &str| told.lines().find_map(|line| line.trim().strip_prefix(field));
    let codes = of("status codes:")?;
    let done: f64 = codes.split_whitespace().next()?.parse().ok()?;
    let is_good = codes.contains(" 0 4xx") && codes.contains(" 0 5xx") && done > 0.0;
    let mean = of("time for request:")?.split_whitespace().nth(2)?;
    let number: f64 = mean.trim_end_matches(char::is_alphabetic).parse().ok()?;
    let unit = match mean.trim_start_matches(|c: char| !c.is_alphabetic()) {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return None,
    };
    is_good.then_some((done, number * unit))
}

fn completed(told: &str) -> Option<f64> {
    seconds(told, "Queries completed:").filter(|count| *count > 0.0)
}

fn seconds(told: &str, field: &str) -> Option<f64> {
    let line = told.lines().find_map(|line| line.trim().strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let mut delays = Delays::new();
        (1..=100).for_each(|us| delays.add(Duration::from_micros(us)));
        assert_eq!((delays.percentile(0.5), delays.percentile(0.99)), (50.0, 99.0));
        delays.add(Duration::from_secs(100));
        assert_eq!(delays.percentile(1.0), 199_999.0);
    }

    #[test]
    fn figures_of_dnsperf() {
        let told = "  Queries completed:    1044355 (100.00%)\n  Average Latency (s):  0.000712 (min 0.1, max 0.2)\n";
        assert_eq!(completed(told), Some(1_044_355.0));
        assert_eq!(seconds(told, "Average Latency (s):"), Some(0.000_712));
        assert_eq!(completed("  Queries completed:    0 (0%)\n"), None);
    }

    #[test]
    fn figures_of_h2load() {
        let told = "status codes: 1000 2xx, 0 3xx, 0 4xx, 0 5xx\ntime for request:      128us      1.50ms     2.5ms     80us    90.00%\n";
        assert_eq!(https(told), Some((1000.0, 2500.0)));
        assert_eq!(https(&told.replace(" 0 4xx", " 3 4xx")), None);
    }
}
