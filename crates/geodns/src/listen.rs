//! Where a nameserver listens: UDP and TCP on the same addresses, one socket of each per core.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use nix::ifaddrs::getifaddrs;
use perigee_node::listen::{ListenError, Listeners, bind_udp};

use crate::udp::RECEIVE_BUFFER_BYTES;

/// How often a free port for both transports is looked for, where port 0 was asked for.
const FREE_PORT_TRIES: usize = 16;

/// The sockets of one address, one of each per core.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) address: SocketAddr,
    pub(crate) udp: Vec<UdpSocket>,
    pub(crate) tcp: Vec<TcpListener>,
}

/// Binds every address for both transports. An address of all is replaced by those that interfaces have now: a datagram
/// that is answered from another address than it was sent to is an answer to nobody.
pub(crate) fn bind(addresses: &[SocketAddr], cores: usize) -> Result<Vec<Bound>, ListenError> {
    let mut bound: Vec<Bound> = Vec::new();
    for address in addresses {
        if !address.ip().is_unspecified() {
            bound.push(bind_both(*address, cores)?);
            continue;
        }
        let interfaces = interface_addresses(address.is_ipv6());
        for ip in &interfaces {
            let one = SocketAddr::new(*ip, address.port());
            if address.port() != 0 && bound.iter().any(|bound| bound.address == one) {
                continue;
            }
            match bind_both(one, cores) {
                Ok(sockets) => bound.push(sockets),
                // Such as an IPv6 address that is still being tried for duplicates.
                Err(error @ ListenError::NotHere { .. }) => {
                    tracing::warn!(%error, "an interface's address is left out")
                }
                Err(error) => return Err(error),
            }
        }
        tracing::info!(%address, answers_on = ?interfaces, "listening on the addresses that interfaces have now");
    }
    Ok(bound)
}

fn bind_both(address: SocketAddr, cores: usize) -> Result<Bound, ListenError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let (local, udp) = bind_udp(&[address], cores, RECEIVE_BUFFER_BYTES)?;
        let local = local.first().copied().unwrap_or(address);
        match Listeners::bind(&[local], cores) {
            Ok(tcp) => {
                let (udp, tcp) =
                    (udp.into_iter().flatten().collect(), tcp.into_cores().into_iter().flatten().collect());
                return Ok(Bound { address: local, udp, tcp });
            }
            // A port that was free for UDP only.
            Err(ListenError::Busy { .. }) if address.port() == 0 && tries < FREE_PORT_TRIES => {}
            Err(error) => return Err(error),
        }
    }
}

/// The addresses of all interfaces of one family, link-local ones left out: they need an interface to be reached by.
fn interface_addresses(ipv6: bool) -> Vec<IpAddr> {
    let interfaces = match getifaddrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            tracing::warn!(%error, "the interfaces cannot be listed");
            return Vec::new();
        }
    };
    let mut found: Vec<IpAddr> = Vec::new();
    for address in interfaces.filter_map(|interface| interface.address) {
        let ip: IpAddr = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) if !ipv6 => v4.ip().into(),
            (_, Some(v6)) if ipv6 && !is_link_local(v6.ip()) => v6.ip().into(),
            _ => continue,
        };
        if !found.contains(&ip) {
            found.push(ip);
        }
    }
    found
}

/// RFC 4291 §2.5.6
fn is_link_local(address: Ipv6Addr) -> bool {
    address.is_unicast_link_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_transports_share_a_port_and_every_core_has_a_socket() {
        let bound = bind(&["127.0.0.1:0".parse().unwrap()], 3).unwrap();
        let [one] = bound.as_slice() else { panic!("{bound:?}") };
        assert_ne!(one.address.port(), 0);
        assert_eq!((one.udp.len(), one.tcp.len()), (3, 3));
        for socket in &one.udp {
            assert_eq!(socket.local_addr().unwrap(), one.address);
        }
        for socket in &one.tcp {
            assert_eq!(socket.local_addr().unwrap(), one.address);
        }
        assert!(matches!(bind(&[one.address], 1), Err(ListenError::Busy { .. })));
    }

    #[test]
    fn all_addresses_are_those_of_interfaces() {
        let addresses = interface_addresses(false);
        assert!(addresses.contains(&IpAddr::from([127, 0, 0, 1])), "{addresses:?}");
        assert!(!addresses.iter().any(IpAddr::is_unspecified));
    }
}
