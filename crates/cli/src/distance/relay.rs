//! Connections over a distance.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use perigee_protocol::model::Location;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Handle,
    sync::{Semaphore, mpsc},
    time::{Instant, sleep_until, timeout},
};

use super::{ACCEPT_PAUSE, Relay, World, nearest, one_way};

/// What one read takes.
const PIECE_BYTES_MAX: usize = 16 << 10;
/// Under way in one direction of one connection; then its sender waits. It is 128 Mbit/s over the longest way and back.
const WINDOW_BYTES: usize = 4 << 20;
/// As many pieces at most, however small they are.
const PIECES_MAX: usize = 4096;
const CONNECTIONS_MAX: usize = 4096;
/// For the first bytes of who connects.
const FIRST_TIMEOUT: Duration = Duration::from_secs(60);

/// How a node is told whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// It is not.
    Nothing,
    /// The relay dials from the client's address, which is this machine's too.
    ByAddress,
    /// By a header of the PROXY protocol, version 2.
    ByHeader,
    /// The relay dials from an address of its own in the client's network: all that a nameserver goes by. There is no PROXY
    /// protocol for datagrams that it would read.
    ByNetwork,
}

/// The address of a relay in the network of whoever asks it: networks are /24s, and the relay's last part is the same in each.
fn own_in_network(peer: IpAddr, asked: IpAddr) -> IpAddr {
    match (peer.to_canonical(), asked.to_canonical()) {
        (IpAddr::V4(peer), IpAddr::V4(asked)) => {
            let ([a, b, c, _], [_, _, _, own]) = (peer.octets(), asked.octets());
            IpAddr::from([a, b, c, own])
        }
        _ => asked,
    }
}

/// Where a node stands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stand {
    At(Location),
    /// In the city that is nearest to whoever asks: a nameserver, whose address is announced in all of them (anycast), as in
    /// deploy/compose.yaml it has a leg in every region.
    Nearest,
    /// At no distance from anywhere.
    Nowhere,
}

/// What a relay stands in front of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Road {
    /// Where the node listens itself.
    pub(crate) to: SocketAddr,
    pub(crate) stand: Stand,
    pub(crate) world: World,
    pub(crate) told: Told,
}

impl Road {
    /// The road to a node of the demo.
    pub(crate) fn in_demo(to: SocketAddr, stand: Stand) -> Self {
        Self { to, stand, world: World::Loopback, told: Told::ByAddress }
    }

    /// The addresses to dial the node from, the best first; none: whichever the system takes.
    pub(super) fn sources(&self, peer: IpAddr, asked: IpAddr) -> Vec<IpAddr> {
        match self.told {
            Told::ByAddress => vec![peer],
            // Somebody whose network the relay has no leg in is told of as a neighbour of the leg that was asked.
            Told::ByNetwork => vec![own_in_network(peer, asked), asked],
            Told::Nothing | Told::ByHeader => Vec::new(),
        }
    }

    /// How long one way takes from there.
    pub(super) fn one_way(&self, peer: IpAddr, head: &[u8]) -> Duration {
        let from = self.world.whereabouts(peer, head);
        match (self.stand, from) {
            (Stand::At(place), Some(from)) => one_way(from, place),
            (Stand::Nearest, Some(from)) => one_way(from, nearest(from)),
            (Stand::Nowhere, _) | (_, None) => Duration::ZERO,
        }
    }
}

impl Relay {
    /// Takes connections at `listen`.
    pub(crate) async fn connections(listen: SocketAddr, road: Road, on: &Handle) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        Ok(Self { at: listener.local_addr()?, task: on.spawn(accept(listener, road)) })
    }
}

