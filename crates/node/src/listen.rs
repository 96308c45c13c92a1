//! Listening sockets: one of each address per core, by SO_REUSEPORT, so that the kernel spreads clients over the cores.
//!
//! SO_REUSEPORT lets a second process of the same user share a port without a word; so each port is first tried
//! without it, and a port that somebody has is an error that says what to do.

use std::{
    fmt, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait to be accepted, of each socket; the kernel takes its own `somaxconn` when that is lower.
pub const BACKLOG: i32 = 4096;

/// Which transport an address is bound for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// Why a node cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody has the port.
    #[error(
        "cannot listen on {address} ({transport}): another process has that port; stop it (`ss -lntup` names it) or choose another address"
    )]
    Busy {
        /// The address.
        address: SocketAddr,
        /// Of the socket.
        transport: Transport,
    },
    /// A port below 1024.
    #[error(
        "cannot listen on {address} ({transport}): not permitted; ports below 1024 need CAP_NET_BIND_SERVICE or a lower net.ipv4.ip_unprivileged_port_start; or choose a higher port"
    )]
    NotPermitted {
        /// The address.
        address: SocketAddr,
        /// Of the socket.
        transport: Transport,
    },
    /// The address is not of this machine.
    #[error("cannot listen on {address} ({transport}): no interface of this machine has that address")]
    NotHere {
        /// The address.
        address: SocketAddr,
        /// Of the socket.
        transport: Transport,
    },
    /// The same address twice.
    #[error("cannot listen on {address} twice; name each address once")]
    Twice {
        /// The address.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {address} ({transport}): {source}")]
    Other {
        /// The address.
        address: SocketAddr,
        /// Of the socket.
        transport: Transport,
        /// What the system said.
        source: io::Error,
    },
}

impl ListenError {
    pub(crate) fn new(address: SocketAddr, transport: Transport, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::Busy { address, transport },
            io::ErrorKind::PermissionDenied => Self::NotPermitted { address, transport },
            io::ErrorKind::AddrNotAvailable => Self::NotHere { address, transport },
            _ => Self::Other { address, transport, source },
        }
    }
}

/// TCP listeners: of each core, one of each address. Bound and listening, non-blocking, TCP_NODELAY (which what they
/// accept inherits).
#[derive(Debug)]
pub struct Listeners {
    local_addrs: Vec<SocketAddr>,
    cores: Vec<Vec<TcpListener>>,
}

impl Listeners {
    /// Binds every address once per core; port 0 becomes one free port for all of them. IPv6 sockets take IPv6 only.
    pub fn bind(addresses: &[SocketAddr], cores: usize) -> Result<Self, ListenError> {
        let (local_addrs, sockets) = bind_all(addresses, cores, Transport::Tcp, |socket| {
            socket.set_tcp_nodelay(true)?;
            Ok(())
        })?;
        let mut per_core = Vec::with_capacity(sockets.len());
        for row in sockets {
            let mut listeners = Vec::with_capacity(row.len());
            for (socket, address) in row.into_iter().zip(&local_addrs) {
                socket.listen(BACKLOG).map_err(|source| ListenError::new(*address, Transport::Tcp, source))?;
                listeners.push(TcpListener::from(socket));
            }
            per_core.push(listeners);
        }
        Ok(Self { local_addrs, cores: per_core })
    }

    /// The addresses in the order they were given, with their real ports.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// The listeners, `[core][address]`.
    pub fn into_cores(self) -> Vec<Vec<TcpListener>> {
        self.cores
    }
}

/// Binds UDP sockets, `[core][address]`, non-blocking, with a receive buffer of `receive_buffer_bytes` (the kernel
/// grants at most net.core.rmem_max). Returns them with the addresses' real ports.
pub fn bind_udp(
    addresses: &[SocketAddr],
    cores: usize,
    receive_buffer_bytes: usize,
) -> Result<(Vec<SocketAddr>, Vec<Vec<UdpSocket>>), ListenError> {
    let (local_addrs, sockets) = bind_all(addresses, cores, Transport::Udp, |socket| {
        unfragmented(socket)?;
        socket.set_recv_buffer_size(receive_buffer_bytes)
    })?;
    Ok((local_addrs, sockets.into_iter().map(|row| row.into_iter().map(UdpSocket::from).collect()).collect()))
}

/// Datagrams leave with DF and no regard to what anybody says of the path's MTU, since that can be forged, and what was
/// cut to pieces can be forged in its pieces (RFC 9715 §3.1). It spares the kernel the search for an identification, too.
#[cfg(target_os = "linux")]
fn unfragmented(socket: &Socket) -> io::Result<()> {
    use rustix::net::sockopt::{
        Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
    };
    let is_ipv4 = socket.local_addr().is_ok_and(|address| address.is_ipv4());
    if is_ipv4 {
        set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::PROBE)?;
    } else {
        set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::PROBE)?;
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn unfragmented(_socket: &Socket) -> io::Result<()> {
    Ok(())
}

/// What a node listens on when nobody said: the port on every IPv4 and, where the machine has it, IPv6 address.
pub fn default_addresses(port: u16) -> Vec<SocketAddr> {
    let mut addresses = vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))];
    let ipv6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    if new_socket(ipv6, Transport::Udp).and_then(|socket| socket.bind(&ipv6.into())).is_ok() {
        addresses.push(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    }
    addresses
}

