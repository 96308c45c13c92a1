//! Distance for the demo: a relay in front of each node that holds back what passes for as long as light in fibre would take.
//!
//! Who dials is told by its address, as everywhere in the demo. Our own nodes all dial from 127.0.0.1: of them the relay reads the
//! Via of a connection's first request. Deliberately absent: loss, jitter, slow start; and any use outside of the demo.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use perigee_geo::distance::km;
use perigee_protocol::model::Location;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Handle,
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use crate::cities::{CITIES, SHIELDS};

/// Light in fibre, and half as far again, since cables follow coasts.
const KM_PER_MS: f64 = 200.0 / 1.5;
/// Of every way, for the last mile and what stands on it.
const ONE_WAY_MIN: Duration = Duration::from_micros(500);
/// What one read takes.
const PIECE_BYTES_MAX: usize = 64 << 10;
/// Pieces under way in one direction of one connection; then its sender waits. 4 MiB is 128 Mbit/s at the longest way.
const PIECES_MAX: usize = 64;
const CONNECTIONS_MAX: usize = 4096;
/// For the first bytes of who connects.
const FIRST_TIMEOUT: Duration = Duration::from_secs(60);
/// Before accepting again, when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener that ends when it is dropped; what is connected goes on.
#[derive(Debug)]
pub(crate) struct Relay(JoinHandle<()>);

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where a node listens itself, when a relay has its address: 127.81.0.80 → 127.81.1.80.
pub(crate) fn behind(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            SocketAddr::new(IpAddr::from([a, b, c.wrapping_add(1), d]), address.port())
        }
        IpAddr::V6(_) => address,
    }
}

/// Where a node of that name stands; the origin and whoever is unknown, in the first city.
pub(crate) fn place(name: &str) -> Location {
    // The shield in the west is in Frankfurt, the one in the east in Singapore.
    let name = if Some(&name) == SHIELDS.last() { "sin" } else { name };
    at(CITIES.iter().find(|city| city.id == name))
}

fn at(city: Option<&crate::cities::City>) -> Location {
    let city = city.unwrap_or(&CITIES[0]);
    Location { latitude: city.latitude, longitude: city.longitude }
}

/// How long one way takes.
pub(crate) fn one_way(from: Location, to: Location) -> Duration {
    ONE_WAY_MIN + Duration::from_secs_f64(km(from, to) / KM_PER_MS / 1000.0)
}

impl Relay {
    /// Takes connections at `listen` for the node that stands at `place` and listens [`behind`] it.
    pub(crate) async fn start(listen: SocketAddr, place: Location, on: &Handle) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        Ok(Self(on.spawn(accept(listener, behind(listen), place))))
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, place: Location) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, peer)) => {
                tokio::spawn(async move {
                    // Whoever is cut off sees that; there is nobody else to tell.
                    carry(client, peer.ip(), to, place).await.unwrap_or_default();
                    drop(seat);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn carry(mut client: TcpStream, peer: IpAddr, to: SocketAddr, place: Location) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut first = BytesMut::with_capacity(PIECE_BYTES_MAX);
    if timeout(FIRST_TIMEOUT, client.read_buf(&mut first)).await?? == 0 {
        return Ok(());
    }
    let one_way = one_way(whereabouts(peer, &first), place);
    // The kernel has shaken hands at once; a client over there would have waited for a round trip before it could speak.
    let since = Instant::now() + 2 * one_way;
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(peer, 0))?;
    let node = socket.connect(to).await?;
    node.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_node, to_node) = node.into_split();
    let up = pass(from_client, to_node, one_way, Some((first.freeze(), since + one_way)));
    let down = pass(from_node, to_client, one_way, None);
    tokio::try_join!(up, down).map(|_| ())
}

