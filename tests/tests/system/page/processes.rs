//! The page of separate processes: a shield, two edges, a nameserver, one who never answers and one who tells lies; and how the
//! page looks with far more than a screen holds.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    thread,
};

use perigee_testkit::{ProcessUnderTest, Reply, ScriptedOrigin, client, free_port, sha256};
use perigee_tests::installed;
use serde_json::{Value, json};

use super::{FAINT, browser::Browser, fill};
use crate::fleet::{Fleet, Node, loopback};

const TOKEN: &str = "a token of the tests alone";
/// What a page must never run.
const EVIL: &str = "<img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script>\"'`${window.pwned=1}";

/// Tells `figures` to everybody, as a node would.
fn telling(figures: &Value) -> SocketAddr {
    let listener = TcpListener::bind(loopback(0)).unwrap();
    let address = listener.local_addr().unwrap();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let event = format!("data: [{figures}]\n\n");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let event = event.clone();
            thread::spawn(move || {
                drop(stream.read(&mut [0; 1024]));
                let mut written = stream.write_all(head.as_bytes());
                // Until the other end has had enough: figures that come too often are not all read.
                while written.is_ok() {
                    written = stream.write_all(event.as_bytes());
                }
            });
        }
    });
    address
}

/// Figures with a lie in every text.
fn lies() -> Value {
    json!({
        "node": EVIL, "tier": "edge", "pop": EVIL, "version": EVIL, "time_ms": 1, "reasons": [EVIL],
        "urls": [{ "url": format!("{EVIL}{}", "/a".repeat(2000)), "requests": u64::MAX, "hits": 1, "endings": [[EVIL, EVIL, 3]] }],
        "purges": [{ "at_ms": u64::MAX, "kind": EVIL }],
        "traffic": { "now": { "requests_per_s": -1e300 }, "hour": { "minutes": [[u64::MAX, u64::MAX]] } },
        "arcs": [{ "latitude": 1e300, "longitude": -1e300, "country": EVIL, "pop": EVIL, "answers": u64::MAX }],
        "world": { "cdn": EVIL, "zone": EVIL, "pops": [{ "id": EVIL, "city": EVIL, "latitude": 0.0, "longitude": 1e300 }],
            "shields": [{ "id": EVIL, "url": EVIL, "pops": [EVIL] }], "sites": [{ "id": EVIL, "name": EVIL, "origins": [EVIL] }] },
    })
}

fn row(name: &str) -> String {
    format!(
        "[...document.querySelectorAll('#nodes tbody tr')].find((row) => row.cells[0].innerText === '{name}')?.innerText"
    )
}

fn page_of(nodes: &[SocketAddr], listen: SocketAddr) -> ProcessUnderTest {
    let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    ProcessUnderTest::start("perigee", ["page", "--listen", &listen.to_string(), "--node", &nodes.join(",")])
}