async fn accept(listener: TcpListener, road: Road) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((mut client, peer)) => {
                tokio::spawn(async move {
                    let carried = carry(&mut client, peer, road).await;
                    if carried.is_err() {
                        // Cut off, and not ended: as a body without a length must show. There is nobody else to tell.
                        client.set_zero_linger().unwrap_or_default();
                    }
                    drop(seat);
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn carry(client: &mut TcpStream, peer: SocketAddr, road: Road) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut first = BytesMut::with_capacity(PIECE_BYTES_MAX);
    if timeout(FIRST_TIMEOUT, client.read_buf(&mut first)).await?? == 0 {
        return Ok(());
    }
    let one_way = road.one_way(peer.ip(), &first);
    // The kernel has shaken hands at once; a client over there would have waited for a round trip before it could speak.
    let since = Instant::now() + 2 * one_way;
    let mut node = dial(peer, client.local_addr()?, road).await?;
    let (from_client, to_client) = client.split();
    let (from_node, to_node) = node.split();
    let up = pass(from_client, to_node, one_way, Some((first.freeze(), since + one_way)));
    let down = pass(from_node, to_client, one_way, None);
    let carried = tokio::try_join!(up, down).map(|_| ());
    if carried.is_err() {
        node.set_zero_linger()?;
    }
    carried
}

async fn dial(peer: SocketAddr, asked: SocketAddr, road: Road) -> io::Result<TcpStream> {
    let socket = if road.to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    let mut bound = Ok(());
    for source in road.sources(peer.ip(), asked.ip()) {
        bound = socket.bind(SocketAddr::new(source, 0));
        if bound.is_ok() {
            break;
        }
    }
    bound?;
    let mut node = socket.connect(road.to).await?;
    node.set_nodelay(true)?;
    if road.told == Told::ByHeader {
        node.write_all(&header(peer, asked)).await?;
    }
    Ok(node)
}

/// A header of the PROXY protocol: version 2, PROXY, TCP, who dials and whom (specification, 2.2).
fn header(peer: SocketAddr, asked: SocketAddr) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    match (peer.ip().to_canonical(), asked.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.extend([0x11, 0, 12]);
            header.extend(from.octets().into_iter().chain(to.octets()));
        }
        (from, to) => {
            let v6 = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            header.extend([0x21, 0, 36]);
            header.extend(v6(from).octets().into_iter().chain(v6(to).octets()));
        }
    }
    header.extend(peer.port().to_be_bytes().into_iter().chain(asked.port().to_be_bytes()));
    header
}

/// Passes everything on, each piece `one_way` after it came; `first` is there already and has a time of its own.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    one_way: Duration,
    first: Option<(Bytes, Instant)>,
) -> io::Result<()> {
    let (sender, mut pieces) = mpsc::channel::<(Bytes, Instant)>(PIECES_MAX);
    // The first piece is let in beside it.
    let window = &Semaphore::new(WINDOW_BYTES);
    let read = async move {
        if let Some(first) = first {
            sender.send(first).await.unwrap_or_default();
        }
        let mut buffer = BytesMut::new();
        loop {
            // Small pieces share what is there.
            if buffer.capacity() < PIECE_BYTES_MAX / 4 {
                buffer.reserve(PIECE_BYTES_MAX);
            }
            let length = from.read_buf(&mut buffer).await?;
            let when = Instant::now() + one_way;
            if let Ok(room) = window.acquire_many(u32::try_from(length).unwrap_or(u32::MAX)).await {
                room.forget();
            }
            // An empty piece is the end, and travels as long.
            let sent = sender.send((buffer.split().freeze(), when)).await;
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
            window.add_permits(piece.len());
        }
        Ok(())
    };
    tokio::try_join!(read, write).map(|_| ())
}

#[cfg(test)]
mod tests {
    use perigee_node::proxy_protocol::{Progress, read};

    use super::*;
    use crate::distance::{behind, place};

    /// A relay for a node that the test itself is, and the address to dial.
    async fn relay(last: u8, told: Told, world: World) -> (TcpListener, Relay, SocketAddr) {
        let node = TcpListener::bind((IpAddr::from([127, 0, 1, last]), 0)).await.unwrap();
        let to = node.local_addr().unwrap();
        let listen = SocketAddr::new([127, 0, 0, last].into(), to.port());
        assert_eq!(behind(listen), Some(to));
        let road = Road { to, stand: Stand::At(place("lon")), world, told };
        let relay = Relay::connections(listen, road, &Handle::current()).await.unwrap();
        (node, relay, listen)
    }

    async fn dial_from(client: &str, listen: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{client}:0").parse().unwrap()).unwrap();
        socket.connect(listen).await.unwrap()
    }

