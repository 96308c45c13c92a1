//! Edges that die, databases and documents that are replaced.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use perigee_geo::build;
use perigee_testkit::wait_until;

use crate::bench::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_edge_leaves_the_answers_and_comes_back() {
    let (fra, port) = Edge::start(FRA, 0).await;
    let (syd, _) = Edge::start(SYD, port).await;
    let bench = Bench::start_with(&document(port, 2)).await;
    assert_eq!(bench.www(GERMANY).await.to_string(), FRA);
    fra.set(false);
    bench.www_becomes(GERMANY, SYD).await;
    assert_eq!(bench.running.stats().addresses_down, [FRA.parse::<std::net::IpAddr>().unwrap()]);
    let metrics = bench.admin("/metrics").await;
    let up = |pop: &str, address: &str, up: u8| {
        format!("perigee_dns_health_up{{node=\"ns1\",tier=\"geodns\",pop=\"{pop}\",address=\"{address}\"}} {up}")
    };
    assert!(metrics.contains(&up("fra", FRA, 0)) && metrics.contains(&up("syd", SYD, 1)), "{metrics}");
    // Nobody answers any more: what is known stays.
    syd.set(false);
    bench.isolated_becomes(true).await;
    for client in [GERMANY, AUSTRALIA] {
        assert_eq!(bench.www(client).await.to_string(), SYD);
    }
    assert!(bench.admin("/metrics").await.contains("perigee_dns_isolated{node=\"ns1\",tier=\"geodns\"} 1"));
    fra.set(true);
    bench.isolated_becomes(false).await;
    bench.www_becomes(AUSTRALIA, FRA).await;
    syd.set(true);
    bench.www_becomes(AUSTRALIA, SYD).await;
    assert_eq!(bench.running.stats().addresses_down, Vec::<std::net::IpAddr>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_listens_there() {
    let (_syd, port) = Edge::start(SYD, 0).await;
    let bench = Bench::start_with(&document(port, 1)).await;
    bench.www_becomes(GERMANY, SYD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_may_be_probed_elsewhere() {
    let (fra, fra_port) = Edge::start("127.0.0.1", 0).await;
    let (_syd, syd_port) = Edge::start("127.0.0.1", 0).await;
    // Nobody listens at the edges' own addresses.
    let bench = Bench::start_told(&document(1, 1), |options| {
        for (address, port) in [(FRA, fra_port), (SYD, syd_port)] {
            options.probe_at.insert(address.parse().unwrap(), ([127, 0, 0, 1], port).into());
        }
    })
    .await;
    fra.set(false);
    bench.www_becomes(GERMANY, SYD).await;
    fra.set(true);
    bench.www_becomes(GERMANY, FRA).await;
}

/// Asks without a pause until told to stop; every query must be answered.
pub(crate) async fn load(bench: &Bench) -> (Arc<AtomicBool>, Arc<AtomicU64>, tokio::task::JoinHandle<()>) {
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (stopped, count, address) = (Arc::clone(&stop), Arc::clone(&answered), bench.address());
    let client = Client::at(GERMANY).await;
    let task = tokio::spawn(async move {
        while !stopped.load(Ordering::SeqCst) {
            let reply = client.ask(address, &query(1, "www.cdn.example", A)).await;
            assert_eq!(addresses(&reply).len(), 1);
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (stop, answered, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_replaced_under_load_and_a_damaged_one_refused() {
    let bench = Bench::start().await;
    let (stop, answered, task) = load(&bench).await;
    wait_until("the load runs", || answered.load(Ordering::SeqCst) > 100).await;
    let good = build::build(SWAPPED_WORLD.as_bytes()).unwrap();
    bench.replace("world.mmdb", &good);
    bench.www_becomes(GERMANY, SYD).await;
    bench.www_becomes(AUSTRALIA, FRA).await;

    bench.replace("world.mmdb", &good[..good.len() / 2]);
    let refused = r#"perigee_reloads_total{node="ns1",tier="geodns",what="geo-database",result="refused"} 1"#;
    while !bench.admin("/metrics").await.contains(refused) {}
    let status = bench.admin("/v1/status").await;
    assert!(status.contains("\"database_refusal\":\"geo.database: ") && status.contains("world.mmdb"), "{status}");
    assert_eq!(bench.www(GERMANY).await.to_string(), SYD);

    bench.replace("world.mmdb", build::build(WORLD.as_bytes()).unwrap());
    bench.www_becomes(GERMANY, FRA).await;
    let status = bench.admin("/v1/status").await;
    assert!(status.contains("\"database_refusal\":null"), "{status}");
    // Each file was read once.
    let applied = r#"perigee_reloads_total{node="ns1",tier="geodns",what="geo-database",result="applied"} 2"#;
    let metrics = bench.admin("/metrics").await;
    assert!(metrics.contains(applied) && metrics.contains(refused), "{metrics}");
    stop.store(true, Ordering::SeqCst);
    task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_is_replaced_under_load_and_a_bad_one_refused() {
    let (_syd, port) = Edge::start(SYD, 0).await;
    let first = document(port, 2);
    let bench = Bench::start_with(&first).await;
    // FRA is dead, and stays so over the reloads.
    bench.www_becomes(GERMANY, SYD).await;
    let (stop, _, task) = load(&bench).await;
    let with_text = |text: &str| {
        format!("{first}[[zone.record]]\nname = \"@\"\ntype = \"TXT\"\nttl = \"1h\"\nvalues = [\"{text}\"]\n")
    };
    bench.replace("perigee.toml", with_text("second"));
    wait_until("the second document serves", || bench.running.stats().document_generation == 2).await;
    assert_eq!(bench.www(GERMANY).await.to_string(), SYD, "what is known of unchanged addresses stays known");
    let reply = Client::at(GERMANY).await.ask(bench.address(), &query(1, "cdn.example", TXT)).await;
    assert!(reply.answers[0].data.to_string().contains("second"));

    let refused = |count: u32| {
        format!("perigee_reloads_total{{node=\"ns1\",tier=\"geodns\",what=\"document\",result=\"refused\"}} {count}")
    };
    for (count, bad) in [
        (1, with_text("third").replace("version = 1", "version = 9")),
        (2, with_text("third").replace("[geo]", "[cdn.dnssec]\nkeys = \"keys\"\nalgorithm = \"ed25519\"\n[geo]")),
        (3, with_text("third").replace("world.mmdb", "absent.mmdb")),
    ] {
        bench.replace("perigee.toml", bad);
        while !bench.admin("/metrics").await.contains(&refused(count)) {}
        assert_eq!(bench.running.stats().document_generation, 2);
    }
    let reply = Client::at(GERMANY).await.ask(bench.address(), &query(1, "cdn.example", TXT)).await;
    assert!(reply.answers[0].data.to_string().contains("second"));
    stop.store(true, Ordering::SeqCst);
    task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nameserver_that_is_cut_off_keeps_its_view() {
    let (fra, port) = Edge::start(FRA, 0).await;
    let (syd, _) = Edge::start(SYD, port).await;
    let bench = Bench::start_with(&document(port, 5)).await;
    assert!(bench.admin("/v1/status").await.contains("\"isolated\":false"));
    fra.set(false);
    syd.set(false);
    bench.isolated_becomes(true).await;
    // More probes than it takes to be down.
    bench.probes_fail(FRA, 7).await;
    bench.probes_fail(SYD, 7).await;
    assert_eq!(bench.running.stats().addresses_down, Vec::<std::net::IpAddr>::new());
    assert_eq!(bench.www(GERMANY).await.to_string(), FRA);
    assert_eq!(bench.www(AUSTRALIA).await.to_string(), SYD);
    fra.set(true);
    syd.set(true);
    bench.isolated_becomes(false).await;
    assert_eq!(bench.www(AUSTRALIA).await.to_string(), SYD);
}