type Bound = (Vec<SocketAddr>, Vec<Vec<Socket>>);

fn bind_all(
    addresses: &[SocketAddr],
    cores: usize,
    transport: Transport,
    configure: impl Fn(&Socket) -> io::Result<()>,
) -> Result<Bound, ListenError> {
    for (index, address) in addresses.iter().enumerate() {
        if address.port() != 0 && addresses.iter().take(index).any(|other| other == address) {
            return Err(ListenError::Twice { address: *address });
        }
        probe(*address, transport).map_err(|source| ListenError::new(*address, transport, source))?;
    }
    let cores = cores.max(1);
    let mut local_addrs = Vec::with_capacity(addresses.len());
    let mut rows: Vec<Vec<Socket>> = (0..cores).map(|_| Vec::with_capacity(addresses.len())).collect();
    for address in addresses {
        // The kernel gives port 0 a port that nobody has, SO_REUSEPORT or not; the other cores then join it.
        let mut local = *address;
        for row in &mut rows {
            let bound = shared(local, transport, &configure).and_then(|socket| Ok((local_addr(&socket)?, socket)));
            let (actual, socket) = bound.map_err(|source| ListenError::new(local, transport, source))?;
            local = actual;
            row.push(socket);
        }
        local_addrs.push(local);
    }
    Ok((local_addrs, rows))
}

/// Fails when anybody has the port, ourselves included. Nothing stays bound.
fn probe(address: SocketAddr, transport: Transport) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let socket = new_socket(address, transport)?;
    if transport == Transport::Tcp {
        // Past connections in TIME_WAIT do not count. On UDP the option would let two sockets share the port.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())
}

fn shared(
    address: SocketAddr,
    transport: Transport,
    configure: &impl Fn(&Socket) -> io::Result<()>,
) -> io::Result<Socket> {
    let socket = new_socket(address, transport)?;
    if transport == Transport::Tcp {
        socket.set_reuse_address(true)?;
    }
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    configure(&socket)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn new_socket(address: SocketAddr, transport: Transport) -> io::Result<Socket> {
    let (kind, protocol) = match transport {
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn local_addr(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("the socket has no internet address"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }

    #[test]
    fn every_core_has_every_address_at_one_port() {
        let listeners = Listeners::bind(&[loopback(0), loopback(0)], 3).unwrap();
        let addresses = listeners.local_addrs().to_vec();
        assert_ne!(addresses[0], addresses[1]);
        let cores = listeners.into_cores();
        assert_eq!(cores.len(), 3);
        for row in &cores {
            let bound: Vec<_> = row.iter().map(|listener| listener.local_addr().unwrap()).collect();
            assert_eq!(bound, addresses);
        }
    }

    #[test]
    fn what_is_accepted_has_nodelay() {
        let listeners = Listeners::bind(&[loopback(0)], 1).unwrap();
        let address = listeners.local_addrs()[0];
        let listener = listeners.into_cores().remove(0).remove(0);
        listener.set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.nodelay().unwrap());
    }

    #[test]
    fn a_port_that_a_perigee_has_is_busy() {
        let first = Listeners::bind(&[loopback(0)], 2).unwrap();
        let address = first.local_addrs()[0];
        let error = Listeners::bind(&[address], 2).unwrap_err();
        assert!(matches!(error, ListenError::Busy { .. }), "{error:?}");
        let said = error.to_string();
        assert!(said.contains(&address.to_string()) && said.contains("another process has that port"), "{said}");
        drop(first);
        Listeners::bind(&[address], 2).unwrap();
    }

    #[test]
    fn a_port_that_another_program_has_is_busy() {
        let other = TcpListener::bind(loopback(0)).unwrap();
        let address = other.local_addr().unwrap();
        assert!(matches!(Listeners::bind(&[address], 1), Err(ListenError::Busy { .. })));
        let wildcard = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
        assert!(matches!(Listeners::bind(&[wildcard], 1), Err(ListenError::Busy { .. })));
    }

    #[test]
    fn udp_ports_are_busy_too_and_free_beside_tcp() {
        let (addresses, sockets) = bind_udp(&[loopback(0)], 2, 1 << 20).unwrap();
        assert_eq!(sockets.len(), 2);
        let error = bind_udp(&addresses, 2, 1 << 20).unwrap_err();
        assert!(matches!(error, ListenError::Busy { transport: Transport::Udp, .. }), "{error:?}");
    }

    #[test]
    fn addresses_that_cannot_be() {
        let check = |addresses: &[SocketAddr], expected: &str| {
            let said = Listeners::bind(addresses, 1).unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        };
        check(&["192.0.2.1:9".parse().unwrap()], "no interface of this machine");
        let port = Listeners::bind(&[loopback(0)], 1).unwrap().local_addrs()[0].port();
        check(&[loopback(port), loopback(port)], "twice");
    }

    #[test]
    fn ipv6_takes_ipv6_only() {
        let addresses = default_addresses(0);
        assert_eq!(addresses[0], SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        if addresses.len() == 1 {
            eprintln!("skipped: this machine has no IPv6");
            return;
        }
        let six = Listeners::bind(&[addresses[1]], 1).unwrap();
        let port = six.local_addrs()[0].port();
        Listeners::bind(&[SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))], 1).unwrap();
    }
}
