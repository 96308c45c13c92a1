//! Tells secondaries of a new version of the zone (RFC 1996), again and again until each has answered or is given up: they
//! look by themselves, too, after the SOA's refresh interval.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use perigee_node::clock;
use tokio::{net::UdpSocket, runtime::Handle, task::JoinHandle, time};

use crate::{answerer::Shared, world::random_key};

/// RFC 1996 §3.6 proposes 5 times in 60 seconds, with growing intervals.
const ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// A reply repeats the question and is signed.
const REPLY_BYTES_MAX: usize = 1_500;

/// What tells the secondaries of one nameserver.
#[derive(Debug)]
pub(crate) struct Notifier {
    shared: Arc<Shared>,
    control: Handle,
    telling: Mutex<Vec<JoinHandle<()>>>,
}

impl Notifier {
    pub(crate) fn new(shared: Arc<Shared>, control: Handle) -> Self {
        Self { shared, control, telling: Mutex::default() }
    }

    /// Tells of the version that serves now; whoever is still being told of another is told of this one.
    pub(crate) fn tell(&self, secondaries: &[SocketAddr]) {
        let mut telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        telling.drain(..).for_each(|task| task.abort());
        telling.extend(secondaries.iter().map(|secondary| {
            let (shared, secondary) = (Arc::clone(&self.shared), *secondary);
            self.control.spawn(async move {
                match tell(&shared, secondary).await {
                    Ok(attempts) => tracing::info!(node = shared.name, %secondary, attempts, "a secondary knows of the new version"),
                    Err(reason) => {
                        tracing::warn!(node = shared.name, %secondary, reason, "a secondary was not told of the new version");
                    }
                }
            })
        }));
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(|task| task.abort());
    }
}

/// How many attempts it took.
async fn tell(shared: &Shared, secondary: SocketAddr) -> Result<u32, String> {
    let any: IpAddr = if secondary.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let failed = |error: std::io::Error| error.to_string();
    let mut wait = FIRST_WAIT;
    let mut last = "no answer".to_owned();
    for attempt in 1..=ATTEMPTS {
        // A socket and a number for each: nobody else can answer by chance.
        let socket = UdpSocket::bind((any, 0)).await.map_err(failed)?;
        socket.connect(secondary).await.map_err(failed)?;
        let [a, b, ..] = random_key();
        let id = u16::from_be_bytes([a, b]);
        let message = perigee_dns::notify(&shared.snapshot.load(), id, clock::now_ms());
        let message = message.ok_or_else(|| "there is no key to sign with".to_owned())?;
        let deadline = time::Instant::now() + wait;
        match socket.send(&message).await {
            Ok(_) => match time::timeout_at(deadline, answered(&socket, id)).await {
                Ok(Ok(())) => return Ok(attempt),
                Ok(Err(error)) => last = error,
                Err(_) => {}
            },
            Err(error) => last = error.to_string(),
        }
        // What refuses at once may be about to start.
        time::sleep_until(deadline).await;
        wait *= 2;
    }
    Err(last)
}

/// Waits for the answer to NOTIFY of that number.
async fn answered(socket: &UdpSocket, id: u16) -> Result<(), String> {
    let mut reply = [0; REPLY_BYTES_MAX];
    loop {
        let length = socket.recv(&mut reply).await.map_err(|error| error.to_string())?;
        let [i1, i2, flags, rcode, ..] = reply;
        // QR and the opcode of NOTIFY.
        if length < 12 || [i1, i2] != id.to_be_bytes() || flags & 0xf8 != 0xa0 {
            continue;
        }
        return match rcode & 15 {
            0 => Ok(()),
            rcode => Err(format!("it answered with the code {rcode}")),
        };
    }
}
