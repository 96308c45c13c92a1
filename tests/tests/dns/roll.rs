//! Keys are rolled as the runbook says, while a validating resolver goes on asking: it never meets an answer that it cannot
//! believe.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use perigee_testkit::wait_until;
use perigee_tests::installed;
use tempfile::TempDir;

use crate::{
    bench::{DNSSEC, GERMANY, Nameserver, document, perigee, run},
    resolver::anchor,
    unbound::Resolver,
};

/// A key's file with its times moved into the past: so many seconds go by.
fn time_goes_by(folder: &TempDir, seconds: u64) {
    for entry in fs::read_dir(folder.path().join("keys")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let moved: Vec<String> = text.lines().map(|line| earlier(line, seconds)).collect();
        let next = path.with_extension("next");
        fs::write(&next, moved.join("\n") + "\n").unwrap();
        fs::rename(&next, &path).unwrap();
    }
}

fn earlier(line: &str, seconds: u64) -> String {
    let is_time = ["publish", "activate", "retire", "remove"].iter().any(|key| line.starts_with(&format!("{key} = ")));
    match line.split_once(" = ") {
        Some((key, time)) if is_time => format!("{key} = {}", time.parse::<u64>().unwrap().saturating_sub(seconds)),
        _ => line.to_owned(),
    }
}