    #[tokio::test]
    async fn what_passes_arrives_whole_and_not_before_its_time() {
        let (node, _relay, listen) = relay(97, Told::ByAddress, World::Loopback).await;
        let began = Instant::now();
        let mut client = dial_from("127.49.0.1", listen).await;
        client.write_all(b"question").await.unwrap();
        let (mut served, peer) = node.accept().await.unwrap();
        // The node sees the client, not the relay.
        assert_eq!(peer.ip(), IpAddr::from([127, 49, 0, 1]));
        let mut question = [0; 8];
        served.read_exact(&mut question).await.unwrap();
        assert_eq!(&question, b"question");
        let way = one_way(World::Loopback.whereabouts(peer.ip(), b"").unwrap(), place("lon"));
        assert!(began.elapsed() >= 3 * way, "a handshake and the way are {:?}", 3 * way);
        // More than the window.
        let answer = vec![7; 2 * WINDOW_BYTES + 1];
        let sent = answer.clone();
        tokio::spawn(async move { served.write_all(&sent).await.unwrap() });
        let mut got = Vec::new();
        client.read_to_end(&mut got).await.unwrap();
        assert!(got == answer, "{} bytes", got.len());
        assert!(began.elapsed() >= 4 * way);
    }

    #[tokio::test]
    async fn what_is_cut_off_looks_cut_off() {
        let (node, relay, listen) = relay(98, Told::ByAddress, World::Loopback).await;
        let mut client = dial_from("127.44.0.1", listen).await;
        client.write_all(b"question").await.unwrap();
        let (served, _) = node.accept().await.unwrap();
        served.set_zero_linger().unwrap();
        drop(served);
        let error = client.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        // Nobody behind it.
        drop(node);
        let mut client = dial_from("127.44.0.1", listen).await;
        client.write_all(b"question").await.unwrap();
        let error = client.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        drop(relay);
    }

    #[tokio::test]
    async fn a_header_tells_who_dials() {
        let (node, _relay, listen) = relay(99, Told::ByHeader, World::Compose).await;
        let mut client = dial_from("127.44.0.1", listen).await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut served, _) = node.accept().await.unwrap();
        let mut got = Vec::new();
        served.read_to_end(&mut got).await.unwrap();
        let (header, question) = got.split_at(28);
        assert_eq!(read(header), Ok(Progress::Done(Some(client.local_addr().unwrap()))));
        assert_eq!(question, b"question");
    }

    #[test]
    fn a_relay_has_an_address_in_every_network() {
        let check = |peer: &str, asked: &str, expected: &str| {
            let [peer, asked, expected] = [peer, asked, expected].map(|address| address.parse::<IpAddr>().unwrap());
            assert_eq!(own_in_network(peer, asked), expected, "{peer} asks {asked}");
        };
        check("198.18.81.20", "198.18.81.53", "198.18.81.53");
        // From another region, through the internet.
        check("198.18.49.20", "198.18.81.54", "198.18.49.54");
        check("::ffff:198.18.49.20", "::ffff:198.18.81.54", "198.18.49.54");
        check("2001:db8::20", "2001:db8::53", "2001:db8::53");
    }

    #[test]
    fn a_nameserver_is_as_near_as_a_city() {
        let road = Road::in_demo("127.0.1.53:53".parse().unwrap(), Stand::Nearest);
        let check = |peer: [u8; 4], code: u8, city: &str| {
            let client = crate::distance::country(code).unwrap();
            assert_eq!(road.one_way(peer.into(), b""), one_way(client, place(city)), "{city}");
        };
        check([127, 81, 0, 1], 81, "tyo");
        check([127, 82, 0, 1], 82, "tyo");
        check([127, 33, 0, 1], 33, "lon");
        check([127, 49, 0, 1], 49, "fra");
    }

    #[test]
    fn headers_are_read_as_they_were_meant() {
        let check = |peer: &str, asked: &str, bytes: usize| {
            let (peer, asked) = (peer.parse().unwrap(), asked.parse().unwrap());
            let header = header(peer, asked);
            assert_eq!((header.len(), read(&header)), (bytes, Ok(Progress::Done(Some(peer)))), "{peer} {asked}");
        };
        check("198.18.81.20:4711", "198.18.81.10:80", 28);
        check("[2001:db8::1]:4711", "[2001:db8::2]:80", 52);
    }
}
