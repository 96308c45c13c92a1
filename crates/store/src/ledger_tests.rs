use std::fs;

use perigee_protocol::model::{CachePolicy, Scheme};
use perigee_semantics::{
    policy::{Policy, Tier},
    purge::By,
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    file::{Contents, read},
    *,
};

const SEED: u64 = 5;
const NOW: Timestamp = Timestamp::from_millis(1_000);

/// A folder with a ledger in it, opened as often as a test wants.
struct World {
    dir: TempDir,
    epoch: u64,
    empty: bool,
    runtime: tokio::runtime::Runtime,
    registry: Registry,
    ledger: Arc<LiveLedger>,
}

impl World {
    fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("a runtime");
        let mut registry = Registry::default();
        let metrics = LedgerMetrics::register(&mut registry);
        let ledger = Arc::new(LiveLedger::in_memory(SEED, runtime.handle().clone(), metrics));
        let mut world =
            Self { dir: tempfile::tempdir().expect("a folder"), epoch: 0, empty: true, runtime, registry, ledger };
        world.restart();
        world.empty = false;
        world
    }

    /// What another process finds: nothing is closed, so a kill leaves the same.
    fn restart(&mut self) {
        self.epoch += 1;
        self.registry = Registry::default();
        let metrics = LedgerMetrics::register(&mut self.registry);
        let folder = LedgerFolder { dir: self.dir.path().to_owned(), epoch: self.epoch, empty: self.empty };
        let opened = LiveLedger::open(&folder, SEED, self.runtime.handle().clone(), metrics);
        self.ledger = Arc::new(opened.expect("opens"));
    }

    fn purge(&self, path: &str) -> PurgeAck {
        self.runtime.block_on(self.ledger.purge(Kind::Hard, &[url(path)], NOW))
    }

    fn verdict(&self, path: &str, fence: Seq) -> Verdict {
        self.ledger.verdict(&key(path), &[], fence)
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join(LEDGER_FILES[0])
    }

    fn contents(&self) -> Result<Contents, Unreadable> {
        read(self.dir.path(), fingerprint(SEED))
    }

    fn metric(&self, line: &str) -> bool {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("encodes");
        text.lines().any(|found| found == line)
    }
}

fn url(path: &str) -> Scope {
    Scope::Url { site: "www".parse().expect("a site"), authority: "a.example".into(), target: path.into() }
}

fn key(path: &str) -> CacheKey {
    let cache = CachePolicy::default();
    let policy = Policy { cache: &cache, rule: None, tier: Tier::Edge };
    CacheKey::new(&"www".parse().expect("a site"), Scheme::Http, "a.example", path, None, &policy)
}

#[test]
fn a_purge_is_remembered_by_the_next_process() {
    let mut world = World::new();
    let before = world.ledger.applied();
    let ack = world.purge("/a");
    assert_eq!(ack, PurgeAck { seq: before.next(), durable: true });
    for _ in 0..3 {
        assert_eq!(world.verdict("/a", before), Verdict::Hard(By::Url, ack.seq));
        assert_eq!(world.verdict("/a", ack.seq), Verdict::Clean);
        assert_eq!(world.verdict("/b", before), Verdict::Clean);
        assert_eq!(world.ledger.recent().iter().map(|purge| &*purge.text).collect::<Vec<_>>(), ["a.example/a of www"]);
        world.restart();
    }
}

#[test]
fn a_number_is_never_given_twice() {
    let mut world = World::new();
    world.purge("/a");
    let kept = fs::read(world.file()).expect("reads");
    // These were applied and never reached the disk; what was filled after them may have.
    let lost = world.purge("/b").seq.max(world.purge("/c").seq);
    fs::write(world.file(), kept).expect("writes");
    world.restart();
    let ack = world.purge("/d");
    assert!(ack.seq > lost, "{ack:?} after {lost}");
    assert_eq!(
        world.verdict("/d", lost),
        Verdict::Hard(By::Url, ack.seq),
        "filled before this purge, whatever its fence"
    );
}

#[test]
fn invalidations_are_remembered_too() {
    let mut world = World::new();
    let before = world.ledger.applied();
    let seq = world.runtime.block_on(world.ledger.invalidate(&[url("/a")], true, NOW));
    assert_eq!(world.verdict("/a", before), Verdict::Hard(By::Url, seq), "at once");
    world.restart();
    assert_eq!(world.verdict("/a", before), Verdict::Hard(By::Url, seq));
}

#[test]
fn only_a_frame_that_was_never_acknowledged_may_be_missing() {
    let world = World::new();
    let snapshot = fs::read(world.file()).expect("reads").len();
    let first = world.purge("/a").seq;
    let one = fs::read(world.file()).expect("reads").len();
    let second = world.purge("/b").seq;
    let whole = fs::read(world.file()).expect("reads");
    for len in 0..=whole.len() {
        fs::write(world.file(), &whole[..len]).expect("writes");
        let found = world.contents().map(|contents| contents.ledger.latest());
        match found {
            Ok(latest) if len == whole.len() => assert_eq!(latest, second),
            Ok(latest) if len >= one => assert_eq!(latest, first, "{len}"),
            Ok(latest) => assert!(len >= snapshot && latest == Seq::ZERO, "{len}"),
            Err(error) => assert!(len < snapshot, "{len}: {error}"),
        }
    }
}

