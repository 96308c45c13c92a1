//! Asking for the CDN's name as a client of a place does: from its address, or with EDNS Client Subnet for it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail, ensure};
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        Name, RData, RecordType,
        rdata::opt::{ClientSubnet, EdnsOption},
    },
};
use perigee_upstream::{Resolve, SystemResolver};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, UdpSocket},
    time::timeout,
};

/// How long a nameserver has for an answer; a lost datagram is asked for again once.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
const TRIES: usize = 2;
/// What fits without fragments (DNS flag day 2020).
const DATAGRAM_BYTES_MAX: u16 = 1232;
/// Aliases that are followed.
const ALIASES_MAX: usize = 8;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    /// The address that a query leaves from; None: whichever the system takes.
    pub(super) bind: Option<IpAddr>,
    /// The client that the query tells of.
    pub(super) subnet: Option<IpAddr>,
}

/// The addresses of `host` for that client, and how long it took. A literal address takes nothing.
pub(super) async fn lookup(
    servers: &[SocketAddr],
    host: &str,
    asker: Asker,
) -> anyhow::Result<(Vec<IpAddr>, Option<Duration>)> {
    if let Ok(address) = host.parse() {
        return Ok((vec![address], None));
    }
    let began = Instant::now();
    let addresses = if servers.is_empty() {
        // A new one each time: what an earlier one keeps would be no lookup.
        SystemResolver::from_system()?.resolve(&host.to_ascii_lowercase()).await?
    } else {
        ask_in_turn(servers, host, asker).await?
    };
    Ok((addresses, Some(began.elapsed())))
}

async fn ask_in_turn(servers: &[SocketAddr], host: &str, asker: Asker) -> anyhow::Result<Vec<IpAddr>> {
    let is_v6 = asker.bind.or(asker.subnet).is_some_and(|address| address.is_ipv6());
    let kinds = if is_v6 { [RecordType::AAAA, RecordType::A] } else { [RecordType::A, RecordType::AAAA] };
    let mut last = anyhow!("no nameserver is named");
    for server in servers {
        for kind in kinds {
            match follow(*server, host, kind, asker).await {
                Ok(addresses) if addresses.is_empty() => last = anyhow!("{server} knows no address of {host}"),
                Ok(addresses) => return Ok(addresses),
                Err(error) => {
                    last = error;
                    break;
                }
            }
        }
    }
    Err(last)
}

async fn follow(server: SocketAddr, host: &str, kind: RecordType, asker: Asker) -> anyhow::Result<Vec<IpAddr>> {
    let mut name = Name::from_ascii(host).with_context(|| format!("{host:?} is no name"))?;
    name.set_fqdn(true);
    for _ in 0..ALIASES_MAX {
        let mut answer = ask(server, &question(server, &name, kind, asker)?, asker).await?;
        // RFC 6891 §7: so do those answer that know nothing of EDNS.
        if answer.metadata.response_code == ResponseCode::FormErr {
            let mut plain = question(server, &name, kind, asker)?;
            plain.edns = None;
            answer = ask(server, &plain, asker).await?;
        }
        match answer.metadata.response_code {
            ResponseCode::NoError => {}
            code => bail!("{server} answers {code} about {name}"),
        }
        let addresses: Vec<IpAddr> = answer.answers.iter().filter_map(|record| address(&record.data)).collect();
        let alias = answer.answers.iter().rev().find_map(|record| match &record.data {
            RData::CNAME(alias) => Some(alias.0.clone()),
            _ => None,
        });
        match alias {
            Some(alias) if addresses.is_empty() => name = alias,
            _ => return Ok(addresses),
        }
    }
    bail!("{host} has more than {ALIASES_MAX} aliases in a row")
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(address.0.into()),
        RData::AAAA(address) => Some(address.0.into()),
        _ => None,
    }
}

