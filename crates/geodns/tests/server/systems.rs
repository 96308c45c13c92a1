//! Clients steered by their autonomous system, whose database is opened, watched and told of like the other.

use std::sync::atomic::Ordering;

use perigee_geo::build;
use perigee_testkit::wait_until;

use crate::{bench::*, changes::load};

const GERMANS: &str = "prefix,asn\n127.49.0.0/16,64500\n127.61.0.0/16,64501\n";
const AUSTRALIANS: &str = "prefix,asn\n127.49.0.0/16,64501\n127.61.0.0/16,64500\n";

#[tokio::test(flavor = "multi_thread")]
async fn systems_are_replaced_under_load_and_damaged_ones_refused() {
    let bench = Bench::start().await;
    assert!(bench.admin("/v1/status").await.contains("\"asn_database\":null"));
    let systems = |csv: &str| build::build(csv.as_bytes()).unwrap();
    bench.replace("asn.mmdb", systems(GERMANS));
    let ruled = "[geo]\nasn_database = \"asn.mmdb\"\n[[geo.override]]\nasn = [64500]\npop = \"syd\"\n";
    let document = unprobed().replace("[geo]\n", ruled).replace("database = \"world.mmdb\"\n", "");
    let document = document.replacen("[geo]\n", "[geo]\ndatabase = \"world.mmdb\"\n", 1);
    bench.replace("perigee.toml", document);
    bench.www_becomes(GERMANY, SYD).await;
    let (stop, answered, task) = load(&bench).await;
    wait_until("the load runs", || answered.load(Ordering::SeqCst) > 100).await;
    let explained = bench.admin(&format!("/v1/explain/dns?name=www.cdn.example&client={GERMANY}")).await;
    assert!(explained.contains("AS64500") && explained.contains("\"asn\":64500"), "{explained}");

    bench.replace("asn.mmdb", systems(AUSTRALIANS));
    bench.www_becomes(GERMANY, FRA).await;
    let cut = systems(GERMANS);
    bench.replace("asn.mmdb", &cut[..cut.len() / 2]);
    let refused = r#"perigee_reloads_total{node="ns1",tier="geodns",what="asn-database",result="refused"} 1"#;
    while !bench.admin("/metrics").await.contains(refused) {}
    let status = bench.admin("/v1/status").await;
    assert!(
        status.contains("\"asn_database_refusal\":\"geo.asn_database: ") && status.contains("Perigee-City"),
        "{status}"
    );
    assert!(status.contains("\"database_refusal\":null"), "{status}");
    assert_eq!(bench.www(GERMANY).await.to_string(), FRA);

    bench.replace("asn.mmdb", systems(GERMANS));
    bench.www_becomes(GERMANY, SYD).await;
    // The other database may change meanwhile, and takes nothing with it.
    bench.replace("world.mmdb", systems(SWAPPED_WORLD));
    bench.www_becomes(AUSTRALIA, FRA).await;
    assert_eq!(bench.www(GERMANY).await.to_string(), SYD);
    let metrics = bench.admin("/metrics").await;
    let applied = r#"perigee_reloads_total{node="ns1",tier="geodns",what="asn-database",result="applied"} 2"#;
    assert!(metrics.contains(applied) && metrics.contains(refused), "{metrics}");
    assert!(metrics.contains("perigee_dns_asn_database_built_seconds"), "{metrics}");
    stop.store(true, Ordering::SeqCst);
    task.await.unwrap();
}
