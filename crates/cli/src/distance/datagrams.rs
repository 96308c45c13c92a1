//! Questions and answers over a distance, each in a datagram: DNS over UDP.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    net::UdpSocket,
    runtime::Handle,
    sync::Semaphore,
    time::{Instant, sleep_until, timeout},
};

use super::{ACCEPT_PAUSE, Relay, Road, relay::Told};

/// Nameservers of ours answer with less.
const DATAGRAM_BYTES_MAX: usize = 4096;
/// Questions under way; further ones are lost, as on a line that is full.
const QUESTIONS_MAX: usize = 1024;
/// For an answer; a nameserver may leave a question unanswered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

impl Relay {
    /// Takes questions at `listen`. Each travels by itself, so that no answer waits for another's.
    pub(crate) async fn datagrams(listen: SocketAddr, road: Road, on: &Handle) -> io::Result<Self> {
        let socket = UdpSocket::bind(listen).await?;
        Ok(Self { at: socket.local_addr()?, task: on.spawn(receive(Arc::new(socket), road)) })
    }
}

async fn receive(socket: Arc<UdpSocket>, road: Road) {
    let seats = Arc::new(Semaphore::new(QUESTIONS_MAX));
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else { continue };
        let question = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
        let (socket, came) = (Arc::clone(&socket), Instant::now());
        tokio::spawn(async move {
            // What is lost is lost: the client asks again.
            carry(&socket, &question, peer, road, came).await.unwrap_or_default();
            drop(seat);
        });
    }
}

async fn carry(socket: &UdpSocket, question: &[u8], peer: SocketAddr, road: Road, came: Instant) -> io::Result<()> {
    let one_way = road.one_way(peer.ip(), &[]);
    sleep_until(came + one_way).await;
    let node = bind(socket.local_addr()?, peer, road).await?;
    node.connect(road.to).await?;
    node.send(question).await?;
    let mut answer = vec![0; DATAGRAM_BYTES_MAX];
    let length = timeout(ANSWER_TIMEOUT, node.recv(&mut answer)).await??;
    sleep_until(Instant::now() + one_way).await;
    socket.send_to(answer.get(..length).unwrap_or_default(), peer).await.map(drop)
}

async fn bind(asked: SocketAddr, peer: SocketAddr, road: Road) -> io::Result<UdpSocket> {
    for source in road.sources(peer.ip(), asked.ip()) {
        if let Ok(socket) = UdpSocket::bind(SocketAddr::new(source, 0)).await {
            return Ok(socket);
        }
    }
    if road.told != Told::Nothing {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    }
    let any: IpAddr = if road.to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    UdpSocket::bind(SocketAddr::new(any, 0)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distance::{Stand, World, one_way, place};

    #[tokio::test]
    async fn answers_take_their_time_and_do_not_wait_for_each_other() {
        let node = UdpSocket::bind("127.0.1.96:0").await.unwrap();
        let to = node.local_addr().unwrap();
        let listen = SocketAddr::new([127, 0, 0, 96].into(), to.port());
        let road = Road::in_demo(to, Stand::At(place("fra")));
        let _relay = Relay::datagrams(listen, road, &Handle::current()).await.unwrap();
        let client = |address: &'static str| async move {
            let socket = UdpSocket::bind(address).await.unwrap();
            socket.connect(listen).await.unwrap();
            socket
        };
        let (far, near) = (client("127.44.0.1:0").await, client("127.49.0.1:0").await);
        let began = Instant::now();
        far.send(b"far").await.unwrap();
        near.send(b"near").await.unwrap();
        // Neither is answered before both have come, each from its client's address; then the second first.
        let mut questions = Vec::new();
        for _ in 0..2 {
            let mut buffer = [0; 16];
            let (length, from) = node.recv_from(&mut buffer).await.unwrap();
            questions.push((buffer[..length].to_vec(), from));
        }
        questions.sort_by_key(|(question, _)| question.len());
        for (question, from) in questions.iter().rev() {
            let code = if question == b"far" { 44 } else { 49 };
            assert_eq!(from.ip(), IpAddr::from([127, code, 0, 1]));
            node.send_to(question, from).await.unwrap();
        }
        let mut buffer = [0; 16];
        for (socket, expected) in [(&near, &b"near"[..]), (&far, b"far")] {
            let length = socket.recv(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..length], expected);
        }
        let way = one_way(World::Loopback.whereabouts([127, 44, 0, 1].into(), b"").unwrap(), place("fra"));
        assert!(began.elapsed() >= 2 * way, "{:?}", began.elapsed());
    }
}
