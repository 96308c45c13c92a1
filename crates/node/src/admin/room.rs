//! Who has the places of an admin API, and who gives one up when there are none: of the client that has most connections, the
//! one on which no byte has gone for longest. So neither silent connections nor open pages keep a health check waiting,
//! and who holds one connection keeps it as long as anybody holds more.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures_util::task::AtomicWaker;
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::client_cap::client_of;

/// Connections that have given way and still are: each ends as soon as its task runs.
const LEAVING_MAX: usize = 64;

/// What is counted of an admin API's connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct AdminMetrics {
    open: Gauge,
    gave_way: Counter,
}

impl AdminMetrics {
    /// Registers `perigee_admin_connections*`.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Connections of the admin API that are open now";
        registry.register("perigee_admin_connections", help, metrics.open.clone());
        let help = "Connections of the admin API that were ended for a new one, since as many as may be were open";
        registry.register("perigee_admin_connections_gave_way", help, metrics.gave_way.clone());
        metrics
    }

    #[cfg(test)]
    pub(super) fn open(&self) -> i64 {
        self.open.get()
    }
}

/// The places of one admin API.
#[derive(Debug)]
pub(super) struct Room {
    connections_max: usize,
    began: Instant,
    held: Mutex<Held>,
    /// Of all, those that are leaving included.
    permits: Arc<Semaphore>,
    metrics: AdminMetrics,
}

#[derive(Debug, Default)]
struct Held {
    next: u64,
    places: HashMap<u64, Arc<Place>>,
}

/// One connection's place.
#[derive(Debug)]
struct Place {
    client: IpAddr,
    /// When a byte went last, in milliseconds since the room began.
    moved_ms: AtomicU64,
    told: AtomicBool,
    waker: AtomicWaker,
}

impl Room {
    pub(super) fn new(connections_max: usize, metrics: AdminMetrics) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(connections_max.saturating_add(LEAVING_MAX)));
        Arc::new(Self { connections_max, began: Instant::now(), held: Mutex::default(), permits, metrics })
    }

    /// Before a connection is accepted. Waits only while as many as that are leaving.
    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        // Nobody closes the semaphore.
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    /// Gives a connection its place, at the cost of another's where there is none.
    pub(super) fn enter(self: &Arc<Self>, client: IpAddr, permit: Option<OwnedSemaphorePermit>) -> Seat {
        let place = Arc::new(Place {
            client: client_of(client),
            moved_ms: AtomicU64::new(self.now_ms()),
            told: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.places.len() >= self.connections_max
            && let Some(gives) = longest_silent_of_the_most(&held.places)
            && let Some(gone) = held.places.remove(&gives)
        {
            gone.told.store(true, Ordering::Release);
            gone.waker.wake();
            self.metrics.gave_way.inc();
            tracing::debug!(client = %gone.client, "a connection of the admin API gives way to a new one");
        }
        let id = held.next;
        held.next += 1;
        held.places.insert(id, Arc::clone(&place));
        self.metrics.open.inc();
        Seat { room: Arc::clone(self), id, place, _permit: permit }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn longest_silent_of_the_most(places: &HashMap<u64, Arc<Place>>) -> Option<u64> {
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for place in places.values() {
        *counts.entry(place.client).or_default() += 1;
    }
    let most = counts.values().copied().max()?;
    let of_the_most = places.iter().filter(|(_, place)| counts.get(&place.client) == Some(&most));
    // Of two of one moment, the older.
    of_the_most.min_by_key(|(id, place)| (place.moved_ms.load(Ordering::Relaxed), **id)).map(|(id, _)| *id)
}

/// Left when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    room: Arc<Room>,
    id: u64,
    place: Arc<Place>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Seat {
    /// A byte went.
    pub(super) fn moved(&self) {
        self.place.moved_ms.store(self.room.now_ms(), Ordering::Relaxed);
    }

    /// Whether it has to be given up; else the task is woken when it has to be.
    pub(super) fn is_lost(&self, waker: &std::task::Waker) -> bool {
        self.place.waker.register(waker);
        self.place.told.load(Ordering::Acquire)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.room.held.lock().unwrap_or_else(PoisonError::into_inner).places.remove(&self.id);
        self.room.metrics.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By number, who has been let go when they came in that order; none moved after they came but those named, last of all.
    fn check(connections_max: usize, clients: &[&str], moved: &[usize], newcomer: &str, expected: usize) {
        let room = Room::new(connections_max, AdminMetrics::default());
        let enter = |client: &&str| room.enter(client.parse().unwrap(), None);
        let seats: Vec<_> = clients.iter().map(enter).collect();
        for (later, &number) in moved.iter().enumerate() {
            seats[number].place.moved_ms.store(1_000_000 + later as u64, Ordering::Relaxed);
        }
        let new = enter(&newcomer);
        let lost = |seat: &Seat| seat.is_lost(futures_util::task::noop_waker_ref());
        let gone: Vec<_> = (0..seats.len()).filter(|&number| lost(&seats[number])).collect();
        assert_eq!(gone, [expected], "{clients:?}, moved {moved:?}, then {newcomer}");
        assert!(!lost(&new));
        assert_eq!((room.metrics.gave_way.get(), room.metrics.open.get()), (1, seats.len() as i64 + 1));
        drop((seats, new));
        assert_eq!(room.metrics.open.get(), 0);
        assert!(room.held.lock().unwrap().places.is_empty());
    }

    #[test]
    fn who_has_most_gives_the_longest_silent() {
        check(1, &["::1"], &[], "::1", 0);
        check(3, &["10.0.0.1", "10.0.0.2", "10.0.0.3"], &[], "10.0.0.4", 0);
        check(3, &["10.0.0.1", "10.0.0.2", "10.0.0.3"], &[0], "10.0.0.1", 1);
        check(4, &["10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3"], &[], "10.0.0.4", 1);
        check(4, &["10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3"], &[1], "10.0.0.4", 2);
        // However lively those are whose client has most.
        check(4, &["10.0.0.1", "10.0.0.2", "::ffff:10.0.0.2", "10.0.0.2"], &[3, 2, 1], "10.0.0.1", 3);
        // A network of IPv6 is one client.
        check(3, &["10.0.0.1", "2001:db8::1", "2001:db8::2:0:0:2"], &[], "::1", 1);
    }

    #[test]
    fn there_is_room_up_to_the_limit() {
        let room = Room::new(2, AdminMetrics::default());
        let client = "10.0.0.1".parse().unwrap();
        let _first = room.enter(client, None);
        drop(room.enter(client, None));
        let _second = room.enter(client, None);
        assert_eq!(room.metrics.gave_way.get(), 0);
        let _third = room.enter(client, None);
        assert_eq!(room.metrics.gave_way.get(), 1);
    }

    #[tokio::test]
    async fn those_who_are_leaving_have_a_limit_too() {
        let room = Room::new(1, AdminMetrics::default());
        let mut seats = Vec::new();
        for _ in 0..=LEAVING_MAX {
            let permit = room.permit().await;
            seats.push(room.enter("::1".parse().unwrap(), permit));
        }
        assert_eq!(room.permits.available_permits(), 0);
        seats.pop();
        assert!(room.permit().await.is_some());
    }
}
