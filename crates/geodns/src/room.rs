//! How many connections a nameserver has, and one client of them.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use perigee_dns::Transport;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

/// Connections of one nameserver at once.
pub(crate) const CONNECTIONS_MAX: usize = 4_096;
/// Of which one client, an IPv4 address or an IPv6 /64, may have so many: resolvers use few, and many clients may share one
/// address behind a translator.
pub(crate) const CONNECTIONS_PER_CLIENT_MAX: usize = 128;

/// How many connections there are, over all cores and addresses of one nameserver: TCP, TLS and QUIC together.
#[derive(Debug, Default)]
pub(crate) struct Room {
    taken: Mutex<Taken>,
    open: Family<Labels, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    transport: &'static str,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_client: HashMap<IpAddr, usize>,
}

impl Room {
    /// Registers `perigee_dns_connections`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let room = Self::default();
        registry.register(
            "perigee_dns_connections",
            "DNS connections that are open now, by transport; they share one limit",
            room.open.clone(),
        );
        for transport in [Transport::Tcp, Transport::Tls, Transport::Quic] {
            drop(room.open.get_or_create(&Labels { transport: transport.as_str() }));
        }
        room
    }

    /// A place for a connection of that client; given back when dropped.
    pub(crate) fn take(self: &Arc<Self>, client: IpAddr, transport: Transport) -> Option<Place> {
        let client = client_of(client);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = taken.by_client.get(&client).copied().unwrap_or(0);
        if taken.total >= CONNECTIONS_MAX || of_client >= CONNECTIONS_PER_CLIENT_MAX {
            return None;
        }
        taken.total += 1;
        taken.by_client.insert(client, of_client + 1);
        let open = self.open.get_or_create_owned(&Labels { transport: transport.as_str() });
        open.inc();
        Some(Place { room: Arc::clone(self), client, open })
    }
}

/// Who has one address of an IPv6 /64 has all of them (RFC 6177 §2).
fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Room>,
    client: IpAddr,
    open: Gauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
        let mut taken = self.room.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total = taken.total.saturating_sub(1);
        if let Some(of_client) = taken.by_client.get_mut(&self.client) {
            *of_client = of_client.saturating_sub(1);
            if *of_client == 0 {
                taken.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> IpAddr {
        IpAddr::from(u32::try_from(number).unwrap().to_be_bytes())
    }

    #[test]
    fn one_client_has_its_share_and_gives_it_back() {
        let room = Arc::new(Room::default());
        let mut places: Vec<_> =
            (0..CONNECTIONS_PER_CLIENT_MAX).map(|_| room.take(address(1), Transport::Tcp).unwrap()).collect();
        assert!(room.take(address(1), Transport::Tcp).is_none());
        assert!(room.take(address(2), Transport::Tls).is_some());
        places.pop();
        assert!(room.take(address(1), Transport::Tcp).is_some());
        // A network of IPv6 is one client.
        let of = |text: &str| text.parse().unwrap();
        places.extend(
            (0..CONNECTIONS_PER_CLIENT_MAX).map(|_| room.take(of("2001:db8:0:1::1"), Transport::Quic).unwrap()),
        );
        assert!(room.take(of("2001:db8:0:1:ffff::2"), Transport::Tcp).is_none());
        assert!(room.take(of("2001:db8:0:2::1"), Transport::Tcp).is_some());
        let open =
            |transport: Transport| room.open.get_or_create_owned(&Labels { transport: transport.as_str() }).get();
        assert_eq!([open(Transport::Tcp), open(Transport::Quic)], [127, 128]);
        drop(places);
        assert_eq!([open(Transport::Tcp), open(Transport::Quic)], [0, 0]);
        assert!(room.taken.lock().unwrap().by_client.is_empty());
    }

    #[test]
    fn all_clients_have_theirs() {
        let room = Arc::new(Room::default());
        let places: Vec<_> =
            (0..CONNECTIONS_MAX).map(|client| room.take(address(client), Transport::Tcp).unwrap()).collect();
        assert!(room.take(address(CONNECTIONS_MAX), Transport::Tcp).is_none());
        drop(places);
        assert!(room.take(address(CONNECTIONS_MAX), Transport::Tcp).is_some());
    }
}