fn question(server: SocketAddr, name: &Name, kind: RecordType, asker: Asker) -> anyhow::Result<Message> {
    let mut number = [0; 2];
    getrandom::fill(&mut number).map_err(|error| anyhow!("no randomness: {error}"))?;
    let mut query = Message::new(u16::from_ne_bytes(number), MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name.clone(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(DATAGRAM_BYTES_MAX);
    // An address of the other family cannot ask this server, and is told instead.
    let other = asker.bind.filter(|bind| bind.is_ipv4() != server.is_ipv4());
    if let Some(client) = asker.subnet.or(other) {
        edns.options_mut().insert(EdnsOption::Subnet(subnet(client)));
    }
    query.set_edns(edns);
    Ok(query)
}

/// RFC 7871 §11.1: no more of the address than 24 or 56 bits.
fn subnet(client: IpAddr) -> ClientSubnet {
    match client {
        IpAddr::V4(client) => ClientSubnet::new(Ipv4Addr::from_bits(client.to_bits() & !0 << 8).into(), 24, 0),
        IpAddr::V6(client) => ClientSubnet::new(Ipv6Addr::from_bits(client.to_bits() & !0 << 72).into(), 56, 0),
    }
}

async fn ask(server: SocketAddr, query: &Message, asker: Asker) -> anyhow::Result<Message> {
    let wire = query.to_vec()?;
    let any = if server.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let bind = asker.bind.filter(|address| address.is_ipv4() == server.is_ipv4()).unwrap_or(any);
    let socket = UdpSocket::bind((bind, 0)).await.with_context(|| format!("cannot send from {bind}"))?;
    socket.connect(server).await.with_context(|| format!("cannot reach {server}"))?;
    let mut buffer = [0; DATAGRAM_BYTES_MAX as usize];
    for _ in 0..TRIES {
        socket.send(&wire).await.with_context(|| format!("cannot ask {server}"))?;
        let answer = timeout(ANSWER_TIMEOUT, async {
            loop {
                let length = socket.recv(&mut buffer).await?;
                let answer = buffer.get(..length).and_then(|bytes| Message::from_vec(bytes).ok());
                // What answers another question is late, or somebody's guess.
                if let Some(answer) = answer.filter(|answer| is_answer(query, answer)) {
                    return Ok::<_, anyhow::Error>(answer);
                }
            }
        });
        match answer.await {
            Err(_) => {}
            Ok(answer) => {
                let answer = answer.with_context(|| format!("no nameserver answers at {server}"))?;
                // RFC 7766 §5: what is cut is asked for again over TCP.
                return if answer.metadata.truncation { ask_tcp(server, query, bind).await } else { Ok(answer) };
            }
        }
    }
    bail!("{server} does not answer")
}

async fn ask_tcp(server: SocketAddr, query: &Message, bind: IpAddr) -> anyhow::Result<Message> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(bind, 0))?;
    let exchange = timeout(ANSWER_TIMEOUT, async {
        let mut stream = socket.connect(server).await?;
        let wire = query.to_vec()?;
        // RFC 1035 §4.2.2: two bytes of length; in one write with what follows (RFC 7766 §8).
        let framed: Vec<u8> = u16::try_from(wire.len())?.to_be_bytes().into_iter().chain(wire).collect();
        stream.write_all(&framed).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Ok::<_, anyhow::Error>(Message::from_vec(&answer)?)
    });
    let answer = exchange.await.map_err(|_| anyhow!("{server} does not answer over TCP"))??;
    ensure!(is_answer(query, &answer), "{server} answers another question");
    Ok(answer)
}

fn is_answer(query: &Message, answer: &Message) -> bool {
    answer.metadata.id == query.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == query.queries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_tells_no_more_than_it_should() {
        let check = |client: &str, network: &str, bits: u8| {
            assert_eq!(subnet(client.parse().unwrap()), ClientSubnet::new(network.parse().unwrap(), bits, 0));
        };
        check("203.0.113.77", "203.0.113.0", 24);
        check("2001:db8:1:2ff:3::4", "2001:db8:1:200::", 56);
    }

    #[tokio::test]
    async fn a_literal_address_is_not_asked_for() {
        let nobody = Asker { bind: None, subnet: None };
        let (addresses, took) = lookup(&[], "127.0.0.1", nobody).await.unwrap();
        assert_eq!((addresses, took), (vec![IpAddr::from([127, 0, 0, 1])], None));
    }
}
