//! The places of one core's doors. While many are free nothing happens here but counting. When fewer than an eighth are,
//! connections without a request give way (see `giving_way`), and one client may have so many times what is free: so a client
//! alone gets nearly all there is, and never what others need to come in.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep},
};

use crate::{
    client_cap::client_of,
    connections::{Connections, Found},
    door_metrics::{DoorMetrics, Ended},
    giving_way::choose,
};

/// Connections give way when fewer than this part of the places is free, and until this part of them is.
const FREE_LOW: (usize, usize) = (1, 8);
const FREE_HIGH: (usize, usize) = (3, 16);
/// One client may have so many times what is free: 16 of 17 places if it is alone.
const CLIENT_TIMES_FREE: usize = 16;
/// All connections are looked at again after so many have come, as a part of the places, or after this time.
const LOOK_EVERY: (usize, usize) = (1, 32);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How often the log is told that connections give way.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The places of one core.
#[derive(Debug)]
pub(crate) struct Room {
    core: usize,
    places: usize,
    permits: Arc<Semaphore>,
    connections: Arc<Connections>,
    /// None: no share, however full it is.
    by_client: Option<Mutex<HashMap<IpAddr, usize>>>,
    looks: Mutex<Looks>,
    metrics: DoorMetrics,
}

#[derive(Debug, Default)]
struct Looks {
    last: Option<Instant>,
    come_since: usize,
    told: Option<Instant>,
    gave_way_since: usize,
}

/// A client's part of a room; given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    room: Arc<Room>,
    client: IpAddr,
}

impl Room {
    pub(crate) fn new(
        core: usize,
        places: usize,
        shared: bool,
        connections: Arc<Connections>,
        metrics: DoorMetrics,
    ) -> Arc<Self> {
        Arc::new(Self {
            core,
            places,
            permits: Arc::new(Semaphore::new(places)),
            connections,
            by_client: shared.then(Mutex::default),
            looks: Mutex::default(),
            metrics,
        })
    }

    /// A place; waits for it while every connection is at work. None: the server stops.
    pub(crate) async fn place(&self, stop: &mut watch::Receiver<bool>) -> Option<OwnedSemaphorePermit> {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            self.connections.metrics().at_limit();
            return self.wait(stop).await;
        };
        if self.free() < part(self.places, FREE_LOW) && self.is_time() {
            self.give_way(0);
        }
        Some(permit)
    }

    async fn wait(&self, stop: &mut watch::Receiver<bool>) -> Option<OwnedSemaphorePermit> {
        let mut permit = std::pin::pin!(Arc::clone(&self.permits).acquire_owned());
        loop {
            self.give_way(1);
            tokio::select! {
                biased;
                permit = &mut permit => return permit.ok(),
                // Nothing was promised to this client yet; a drain does not wait for room.
                _ = stop.wait_for(|stop| *stop) => return None,
                () = sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// None: the client has as much as it may while others want to come in. Not for who only waits to be named by a balancer.
    pub(crate) fn share(self: &Arc<Self>, client: IpAddr) -> Option<Option<Share>> {
        let Some(by_client) = &self.by_client else { return Some(None) };
        let client = client_of(client);
        let mut by_client = by_client.lock().unwrap_or_else(PoisonError::into_inner);
        let held = by_client.entry(client).or_insert(0);
        // Its own place is among those that are taken.
        if *held >= (self.free() + 1).saturating_mul(CLIENT_TIMES_FREE) {
            return None;
        }
        *held += 1;
        Some(Some(Share { room: Arc::clone(self), client }))
    }

    fn free(&self) -> usize {
        self.permits.available_permits()
    }

    fn is_time(&self) -> bool {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.come_since += 1;
        looks.come_since > part(self.places, LOOK_EVERY) || looks.last.is_none_or(|last| last.elapsed() >= LOOK_AGAIN)
    }

    /// Tells connections to end until enough places are free, or `at_least` so many.
    fn give_way(&self, at_least: usize) {
        let now = Instant::now();
        let Found { silent, mut held, leaving } = self.connections.look(self.core);
        let wanted = part(self.places, FREE_HIGH).saturating_sub(self.free()).max(at_least).saturating_sub(leaving);
        let chosen = choose(silent, &mut held, self.places, wanted);
        let gone = self.connections.end(self.core, &chosen);
        for _ in 0..gone {
            self.metrics.ended(Ended::GaveWay);
        }
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        (looks.last, looks.come_since) = (Some(now), 0);
        looks.gave_way_since += gone;
        if looks.gave_way_since > 0 && looks.told.is_none_or(|told| now >= told + TELL_EVERY) {
            let (connections, places) = (looks.gave_way_since, self.places);
            tracing::warn!(
                core = self.core,
                places,
                connections,
                "a door is nearly full: connections without a request give way"
            );
            (looks.told, looks.gave_way_since) = (Some(now), 0);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some(by_client) = &self.room.by_client else { return };
        if let Entry::Occupied(mut held) = by_client.lock().unwrap_or_else(PoisonError::into_inner).entry(self.client) {
            *held.get_mut() = held.get().saturating_sub(1);
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

fn part(whole: usize, (of, parts): (usize, usize)) -> usize {
    whole.saturating_mul(of) / parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::ConnectionMetrics;

    fn room(places: usize, shared: bool) -> Arc<Room> {
        let connections = Connections::new(1, ConnectionMetrics::default());
        Room::new(0, places, shared, connections, DoorMetrics::default())
    }

    /// How many connections each of so many clients gets, one after the other, while all of them want more.
    fn check(places: usize, shared: bool, clients: u8, expected: &[usize]) {
        let room = room(places, shared);
        let mut kept = Vec::new();
        let mut got = vec![0; usize::from(clients)];
        loop {
            let before = kept.len();
            for client in 0..clients {
                let Ok(permit) = Arc::clone(&room.permits).try_acquire_owned() else { break };
                if let Some(share) = room.share([192, 0, 2, client].into()) {
                    kept.push((permit, share));
                    got[usize::from(client)] += 1;
                }
            }
            if kept.len() == before {
                break;
            }
        }
        assert_eq!(got, expected, "{places} places, {clients} clients");
        drop(kept);
        assert!(room.by_client.as_ref().is_none_or(|by_client| by_client.lock().unwrap().is_empty()));
    }

    #[test]
    fn nobody_alone_takes_all_but_where_there_is_little() {
        check(1, true, 1, &[1]);
        check(16, true, 1, &[16]);
        check(17, true, 1, &[16]);
        check(170, true, 1, &[160]);
        check(170, false, 1, &[170]);
        check(330, true, 2, &[160, 160]);
        check(3, true, 4, &[1, 1, 1, 0]);
    }

    #[tokio::test]
    async fn a_stop_ends_the_wait_for_a_place() {
        let room = room(1, true);
        let (stop, mut stopped) = watch::channel(false);
        let held = room.place(&mut stopped).await;
        assert!(held.is_some());
        stop.send_replace(true);
        assert!(room.place(&mut stopped).await.is_none());
        drop(held);
        assert!(room.place(&mut stopped).await.is_some());
    }
}
