//! Waiting has an end: for a leader that hangs, and for memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, StatusCode};
use perigee_upstream::{FetchError, FetchErrorKind, FetchResponse, Network, UpstreamBody};
use tokio::{sync::Semaphore, task::JoinHandle};

use crate::world::World;

/// Followers wait for a third of it.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_millis(150);

/// An origin each of whose answers is let go by itself: the first fetch waits for the first gate, and so on. What they say
/// is their number.
fn gated(world: &World, cache_control: &'static str) -> [Arc<Semaphore>; 2] {
    let gates = [Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0))];
    let (turn, waits) = (AtomicUsize::new(0), gates.clone());
    world.origin.set(Box::new(move |_| {
        let number = turn.fetch_add(1, Ordering::SeqCst);
        let gate = waits.get(number).cloned();
        Box::pin(async move {
            if let Some(gate) = gate {
                let _open = gate.acquire().await.unwrap();
            }
            let mut fields = HeaderMap::new();
            fields.insert("cache-control", cache_control.parse().unwrap());
            fields.insert("etag", "\"1\"".parse().unwrap());
            Ok(FetchResponse::scripted(StatusCode::OK, fields, UpstreamBody::full(number.to_string())))
        })
    }));
    gates
}

type Said = JoinHandle<(u16, String, String)>;

fn clients(world: &Arc<World>, count: usize) -> Vec<Said> {
    let client = |world: Arc<World>| async move {
        let (response, body) = world.ask("GET", "/a", &[]).await;
        let status = response.headers()["cache-status"].to_str().unwrap().to_owned();
        (response.status().as_u16(), String::from_utf8(body.unwrap().to_vec()).unwrap(), status)
    };
    (0..count).map(|_| tokio::spawn(client(Arc::clone(world)))).collect()
}

