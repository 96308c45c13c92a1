//! How many connections one client has, over all cores. Only kept where there is a limit.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// Counts connections per client: an IPv4 address, or an IPv6 /64, which is what one subscriber is given.
#[derive(Debug)]
pub(crate) struct ClientCap {
    max: u32,
    /// As large as the connections that are open, which have a limit of their own.
    open: Mutex<HashMap<IpAddr, u32>>,
}

/// A client's place; left when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    cap: Arc<ClientCap>,
    client: IpAddr,
}

impl ClientCap {
    pub(crate) fn new(max: u32) -> Self {
        Self { max, open: Mutex::default() }
    }

    /// None: the client has as many as it may.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let client = client_of(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(client).or_insert(0);
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Place { cap: Arc::clone(self), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.cap.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = open.entry(self.client) {
            match entry.get().saturating_sub(1) {
                0 => drop(entry.remove()),
                left => *entry.get_mut() = left,
            }
        }
    }
}

/// Whom an address counts for.
pub(crate) fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX)).into(),
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_has_so_many_and_frees_them() {
        let cap = Arc::new(ClientCap::new(2));
        let enter = |address: &str| cap.enter(address.parse().unwrap());
        let (first, second) = (enter("192.0.2.1").unwrap(), enter("::ffff:192.0.2.1").unwrap());
        assert!(enter("192.0.2.1").is_none());
        let _other = enter("192.0.2.2").unwrap();
        let _six = [enter("2001:db8::1").unwrap(), enter("2001:db8::ffff:0:0:1").unwrap()];
        assert!(enter("2001:db8::2").is_none());
        let _next = enter("2001:db8:0:1::2").unwrap();
        drop(first);
        drop(enter("192.0.2.1").unwrap());
        drop(second);
        assert!(!cap.open.lock().unwrap().contains_key(&"192.0.2.1".parse::<IpAddr>().unwrap()));
    }
}