/// Passes everything on, each piece `one_way` after it came; `first` is there already and has a time of its own.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    one_way: Duration,
    first: Option<(Bytes, Instant)>,
) -> io::Result<()> {
    let (sender, mut pieces) = mpsc::channel::<(Bytes, Instant)>(PIECES_MAX);
    let read = async move {
        if let Some(first) = first {
            sender.send(first).await.unwrap_or_default();
        }
        loop {
            let mut piece = BytesMut::with_capacity(PIECE_BYTES_MAX);
            let length = from.read_buf(&mut piece).await?;
            // An empty piece is the end, and travels as long.
            let sent = sender.send((piece.freeze(), Instant::now() + one_way)).await;
            if length == 0 || sent.is_err() {
                return Ok::<_, io::Error>(());
            }
        }
    };
    let write = async move {
        while let Some((piece, when)) = pieces.recv().await {
            sleep_until(when).await;
            if piece.is_empty() {
                return to.shutdown().await;
            }
            to.write_all(&piece).await?;
        }
        Ok(())
    };
    tokio::try_join!(read, write).map(|_| ())
}

/// Where somebody dials from: a node of ours by its Via, everybody else by the telephone code in the address.
fn whereabouts(peer: IpAddr, head: &[u8]) -> Location {
    if let Some(name) = via(head).filter(|name| is_node(name)) {
        return place(&name);
    }
    match peer {
        IpAddr::V4(peer) => at(CITIES.iter().find(|city| city.code == peer.octets()[1])),
        IpAddr::V6(_) => at(None),
    }
}

fn is_node(name: &str) -> bool {
    SHIELDS.contains(&name) || CITIES.iter().any(|city| city.id == name)
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
        let check = |peer: &str, head: &str, expected: &str| {
            assert_eq!(whereabouts(peer.parse().unwrap(), head.as_bytes()), place(expected), "{peer} {head:?}");
        };
        check("127.81.0.1", "GET / HTTP/1.1\r\n\r\n", "tyo");
        check("127.0.0.1", "GET / HTTP/1.1\r\n\r\n", "fra");
        check("127.0.0.1", "GET / HTTP/1.1\r\nVia: 1.1 tyo\r\n\r\n", "tyo");
        check("127.0.0.1", "GET / HTTP/1.1\r\nvia: 1.1 tyo, 1.1 shield-east\r\n\r\n", "sin");
        check("127.0.0.1", "GET / HTTP/1.1\r\nvia: 1.1 tyo, 1.1 shield-west\r\n\r\n", "fra");
        check("127.81.0.1", "GET / HTTP/1.1\r\nvia: 1.1 somebody\r\n\r\n", "tyo");
        check("127.0.0.1", "GET / HTTP/1.1\r\n\r\nvia: 1.1 tyo\r\n", "fra");
        check("127.81.0.1", "via:", "tyo");
        check("127.81.0.1", "via: ,", "tyo");
        check("::1", "", "fra");
    }

    #[test]
    fn the_way_is_as_long_as_the_cable() {
        let ms = |from: &str, to: &str| one_way(place(from), place(to)).as_millis();
        assert_eq!(ms("fra", "shield-west"), 0);
        // 9,350 km.
        assert!((69..73).contains(&ms("fra", "tyo")), "{}", ms("fra", "tyo"));
    }

    #[test]
    fn a_node_listens_behind_its_relay() {
        assert_eq!(behind("127.81.0.80:8080".parse().unwrap()), "127.81.1.80:8080".parse().unwrap());
    }

    #[tokio::test]
    async fn what_passes_arrives_whole_and_not_before_its_time() {
        let node = TcpListener::bind("127.0.1.97:0").await.unwrap();
        let listen = SocketAddr::new([127, 0, 0, 97].into(), node.local_addr().unwrap().port());
        let _relay = Relay::start(listen, place("lon"), &Handle::current()).await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.49.0.1:0".parse().unwrap()).unwrap();
        let began = Instant::now();
        let mut client = socket.connect(listen).await.unwrap();
        client.write_all(b"question").await.unwrap();
        let (mut served, peer) = node.accept().await.unwrap();
        // The node sees the client, not the relay.
        assert_eq!(peer.ip(), IpAddr::from([127, 49, 0, 1]));
        let mut question = [0; 8];
        served.read_exact(&mut question).await.unwrap();
        assert_eq!(&question, b"question");
        let way = one_way(place("fra"), place("lon"));
        assert!(began.elapsed() >= 3 * way, "a handshake and the way are {:?}", 3 * way);
        let answer = vec![7; 1 << 20];
        let sent = answer.clone();
        tokio::spawn(async move { served.write_all(&sent).await.unwrap() });
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, answer);
        assert!(began.elapsed() >= 4 * way);
    }
}