#[test]
fn no_flipped_bit_hides_a_purge() {
    let world = World::new();
    world.purge("/a");
    world.purge("/b");
    let whole = fs::read(world.file()).expect("reads");
    for place in 0..whole.len() {
        for bit in [1, 128] {
            let mut bytes = whole.clone();
            bytes[place] ^= bit;
            fs::write(world.file(), bytes).expect("writes");
            assert!(world.contents().is_err(), "byte {place}, bit {bit}");
        }
    }
    fs::write(world.file(), whole).expect("writes");
    assert!(world.contents().is_ok());
}

#[test]
fn damage_and_loss_purge_everything() {
    let check = |damage: fn(&Path), is_set_aside: bool| {
        let mut world = World::new();
        let before = world.ledger.applied();
        let ack = world.purge("/a");
        damage(&world.file());
        world.restart();
        for (path, fence) in [("/a", before), ("/never/purged", ack.seq)] {
            let found = world.verdict(path, fence);
            assert!(matches!(found, Verdict::Hard(By::Floor, _)), "{path}: {found:?}");
        }
        assert_eq!(world.dir.path().join(LEDGER_FILES[2]).exists(), is_set_aside);
        let now = world.ledger.applied();
        assert_eq!(world.verdict("/never/purged", now), Verdict::Clean, "what comes now is used");
        world.restart();
        assert_eq!(world.verdict("/never/purged", now), Verdict::Clean, "and by the next process");
        assert!(world.verdict("/never/purged", ack.seq).is_hard());
    };
    check(|file| fs::remove_file(file).expect("removes"), false);
    check(|file| fs::write(file, "").expect("writes"), true);
    check(|file| fs::write(file, "something else").expect("writes"), true);
    check(
        |file| {
            let mut bytes = fs::read(file).expect("reads");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(file, bytes).expect("writes");
        },
        true,
    );
    check(
        |file| {
            fs::remove_file(file).expect("removes");
            fs::create_dir(file).expect("makes");
        },
        true,
    );
}

#[test]
fn a_purge_that_is_not_on_disk_says_so_and_holds() {
    let mut world = World::new();
    let before = world.ledger.applied();
    let dir = world.dir.path().to_owned();
    fs::remove_dir_all(&dir).expect("removes");
    let lost = world.purge("/a");
    assert!(!lost.durable);
    assert!(world.verdict("/a", before).is_hard());
    assert!(world.metric("perigee_purge_ledger_write_errors_total 1"));
    // The next one that can be written takes the others with it.
    fs::create_dir(&dir).expect("makes");
    assert!(world.purge("/b").durable);
    world.restart();
    assert_eq!(world.verdict("/a", before), Verdict::Hard(By::Url, lost.seq));
}

#[test]
fn the_file_stays_small_and_the_list_short() {
    let mut world = World::new();
    let before = world.ledger.applied();
    // A text of the greatest length, so that fewer rounds fill the file.
    let path = format!("/{}", "x".repeat(TEXT_BYTES_MAX));
    let scopes = [url(&path)];
    let mut largest = 0;
    for _ in 0..6_000 {
        let purge = world.ledger.apply(Kind::Soft, &scopes, false, words(&scopes), NOW);
        assert!(world.ledger.write(&purge, false));
        largest = largest.max(fs::metadata(world.file()).expect("there").len());
    }
    assert!(largest > 1 << 20, "nothing was rewritten: {largest}");
    assert!(largest < 2 << 20, "{largest}");
    world.restart();
    assert_eq!(world.ledger.recent().len(), RECENT_PURGES_MAX);
    assert!(world.ledger.recent()[0].text.len() <= TEXT_BYTES_MAX + '…'.len_utf8());
    assert_eq!(world.verdict(&path, before).reason(), Some("soft-purged-by-url"));
    assert!(world.metric("perigee_purge_ledger_entries 1"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// A purge at n hides everything filled before n, for ever, across restarts.
    #[test]
    fn what_was_purged_stays_purged_across_restarts(ops in proptest::collection::vec(0_u8..8, 1..40)) {
        let mut world = World::new();
        let mut purged: Vec<(usize, Seq)> = Vec::new();
        let mut fills: Vec<(usize, Seq)> = Vec::new();
        let paths = ["/a", "/b", "/c"];
        for op in ops {
            match usize::from(op) {
                op @ 0..3 => fills.push((op, world.ledger.applied())),
                op @ 3..6 => {
                    let ack = world.purge(paths[op - 3]);
                    prop_assert!(ack.durable);
                    purged.push((op - 3, ack.seq));
                }
                _ => world.restart(),
            }
            for (path, fence) in &fills {
                let hidden = purged.iter().any(|(other, seq)| other == path && seq > fence);
                prop_assert_eq!(world.verdict(paths[*path], *fence).is_hard(), hidden);
            }
        }
    }
}