/// Lets the nameserver look at its keys now.
async fn look(nameserver: &Nameserver, step: u32) {
    let applied = "what=\"document\",result=\"applied\"";
    let before = nameserver.metric("perigee_reloads_total", applied).await;
    nameserver.replace("perigee.toml", format!("{}# step {step}\n", document(DNSSEC)));
    nameserver.process.signal(nix::sys::signal::Signal::SIGHUP);
    perigee_testkit::patiently("the keys are read", async {
        while nameserver.metric("perigee_reloads_total", applied).await <= before {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Lets a resolver that keeps nothing forget the keys that it has: it counts its memory in whole seconds of the real clock, and
/// what it fetched counts as fresh to the end of the second after. The files' clock, which the test moves, is none of its own.
async fn forgotten() {
    let second = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let last = second() + 1;
    wait_until("the resolver's memory ends", || second() > last).await;
}

/// The tags of the keys that sign a set, as the nameserver gives it.
fn signers(nameserver: &Nameserver, name: &str, kind: &str) -> Vec<u16> {
    let (at, port) = (format!("@{}", nameserver.address.ip()), nameserver.address.port().to_string());
    let text = run("dig", &[&at, "-p", &port, "+norec", "+dnssec", "+short", name, kind]);
    let signatures = text.lines().filter(|line| line.starts_with(&format!("{kind} 13 ")));
    let mut tags: Vec<u16> = signatures.map(|line| line.split_whitespace().nth(6).unwrap().parse().unwrap()).collect();
    tags.sort_unstable();
    tags
}

fn published(nameserver: &Nameserver) -> usize {
    let (at, port) = (format!("@{}", nameserver.address.ip()), nameserver.address.port().to_string());
    run("dig", &[&at, "-p", &port, "+norec", "+short", "cdn.example", "DNSKEY"]).lines().count()
}

/// Clients of resolvers that ask without end.
struct Watch {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Watch {
    fn start(resolvers: &[Arc<Resolver>]) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = resolvers.iter().map(|resolver| {
            let (resolver, stop, asked) = (Arc::clone(resolver), Arc::clone(&stop), Arc::clone(&asked));
            thread::spawn(move || {
                let mut number = 0;
                while !stop.load(Ordering::SeqCst) {
                    number += 1;
                    // Names that no memory has, a set that is kept, and a denial.
                    for (name, kind) in [
                        (format!("n{number}.wild.cdn.example"), "A"),
                        ("www.cdn.example".into(), "A"),
                        (format!("n{number}.cdn.example"), "A"),
                    ] {
                        let read = resolver.ask(GERMANY, &name, kind);
                        assert!(read.rcode == "NOERROR" && read.is_validated, "{name}: {read:?}\n{}", resolver.said());
                        asked.fetch_add(1, Ordering::SeqCst);
                    }
                }
            })
        });
        Self { threads: threads.collect(), stop, asked }
    }

    /// Waits until every resolver has been asked some more.
    async fn go_on(&self) {
        let enough = self.asked.load(Ordering::SeqCst) + 12;
        wait_until("more questions, or the end of one who asks", || {
            self.asked.load(Ordering::SeqCst) >= enough || self.threads.iter().any(thread::JoinHandle::is_finished)
        })
        .await;
        assert!(!self.threads.iter().any(thread::JoinHandle::is_finished), "an answer could not be believed");
    }

    fn end(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
        self.asked.load(Ordering::SeqCst)
    }
}

const FORGETFUL: &str = "  cache-max-ttl: 0\n  cache-max-negative-ttl: 0\n  aggressive-nsec: no\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zsk_is_rolled_by_pre_publication() {
    if !installed("unbound") || !installed("dig") {
        return;
    }
    let nameserver = Nameserver::start_keyed_by(DNSSEC, &["ksk", "zsk"]).await;
    let anchor = anchor(&nameserver);
    let forgetful = Resolver::start(&[nameserver.address], Some(&anchor), FORGETFUL).await;
    let watch = Watch::start(&[Arc::new(forgetful)]);
    watch.go_on().await;
    let old = signers(&nameserver, "ns1.cdn.example", "A");
    assert_eq!((old.len(), published(&nameserver)), (1, 2));

    perigee(&nameserver.folder, &["dns", "keygen", "--role", "zsk", "--roll"]);
    look(&nameserver, 1).await;
    watch.go_on().await;
    assert_eq!(
        (signers(&nameserver, "ns1.cdn.example", "A"), published(&nameserver)),
        (old.clone(), 3),
        "shown, not used"
    );

    // Those who fetched the keys before the new one was shown will have forgotten them when it is used; others know it.
    let late = Watch::start(&[Arc::new(Resolver::start(&[nameserver.address], Some(&anchor), "").await)]);
    late.go_on().await;
    forgotten().await;
    watch.go_on().await;
    time_goes_by(&nameserver.folder, 2 * 3_600 + 1);
    look(&nameserver, 2).await;
    let new = signers(&nameserver, "ns1.cdn.example", "A");
    assert!(new.len() == 1 && new != old, "{new:?} after {old:?}");
    assert_eq!(published(&nameserver), 3);
    watch.go_on().await;
    late.go_on().await;

    time_goes_by(&nameserver.folder, 8 * 86_400);
    look(&nameserver, 3).await;
    watch.go_on().await;
    assert_eq!((signers(&nameserver, "ns1.cdn.example", "A"), published(&nameserver)), (new, 2), "the old one is gone");
    late.go_on().await;
    println!("{} answers validated during the roll of a ZSK", watch.end() + late.end());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_csk_is_rolled_with_both_signing() {
    if !installed("unbound") || !installed("dig") {
        return;
    }
    let nameserver = Nameserver::start_keyed(DNSSEC).await;
    let old_anchor = anchor(&nameserver);
    let believes_old = Resolver::start(&[nameserver.address], Some(&old_anchor), FORGETFUL).await;
    let watch = Watch::start(&[Arc::new(believes_old)]);
    watch.go_on().await;
    let old = signers(&nameserver, "cdn.example", "DNSKEY");

    perigee(&nameserver.folder, &["dns", "keygen", "--roll"]);
    look(&nameserver, 1).await;
    watch.go_on().await;
    assert_eq!((signers(&nameserver, "cdn.example", "DNSKEY").len(), published(&nameserver)), (2, 2));
    let anchors = perigee(&nameserver.folder, &["dns", "ds"]);
    let new_anchor = anchors.lines().find(|line| **line != old_anchor).unwrap().to_owned();
    let believes_new = Resolver::start(&[nameserver.address], Some(&new_anchor), FORGETFUL).await;
    let new_watch = Watch::start(&[Arc::new(believes_new)]);
    new_watch.go_on().await;
    watch.go_on().await;
    // The parent has the new DS alone: nobody goes by the old one any more.
    let during = watch.end();
    perigee(&nameserver.folder, &["dns", "retire", &old[0].to_string()]);
    look(&nameserver, 2).await;
    new_watch.go_on().await;
    let left = signers(&nameserver, "cdn.example", "DNSKEY");
    assert!(left.len() == 1 && left != old, "{left:?} after {old:?}");
    time_goes_by(&nameserver.folder, 9 * 86_400);
    look(&nameserver, 3).await;
    new_watch.go_on().await;
    assert_eq!(published(&nameserver), 1);
    assert_eq!(perigee(&nameserver.folder, &["dns", "ds"]).lines().count(), 1);
    println!("{} answers validated during the roll of a CSK", during + new_watch.end());
}