async fn fetched(world: &World, count: usize) {
    while world.origin.fetches() < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn those_who_follow_a_leader_that_hangs_make_one_fetch_of_their_own() {
    let world = Arc::new(World::waiting(FIRST_BYTE_TIMEOUT).await);
    let gates = gated(&world, "max-age=60");
    let leader = clients(&world, 1);
    fetched(&world, 1).await;
    let followers = clients(&world, 20);
    fetched(&world, 2).await;
    gates[1].add_permits(1);
    for follower in followers {
        let (status, body, _) = follower.await.unwrap();
        assert_eq!((status, body.as_str()), (200, "1"));
    }
    assert_eq!(world.origin.fetches(), 2);
    gates[0].add_permits(1);
    for client in leader {
        assert_eq!(client.await.unwrap().1, "0", "who fetches gets what was fetched");
    }
}

#[tokio::test]
async fn a_client_that_goes_before_its_answer_is_counted_and_no_longer_there() {
    let world = Arc::new(World::edge().await);
    let gates = gated(&world, "max-age=60");
    let client = clients(&world, 1).remove(0);
    fetched(&world, 1).await;
    assert_eq!(world.engine.metrics().totals().active, 1);
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    let totals = world.engine.metrics().totals();
    assert_eq!((totals.active, totals.requests), (0, 1));
    let line = "perigee_requests_total{cache=\"error\",reason=\"client-gone\",status=\"4xx\"} 1\n";
    assert!(world.metrics().contains(line), "{}", world.metrics());
    gates[0].add_permits(1);
    world.settle().await;
}

#[tokio::test]
async fn whichever_answers_first_is_taken() {
    let world = Arc::new(World::waiting(FIRST_BYTE_TIMEOUT).await);
    let gates = gated(&world, "max-age=60");
    let leader = clients(&world, 1);
    fetched(&world, 1).await;
    let followers = clients(&world, 20);
    fetched(&world, 2).await;
    gates[0].add_permits(1);
    for client in leader.into_iter().chain(followers) {
        assert_eq!(client.await.unwrap().1, "0");
    }
    assert_eq!(world.origin.fetches(), 2);
    gates[1].add_permits(1);
    world.settle().await;
}

#[tokio::test]
async fn something_stale_is_better_than_waiting_for_a_leader_that_hangs() {
    let world = Arc::new(World::waiting(FIRST_BYTE_TIMEOUT).await);
    let gates = gated(&world, "max-age=1");
    gates[0].add_permits(1);
    assert_eq!(world.ask("GET", "/a", &[]).await.1.unwrap(), "0");
    world.settle().await;
    world.pass(60_000);
    let leader = clients(&world, 1);
    fetched(&world, 2).await;
    for follower in clients(&world, 5) {
        let (status, body, said) = follower.await.unwrap();
        assert_eq!((status, body.as_str()), (200, "0"));
        assert!(said.contains("detail=stale-if-error"), "{said}");
    }
    assert_eq!(world.origin.fetches(), 2);
    gates[1].add_permits(1);
    for client in leader {
        assert_eq!(client.await.unwrap().1, "1");
    }
}

#[tokio::test]
async fn those_who_follow_a_leader_that_has_its_share_fetch_for_themselves() {
    let world = Arc::new(World::waiting(Duration::from_secs(600)).await);
    let (turn, gate) = (AtomicUsize::new(0), Arc::new(Semaphore::new(0)));
    let closed = Arc::clone(&gate);
    world.origin.set(Box::new(move |request| {
        assert_eq!(request.network, Some(Network::of([192, 0, 2, 1].into())), "the client's");
        let (first, gate) = (turn.fetch_add(1, Ordering::SeqCst) == 0, Arc::clone(&closed));
        Box::pin(async move {
            if first {
                let _open = gate.acquire().await.unwrap();
                return Err(FetchError::new(FetchErrorKind::ClientShare));
            }
            Ok(FetchResponse::scripted(StatusCode::OK, HeaderMap::new(), UpstreamBody::full("x")))
        })
    }));
    let leader = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.ask("GET", "/a", &[]).await.0 }
    });
    fetched(&world, 1).await;
    let followers = clients(&world, 20);
    // Whoever has not come by then fetches in any case.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.origin.fetches(), 1, "they follow");
    gate.add_permits(1);
    let refused = leader.await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    assert!(refused.headers()["cache-status"].to_str().unwrap().contains("detail=client-share"));
    for follower in followers {
        let (status, body, said) = follower.await.unwrap();
        assert_eq!((status, body.as_str()), (200, "x"), "{said}");
    }
}

#[tokio::test]
async fn fetches_beyond_what_memory_has_seats_for_are_refused_after_a_while() {
    let world = Arc::new(World::edge().await);
    let gates = gated(&world, "no-store");
    // All wait at the one gate.
    let gate = Arc::clone(&gates[0]);
    world.origin.set(Box::new(move |_| {
        let gate = Arc::clone(&gate);
        Box::pin(async move {
            let _open = gate.acquire().await.unwrap();
            Ok(FetchResponse::scripted(StatusCode::OK, HeaderMap::new(), UpstreamBody::full("x")))
        })
    }));
    let pass = |world: Arc<World>| async move { world.ask("POST", "/a", &[]).await.0 };
    let mut asked = 0;
    let mut waiting = Vec::new();
    // Whoever finds no seat does not reach the origin.
    while world.origin.fetches() == asked {
        waiting.push(tokio::spawn(pass(Arc::clone(&world))));
        asked += 1;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(asked < 10_000, "there is no end to seats");
    }
    let refused = waiting.pop().unwrap().await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    assert!(refused.headers()["cache-status"].to_str().unwrap().contains("detail=memory"));
    assert!(world.metrics().contains("perigee_inflight_refusals_total 1"));
    gate_opens(&gates[0], waiting.len());
    for client in waiting {
        assert_eq!(client.await.unwrap().status(), 200);
    }
    assert_eq!(pass(Arc::clone(&world)).await.status(), 200);
    assert_eq!(world.engine.inflight_bytes(), 0, "all seats are free again");
}

fn gate_opens(gate: &Semaphore, count: usize) {
    gate.add_permits(count + 1);
}