async fn nameserver(fleet: &Fleet) -> Node {
    let (address, admin) = (loopback(free_port()), loopback(free_port()));
    let (listen, at) = (address.to_string(), admin.to_string());
    let document = fleet.document.display().to_string();
    let arguments = ["--document", &document, "--name", "ns1", "--listen", &listen, "--admin", &at];
    let mut process = ProcessUnderTest::start("perigee-geodns", arguments);
    process.wait_ready(admin).await;
    Node { process, address, admin }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_separate_processes() {
    if !installed("chromium") {
        return;
    }
    let origin = ScriptedOrigin::answering(|_| Reply::ok("x").header("Cache-Control", "max-age=600")).await;
    let admin = format!(
        "[admin]\ntokens = [{{ name = \"ops\", sha256 = \"{}\", scopes = [\"purge\", \"drain\"] }}]\n",
        sha256(TOKEN)
    );
    let mut fleet = Fleet::over(&origin.url(), &[], &admin).await;
    let ns1 = nameserver(&fleet).await;
    let hanging = TcpListener::bind(loopback(0)).unwrap();
    let (silent, liar) = (hanging.local_addr().unwrap(), telling(&lies()));
    let nodes = [fleet.shield.admin, fleet.edges[0].admin, fleet.edges[1].admin, ns1.admin, silent, liar];
    let listen = loopback(free_port());
    let mut server = page_of(&nodes, listen);
    server.wait_for_line(&format!("the page of 6 nodes is at http://{listen}/")).await;

    let profile = tempfile::tempdir().unwrap();
    let mut page = Browser::open(profile.path(), &format!("http://{listen}/"));
    for _ in 0..4 {
        client::get(fleet.edges[0].address, "www.example.com", "/a").await;
    }
    page.wait("document.querySelectorAll('#nodes tbody tr').length === 6");
    for name in ["shield-eu", "fra", "syd", "ns1"] {
        page.wait(&format!("{}?.includes('up')", row(name)));
    }
    page.wait(&format!("{}?.includes('no answer within 3 s')", row(&silent.to_string())));
    page.wait("document.querySelector('#urls tbody').innerText.includes('www.example.com/a')");
    lies_are_only_shown(&mut page);
    questions_and_purges(&mut page, &silent.to_string());

    // One dies without a word, and comes back at its place.
    let dead = fleet.edges.pop().unwrap();
    let (address, admin) = (dead.address, dead.admin);
    drop(dead);
    page.wait(&format!("{}?.includes('not reached since')", row("syd")));
    fill(&mut page, "#purge", &[("url", "http://www.example.com/a"), ("token", TOKEN)]);
    page.wait("document.querySelector('#purged').innerText.includes('syd: syd does not answer') || document.querySelector('#purged').innerText.includes('does not answer')");
    page.wait("document.querySelector('#purged').innerText.includes('fra: purged, number')");
    let document = fleet.document.display().to_string();
    let (listen_at, admin_at) = (address.to_string(), admin.to_string());
    let arguments = ["--document", &document, "--pop", "syd", "--listen", &listen_at, "--admin", &admin_at];
    let mut syd = ProcessUnderTest::start("perigee-edge", arguments);
    syd.wait_ready(admin).await;
    page.wait(&format!("{0}?.includes('up') && !{0}.includes('not reached')", row("syd")));

    // So does the server of the page, and nobody has to load it anew.
    page.complaints.retain(|complaint| !complaint.contains("responded with a status of 50"));
    assert_eq!(page.complaints, Vec::<String>::new());
    server.terminate();
    assert!(server.wait_exit().await.success(), "an open page does not hold it up");
    page.wait("document.querySelector('#link').className === 'lost'");
    let server = page_of(&nodes, listen);
    server.wait_for_line("ready:").await;
    page.wait("document.querySelector('#link').textContent === 'live'");
    names_of_strangers(fleet.edges[0].admin, listen).await;
}

fn lies_are_only_shown(page: &mut Browser) {
    page.wait("document.querySelector('#nodes tbody').innerText.includes('onerror=')");
    page.wait("document.querySelector('#urls tbody').innerText.includes('<script>')");
    assert_eq!(page.evaluate("window.pwned === undefined"), true, "a node's text was run");
    assert_eq!(
        page.evaluate("document.querySelectorAll('img, main script').length"),
        0,
        "a node's text became an element"
    );
    // Its clock is half a century behind, and that is said.
    page.wait("document.querySelector('#nodes tbody').innerText.includes('s behind')");
    for width in [320, 1200] {
        page.dress(width, 800, "light");
        assert_eq!(page.evaluate("document.documentElement.scrollWidth").as_u64(), Some(u64::from(width)), "wider");
    }
}

fn questions_and_purges(page: &mut Browser, silent: &str) {
    page.evaluate("document.querySelector('#ask-http').elements.node.value = [...document.querySelectorAll('#ask-http option')].find((one) => one.text === 'fra').value");
    fill(page, "#ask-http", &[("url", "http://www.example.com/a")]);
    page.wait("document.querySelector('#answer').innerText.includes('site www')");
    fill(page, "#ask-dns", &[("name", "www.cdn.example"), ("client", "127.49.0.1")]);
    page.wait("document.querySelector('#answer').innerText.includes('fra')");
    fill(page, "#purge", &[("url", "http://www.example.com/a"), ("token", TOKEN)]);
    for told in ["shield-eu: purged, number", "fra: purged, number", "syd: purged, number"] {
        page.wait(&format!("document.querySelector('#purged').innerText.includes('{told}')"));
    }
    page.wait(&format!("document.querySelector('#purged').innerText.includes('{silent}: not asked')"));
    // The liar was asked, and has no answer.
    page.complaints.retain(|complaint| !complaint.contains("responded with a status of"));
}

/// A name that was led here, and other sites' pages, read nothing.
async fn names_of_strangers(node: SocketAddr, page: SocketAddr) {
    for address in [node, page] {
        for path in ["/", "/v1/live", "/page/page.js"] {
            assert_eq!(client::get(address, "evil.example", path).await.status, 421, "{address}{path}");
        }
        let mut connection = client::Connection::open(address).await;
        let origin = [("Origin", "http://evil.example")];
        let reply = connection.send(http::Method::GET, &address.to_string(), "/v1/live", &origin).await;
        assert_eq!(reply.status, 403, "{address}");
    }
    assert_eq!(client::get(node, "scraper.example", "/metrics").await.status, 200);
}

/// Two hundred PoPs, and long names of everything.
fn much() -> Value {
    let pops: Vec<Value> = (0..200)
        .map(|n| json!({ "id": format!("p{n}"), "city": "A".repeat(60), "latitude": f64::from(n % 17 * 10 - 80), "longitude": f64::from(n * 7 % 360 - 180) }))
        .collect();
    let states = pops.iter().map(|pop| {
        (pop["id"].as_str().unwrap().to_owned(), json!({ "state": "auto", "addresses": { "192.0.2.1": "up" } }))
    });
    let arcs: Vec<Value> = (0..64)
        .map(|n| json!({ "latitude": n - 30, "longitude": 170, "country": "NZ", "pop": format!("p{}", n * 3), "answers": n + 1 }))
        .collect();
    json!({
        "node": "n".repeat(200), "tier": "geodns", "time_ms": 0, "pops": states.collect::<serde_json::Map<_, _>>(), "arcs": arcs,
        "traffic": { "now": { "requests_per_s": 123_456.7, "requests": 600_000 },
            "hour": { "requests": 400_000_000, "hits": 7, "minutes": [[5, 5], [9, 3], [700, 300]] } },
        "world": { "cdn": "c".repeat(100), "zone": "z".repeat(200), "pops": pops,
            "sites": [{ "id": "a", "name": "s".repeat(200), "origins": ["http://".to_owned() + &"o".repeat(300)] }] },
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn far_more_than_a_screen_holds_by_keyboard_and_on_the_smallest_phone() {
    if !installed("chromium") {
        return;
    }
    let urls: Vec<Value> = (0..20)
        .map(|n| json!({ "url": format!("www.example.com/{n}/{}", "very-long".repeat(50)), "requests": 9 - n % 9, "hits": 3, "endings": [["miss", "uncached", 4], ["hit", "fresh", 3]] }))
        .collect();
    let edge = json!({ "node": "fra", "tier": "edge", "pop": "p0", "time_ms": 0, "traffic": { "now": { "requests": 9, "hits": 5 } }, "urls": urls });
    let listen = loopback(free_port());
    let server = page_of(&[telling(&much()), telling(&edge)], listen);
    server.wait_for_line("ready:").await;
    let profile = tempfile::tempdir().unwrap();
    let mut page = Browser::open(profile.path(), &format!("http://{listen}/"));
    page.wait("document.querySelectorAll('#pops circle.up').length === 200");
    page.wait("document.querySelectorAll('#nodes tbody tr').length === 2");
    page.wait("document.querySelectorAll('#urls tbody tr').length === 20");
    let names = page.evaluate("document.querySelectorAll('#pops text').length");
    assert!(names.as_u64().is_some_and(|names| names <= 40), "{names} names lie on each other");
    for scheme in ["light", "dark"] {
        page.dress(320, 640, scheme);
        assert_eq!(page.evaluate("document.documentElement.scrollWidth"), 320, "{scheme}: wider than a phone");
        assert_eq!(page.evaluate(FAINT), json!([]), "{scheme}: text that hardly stands out");
        assert_eq!(page.evaluate(FAINT_SHAPES), json!([]), "{scheme}: shapes that hardly stand out");
    }
    page.ask(
        "Emulation.setEmulatedMedia",
        json!({ "features": [{ "name": "prefers-reduced-motion", "value": "reduce" }] }),
    );
    page.wait("getComputedStyle(document.querySelector('#arcs path')).transitionDuration === '0s'");
    by_keyboard(&mut page);
    let elsewhere =
        "performance.getEntriesByType('resource').filter((one) => !one.name.startsWith(location.origin)).length";
    assert_eq!(page.evaluate(elsewhere), 0, "it asks its own server alone");
    assert_eq!(page.complaints, Vec::<String>::new());
}

/// Whatever can be used is reached in its order, and one sees where one is.
fn by_keyboard(page: &mut Browser) {
    page.dress(1200, 800, "light");
    // A table that has the focus stands still, so that this list holds while it is walked through.
    let wanted = page.evaluate(
        "[...document.querySelectorAll('a[href], input, select, button, [tabindex]')].filter((one) => one.checkVisibility()).length",
    );
    let wanted = wanted.as_u64().unwrap();
    assert!(wanted > 20, "{wanted}");
    page.evaluate("window.walked = []; document.activeElement.blur(); scrollTo(0, 0)");
    for step in 0..wanted {
        page.press("Tab", 9);
        let seen = page.evaluate(
            "(() => { const [one, all] = [document.activeElement, window.walked]; \
             const later = !all.length || Boolean(all.at(-1).compareDocumentPosition(one) & Node.DOCUMENT_POSITION_FOLLOWING); all.push(one); \
             return [later, getComputedStyle(one).outlineStyle !== 'none', one.outerHTML.slice(0, 80)]; })()",
        );
        assert_eq!((&seen[0], &seen[1]), (&json!(true), &json!(true)), "step {step}: {seen}");
    }
    page.evaluate("document.querySelector('#urls tbody button').focus()");
    page.press("Enter", 13);
    page.wait("document.activeElement === document.querySelector('#ask-http').elements.url");
    page.wait("document.querySelector('#purge').elements.url.value.startsWith('http://www.example.com/')");
}

/// Shapes that mean something and stand out from their ground by less than 3 to 1 (WCAG 2.2, 1.4.11).
const FAINT_SHAPES: &str = r"(() => {
  const light = (color) => {
    const [r, g, b] = color.match(/[\d.]+/g).map(Number).map((part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const root = getComputedStyle(document.querySelector('section')).backgroundColor;
  const sea = getComputedStyle(document.querySelector('#map')).backgroundColor;
  const shapes = [['#hour .hit', root], ['#hour .rest', root], ['#pops .up', sea], ['#pops .unknown', sea]];
  return shapes.filter(([selector, ground]) => {
    const shape = document.querySelector(selector);
    if (!shape) return false;
    const pair = [light(getComputedStyle(shape).fill), light(ground)].sort((a, b) => b - a);
    return (pair[0] + 0.05) / (pair[1] + 0.05) < 3;
  }).map(([selector]) => selector);
})()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_document_has_no_map_and_shows_others_when_told_of_them() {
    if !installed("chromium") {
        return;
    }
    let origin = ScriptedOrigin::answering(|_| Reply::ok("x")).await;
    let other = telling(&json!({ "node": "other", "tier": "shield", "time_ms": 0 }));
    let edge = crate::fleet::quick_edge(&origin, &["--page-node", &other.to_string()]).await;
    let line = edge.process.wait_for_line("the admin API listens").await;
    assert!(line.contains(&format!("page=http://{}/", edge.admin)) && line.contains("others=1"), "{line}");
    let profile = tempfile::tempdir().unwrap();
    let mut page = Browser::open(profile.path(), &format!("http://{}/", edge.admin));
    page.wait(&format!("{}?.includes('up')", row("other")));
    page.wait("document.querySelectorAll('#nodes tbody tr').length === 2");
    assert_eq!(page.evaluate("document.querySelector('.map').checkVisibility()"), false);
    // Of itself it asks itself.
    fill(&mut page, "#ask-http", &[("url", "http://a.example/"), ("node", "")]);
    page.wait("document.querySelector('#answer').innerText.includes('nothing is stored')");
    a_hidden_tab_lets_go(&mut page, edge.admin).await;
    assert_eq!(page.complaints, Vec::<String>::new());
}

/// A browser opens few streams to one server, and a page that nobody sees wants none.
async fn a_hidden_tab_lets_go(page: &mut Browser, admin: SocketAddr) {
    let viewers = async || {
        let text = client::get(admin, "a", "/metrics").await.text();
        let line = text.lines().find(|line| line.starts_with("perigee_page_viewers{")).map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).unwrap()
    };
    assert_eq!(viewers().await, 1);
    let hide = "Object.defineProperty(document, 'hidden', { value: true, configurable: true }); document.dispatchEvent(new Event('visibilitychange'))";
    page.evaluate(hide);
    let began = std::time::Instant::now();
    while viewers().await > 0 {
        assert!(began.elapsed() < perigee_testkit::PATIENCE, "a hidden page keeps its stream");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    page.evaluate("document.querySelector('#link').textContent = 'hidden'");
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))");
    page.wait("document.querySelector('#link').textContent === 'live'");
    assert_eq!(viewers().await, 1);
}
