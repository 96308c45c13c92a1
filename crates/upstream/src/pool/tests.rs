//! The cap, idleness, shares and what gives way.

use super::*;
use crate::{Metrics, Peer};
use perigee_testkit::{Reply, ScriptedOrigin, wait_until};
use tokio::net::TcpStream;

#[tokio::test]
async fn an_idle_connection_is_closed_in_time_and_a_busy_one_is_not() {
    let origin = ScriptedOrigin::answering(|_| Reply::new(204)).await;
    let metrics = Metrics::default().server("www", &Peer::Origin("o".into()));
    let pool = Pool::new(2, Duration::from_millis(20), metrics.clone());
    let mut leases = Vec::new();
    for _ in 0..2 {
        let Ok(Checkout::Slot(slot, share)) = pool.checkout(None, IDLE_MAX, IDLE_MAX).await else {
            panic!("nothing is idle")
        };
        let socket = Socket::Plain(TcpStream::connect(origin.address()).await.unwrap());
        leases.push(pool.adopt(socket, slot, share).await.unwrap());
    }
    assert_eq!((metrics.open.get(), metrics.idle.get()), (2, 0));
    leases.pop().unwrap().release();
    wait_until("the idle connection closing", || metrics.open.get() == 1).await;
    origin.wait_for_connections_open(1).await;
    // However long it takes, the busy one outlives several looks at it.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((metrics.open.get(), metrics.idle.get(), origin.connections_open()), (1, 0, 1));
    assert_eq!(pool.lock().free, 1);
}

#[tokio::test]
async fn a_connection_put_back_makes_way_for_another_core() {
    let origin = ScriptedOrigin::answering(|_| Reply::new(204)).await;
    let metrics = Metrics::default().server("www", &Peer::Origin("o".into()));
    let pool = Pool::new(1, IDLE_MAX, metrics.clone());
    let Ok(Checkout::Slot(slot, share)) = pool.checkout(None, IDLE_MAX, IDLE_MAX).await else {
        panic!("nothing is idle")
    };
    let lease =
        pool.adopt(Socket::Plain(TcpStream::connect(origin.address()).await.unwrap()), slot, share).await.unwrap();
    let (theirs, (answer, answered)) = (Arc::clone(&pool), oneshot::channel());
    std::thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Shorter than the idle connection lives: waiting for its end must not do.
        let got = runtime.block_on(theirs.checkout(None, IDLE_MAX, IDLE_MAX / 2));
        answer.send(matches!(got, Ok(Checkout::Slot(..)))).unwrap();
    });
    wait_until("the other core queueing", || pool.lock().ledger.waiting() == 1).await;
    lease.release();
    assert!(perigee_testkit::patiently("the other core's slot", answered).await.unwrap());
    assert_eq!(metrics.idle.get(), 0);
}

fn network(number: u8) -> Option<Network> {
    Some(Network::of([192, 0, 2, number].into()))
}

fn small(connections_max: usize) -> (Arc<Pool>, ServerMetrics) {
    let metrics = Metrics::default().server("www", &Peer::Origin("o".into()));
    (Pool::new(connections_max, IDLE_MAX, metrics.clone()), metrics)
}

/// A connection that nothing comes of: it is held until its task is stopped, as a driver's.
struct Held {
    share: Share,
    driver: tokio::task::JoinHandle<()>,
}

async fn hold(pool: &Arc<Pool>, number: u8) -> Held {
    let Ok(Checkout::Slot(slot, share)) = pool.checkout(network(number), IDLE_MAX, IDLE_MAX).await else {
        panic!("nothing is idle")
    };
    let driver = tokio::spawn(async move {
        let _slot = slot;
        std::future::pending().await
    });
    share.exchange.driven_by(driver.abort_handle());
    Held { share, driver }
}

#[tokio::test]
async fn a_network_waits_for_its_own_and_leaves_the_rest_to_others() {
    let (pool, metrics) = small(16);
    let mut all = Vec::new();
    for _ in 0..14 {
        all.push(hold(&pool, 1).await);
    }
    let refused = pool.checkout(network(1), IDLE_MAX, Duration::ZERO).await.err();
    assert_eq!((refused, pool.lock().ledger.waiting()), (Some(FetchErrorKind::ClientShare), 0));
    // Another finds one at once, and so does who asks for nobody.
    let other = hold(&pool, 2).await;
    assert!(pool.checkout(None, IDLE_MAX, Duration::ZERO).await.is_ok());
    // A network that holds more than half of what is in use hears that it is itself that it waits for; another, that all are.
    let last = hold(&pool, 4).await;
    assert_eq!(pool.lock().left(), 0);
    for (number, expected) in [(1, FetchErrorKind::ClientShare), (3, FetchErrorKind::TooManyConnections)] {
        assert_eq!(pool.checkout(network(number), IDLE_MAX, Duration::ZERO).await.err(), Some(expected), "{number}");
    }
    // What others give back is not for who has enough, and its own is again when it has less.
    let waits = tokio::spawn({
        let pool = Arc::clone(&pool);
        async move { pool.checkout(network(1), IDLE_MAX, IDLE_MAX).await.is_ok() }
    });
    wait_until("it waiting", || pool.lock().ledger.waiting() == 1).await;
    other.driver.abort();
    wait_until("the slot being free", || pool.lock().free == 1).await;
    drop(other.share);
    assert_eq!(pool.lock().ledger.waiting(), 1);
    for held in all.drain(..7) {
        held.driver.abort();
    }
    assert!(perigee_testkit::patiently("its turn", waits).await.unwrap());
    drop((all, last));
    wait_until("every share being given back", || pool.lock().exchanges.is_empty()).await;
    assert_eq!((pool.lock().ledger.held(network(1)), metrics.gave_way.get()), (0, 0));
}

#[tokio::test]
async fn what_stands_still_longest_gives_way_to_others() {
    let (pool, metrics) = small(4);
    let began = Instant::now();
    let late = began + crate::exchange::STILL_MAX * 3;
    let mut all = Vec::new();
    for _ in 0..3 {
        all.push(hold(&pool, 1).await);
    }
    let other = hold(&pool, 2).await;
    // Of the network that holds most, the one that stands still longest; not the one that does not.
    other.share.exchange.waits(began - Duration::from_secs(60));
    all[0].share.exchange.waits(began + Duration::from_secs(1));
    all[1].share.exchange.waits(began);
    pool.make_way(network(1), late);
    assert_eq!(metrics.gave_way.get(), 0, "nobody holds more than the one who waits");
    // At the same moment: one who holds nothing finds what others must leave alone.
    pool.make_way(network(3), late);
    let gave_way = all.iter().map(|held| held.share.exchange.gave_way()).collect::<Vec<_>>();
    assert_eq!((gave_way, other.share.exchange.gave_way()), (vec![false, true, false], false));
    wait_until("its slot being free", || pool.lock().free == 1).await;
    pool.make_way(network(3), late + LOOK_PAUSE * 2);
    assert_eq!(metrics.gave_way.get(), 1, "there is one left");
    let taken = hold(&pool, 3).await;
    // Its share is held as long as its client is there: it is not to come again at once.
    assert_eq!(pool.lock().ledger.held(network(1)), 3);
    pool.make_way(network(3), late + LOOK_PAUSE * 3);
    pool.make_way(network(3), late + LOOK_PAUSE * 4);
    assert_eq!(metrics.gave_way.get(), 2, "the third does not stand still, and the other network has as few");
    drop((taken, other));
}
