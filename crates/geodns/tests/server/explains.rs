//! The admin API's explanation, and the TXT of `_why.NAME`.

use crate::bench::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_api_explains_what_the_sockets_answer() {
    let (fra, port) = Edge::start(FRA, 0).await;
    let (_syd, _) = Edge::start(SYD, port).await;
    let bench = Bench::start_with(&document(port, 2)).await;
    let ask = "/v1/explain/dns?name=www.cdn.example&client=";
    let told = bench.admin(&format!("{ask}{GERMANY}")).await;
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    assert!(told.contains(&format!("\"addresses\":[\"{FRA}\"],\"pop\":\"fra\",\"reason\":\"nearest\"")), "{told}");
    // The prefix that the query tells of counts for more than who sends it, but for one of no bits.
    let told = bench.admin(&format!("{ask}{GERMANY}&subnet=127.61.0.0/16&type=A")).await;
    assert!(told.contains("\"pop\":\"syd\",\"reason\":\"nearest\"") && told.contains("\"prefix\":16"), "{told}");
    let told = bench.admin(&format!("{ask}{AUSTRALIA}&subnet=0.0.0.0/0")).await;
    assert!(told.contains("\"pop\":\"syd\"") && told.contains("\"prefix\":0"), "{told}");
    let told = bench.admin(&format!("{ask}{GERMANY}&type=AAAA")).await;
    assert!(told.contains("\"reason\":\"no-address\"") && told.contains("\"dropped_by\":\"family\""), "{told}");
    // Its health is the sockets'.
    fra.set(false);
    bench.www_becomes(GERMANY, SYD).await;
    let told = bench.admin(&format!("{ask}{GERMANY}")).await;
    assert!(told.contains("\"dropped_by\":\"down\"") && told.contains("\"reason\":\"next-nearest\""), "{told}");
    for (question, said) in [
        ("name=www.cdn.example", "it takes ?name=NAME"),
        ("name=www.cdn.example&client=x", "it takes ?name=NAME"),
        ("name=www.cdn.example&client=127.0.0.1&type=MX", "it takes ?name=NAME"),
        ("name=www.cdn.example&client=127.0.0.1&colour=red", "it takes ?name=NAME"),
        ("name=nobody.cdn.example&client=127.0.0.1", "nobody.cdn.example is not there"),
        ("name=www.example.com&client=127.0.0.1", "is not in the zone cdn.example"),
    ] {
        let told = bench.admin(&format!("/v1/explain/dns?{question}")).await;
        assert!(told.starts_with("HTTP/1.1 400") && told.contains(said), "{question}: {told}");
    }
}
