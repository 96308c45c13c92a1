use std::sync::Mutex as StdMutex;

use super::*;

const MIB: u64 = 1 << 20;

/// A budget of 32 MiB and 64 more of the store's 128, and what the store was told to lend.
fn budget() -> (Arc<Inflight>, Arc<StdMutex<Vec<u64>>>) {
    let told = Arc::new(StdMutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    let lend = move |bytes| telling.lock().unwrap().push(bytes / MIB);
    let budget = Budget { entries: 128 * MIB, buffers: 0, inflight: 32 * MIB };
    (Inflight::new(budget, Metrics::default(), lend), told)
}

#[test]
fn the_store_lends_in_steps_and_gets_it_back() {
    let (budget, told) = budget();
    let check = |wanted: &[u64]| assert_eq!(*told.lock().unwrap(), wanted);
    let first = budget.hold(32 * MIB);
    check(&[]);
    let second = budget.hold(1);
    check(&[8]);
    let third = budget.hold(24 * MIB - 1);
    check(&[8, 24]);
    let fourth = budget.hold(200 * MIB);
    check(&[8, 24, 64]);
    assert!(budget.is_short());
    drop(fourth);
    check(&[8, 24, 64, 24]);
    drop(third);
    check(&[8, 24, 64, 24, 8]);
    drop(second);
    check(&[8, 24, 64, 24, 8]);
    drop(first);
    check(&[8, 24, 64, 24, 8, 0]);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn windows_shrink_as_it_fills() {
    // 48 MiB are for windows while it is not tight.
    let check = async |seats: u64, held: u64, window: u64| {
        let (budget, _) = budget();
        let mut all = Vec::new();
        for _ in 0..seats {
            all.push(budget.seat(0).await.unwrap());
        }
        all.push(budget.hold(held));
        assert_eq!(budget.window(MIB), window, "{seats} {held}");
    };
    check(0, 48 * MIB - 1, MIB).await;
    check(1, 48 * MIB, MIB / 4).await;
    check(48, 0, MIB).await;
    check(96, 0, MIB / 2).await;
    check(96, 48 * MIB, MIB / 4).await;
    check(192, 48 * MIB, MIB / 8).await;
    check(384, 0, MIB / 8).await;
    check(3840, 0, MIB / 8).await;
    check(1, 72 * MIB - 1, MIB / 4).await;
    check(1, 72 * MIB, 0).await;
}

#[test]
fn a_piece_counts_once_until_its_last_part_is_gone() {
    let (budget, _) = budget();
    let check = |length: usize, takes: u64| {
        let piece = budget.count(vec![1; length].into(), None);
        let (part, other) = (piece.slice(1..2), piece.clone());
        assert_eq!(budget.used(), takes + PIECE_OVERHEAD, "{length}");
        drop((piece, other));
        assert_eq!(budget.used(), takes + PIECE_OVERHEAD);
        drop(part);
        assert_eq!(budget.used(), 0);
    };
    check(100, 100);
    check(COPIED_BELOW - 1, COPIED_BELOW as u64 - 1);
    check(COPIED_BELOW, BUFFER_BYTES);
    check(256 * 1024, 256 * 1024);
}

#[test]
fn short_of_memory_readers_of_segments_get_small_copies() {
    let (budget, _) = budget();
    let segment = Bytes::from(vec![1; 256 * 1024]);
    let whole = budget.lend_out(segment.clone(), 256 * 1024);
    assert_eq!((whole.len(), budget.used()), (256 * 1024, 256 * 1024));
    drop(whole);
    let all = budget.hold(96 * MIB);
    let piece = budget.lend_out(segment.clone(), 256 * 1024);
    assert_eq!((piece.len(), budget.used()), (SHORT_PIECE_BYTES, 96 * MIB));
    assert!(segment.as_ptr() != piece.as_ptr());
    drop(all);
}

#[tokio::test]
async fn who_finds_no_seat_waits_for_one_and_not_for_ever() {
    let (budget, _) = budget();
    let all = budget.hold(96 * MIB);
    assert!(budget.seat(1).await.is_none());
    let waiting = {
        let budget = Arc::clone(&budget);
        tokio::spawn(async move { budget.seat(1).await.is_some() })
    };
    tokio::task::yield_now().await;
    drop(all);
    assert!(waiting.await.unwrap());
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_body_hears_that_its_pieces_were_written() {
    let (budget, _) = budget();
    let outstanding = Arc::new(Outstanding::default());
    let piece = budget.count(Bytes::from_static(b"piece"), Some(&outstanding));
    let written = {
        let outstanding = Arc::clone(&outstanding);
        tokio::spawn(std::future::poll_fn(move |cx| outstanding.poll_none(cx)))
    };
    tokio::task::yield_now().await;
    assert!(!written.is_finished());
    drop(piece);
    written.await.unwrap();
}
