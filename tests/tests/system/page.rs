//! The page of `perigee demo` in a browser: figures arrive, questions are answered, purges need the token, in light, dark
//! and on a phone. With PERIGEE_SCREENSHOTS=FOLDER it leaves its pictures there.

mod browser;
mod processes;

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::Command,
    thread,
    time::Duration,
};

use perigee_testkit::{PATIENCE, ProcessUnderTest, client, free_ports};
use perigee_tests::installed;
use serde_json::Value;

use self::browser::Browser;

const HOST: &str = "www.cdn.example";

fn demo(first: u16) -> (ProcessUnderTest, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = vec!["demo".to_owned(), "--folder".to_owned(), folder.path().display().to_string()];
    let flags = ["--edge-port", "--shield-port", "--origin-port", "--dns-port", "--admin-port", "--page-port"];
    for (flag, port) in flags.iter().zip(first..) {
        arguments.extend([(*flag).to_owned(), port.to_string()]);
    }
    (ProcessUnderTest::start("perigee", arguments), folder)
}

fn edge(code: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([127, code, 0, 80], port))
}

/// Clients of these countries ask for the site's address, by telephone code.
fn ask_names(codes: &[u8], port: u16) {
    let question = b"\0\x07\0\0\0\x01\0\0\0\0\0\0\x03www\x03cdn\x07example\0\0\x01\0\x01";
    for code in codes {
        let socket = UdpSocket::bind((Ipv4Addr::new(127, *code, 0, 1), 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(question, (Ipv4Addr::new(127, 0, 0, 53), port)).unwrap();
        let mut answer = [0; 512];
        socket.recv_from(&mut answer).unwrap();
    }
}

async fn traffic(edge_port: u16) {
    for (code, paths) in
        [(49, &["/", "/cities/fra", "/nothing-here", "/?secret=hidden"][..]), (81, &["/", "/uncacheable"]), (1, &["/"])]
    {
        for path in paths {
            for _ in 0..4 {
                client::get(edge(code, edge_port), HOST, path).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_lives_in_a_browser() {
    if !installed("chromium") {
        return;
    }
    let first = free_ports(6);
    let (process, _folder) = demo(first);
    process.wait_for_line("ready: 8 edges").await;
    let profile = tempfile::tempdir().unwrap();
    let mut page = Browser::open(profile.path(), &format!("http://127.0.0.1:{}/", first + 5));
    page.wait("document.querySelector('#link')?.textContent === 'live'");
    traffic(first).await;
    figures(&mut page, first + 3);
    questions(&mut page);
    purges(&mut page, edge(49, first)).await;
    looks(&mut page);
    an_edge_that_ends(&mut page, first).await;
    pages_of_single_nodes(&mut page, first);
    assert_eq!(page.complaints, Vec::<String>::new());
    drop(process);
    page.wait("document.querySelector('#link').className === 'lost'");
}

/// It stays on the page, as what it is.
async fn an_edge_that_ends(page: &mut Browser, first: u16) {
    let token = [("Authorization", "Bearer demo")];
    let mut admin = client::Connection::open(edge(81, first + 4)).await;
    assert_eq!(admin.send(http::Method::POST, "a", "/v1/drain", &token).await.status, 202);
    page.wait("document.querySelectorAll('#pops circle.down').length === 1");
    page.wait("document.querySelector('#map-told').innerText.includes('tyo down')");
    page.wait("document.querySelector('#nodes tbody').innerText.includes('ended')");
}

/// A node by itself knows its own figures and the document.
fn pages_of_single_nodes(page: &mut Browser, first: u16) {
    let mut check = |address: &str, states: &str, form: &str, other: &str| {
        page.go(&format!("http://{address}:{}/", first + 4));
        page.wait("document.querySelectorAll('#nodes tbody tr').length === 1");
        page.wait(&format!("document.querySelectorAll('#pops circle{states}').length === 7"));
        page.wait(&format!(
            "document.querySelector('{form}').checkVisibility() && !document.querySelector('{other}').checkVisibility()"
        ));
    };
    check("127.49.0.80", ".unknown", "#ask-http", "#ask-dns");
    check("127.0.0.53", ".up", "#ask-dns", "#ask-http");
    fill(page, "#ask-dns", &[("name", HOST), ("client", "127.49.0.1")]);
    page.wait("document.querySelector('#answer').innerText.includes('fra')");
}

fn figures(page: &mut Browser, dns: u16) {
    page.wait("document.querySelector('#land').getAttribute('d').length > 10000");
    page.wait("document.querySelectorAll('#pops circle').length === 8");
    // Again and again, since what was asked once is gone after a minute.
    while page.evaluate("document.querySelectorAll('#arcs path').length < 20") == true {
        let codes =
            [1, 7, 20, 27, 30, 34, 39, 44, 46, 49, 51, 52, 54, 55, 56, 57, 61, 62, 64, 66, 81, 82, 86, 90, 91, 92, 98];
        ask_names(&codes, dns);
        ask_names(&[20, 20, 52, 91, 91, 91, 64, 54, 54], dns);
        thread::sleep(Duration::from_millis(500));
    }
    page.wait("document.querySelectorAll('#pops circle.up').length === 8");
    page.wait("document.querySelectorAll('#nodes tbody tr').length === 13");
    let urls = "document.querySelector('#urls tbody').innerText";
    page.wait(&format!("{urls}.includes('www.cdn.example/uncacheable')"));
    page.wait(&format!("{urls}.includes('miss (') && {urls}.includes('hit (')"));
    assert_eq!(page.evaluate(&format!("{urls}.includes('hidden')")), false, "queries are nobody's to read");
    page.wait("document.querySelector('#figures').innerText.includes('hits, hour')");
    page.wait("document.querySelectorAll('#hour rect').length > 0");
    page.wait("document.querySelector('#upstreams').innerText.includes('shield-east')");
}

fn fill(page: &mut Browser, form: &str, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        page.evaluate(&format!("document.querySelector('{form}').elements['{name}'].value = '{value}'"));
    }
    page.evaluate(&format!("document.querySelector('{form}').requestSubmit()"));
}

fn questions(page: &mut Browser) {
    fill(page, "#ask-dns", &[("name", HOST), ("client", "127.81.0.1"), ("node", "ns2")]);
    page.wait("document.querySelector('#answer').innerText.includes('tyo')");
    fill(page, "#ask-http", &[("url", &format!("http://{HOST}/")), ("node", "fra")]);
    page.wait("document.querySelector('#answer').innerText.includes('site www')");
    fill(page, "#ask-http", &[("url", "ftp://a/")]);
    page.wait("document.querySelector('#answer').innerText.includes('must begin with http')");
}

async fn purges(page: &mut Browser, frankfurt: SocketAddr) {
    let status = async || client::get(frankfurt, HOST, "/").await.header("cache-status").to_owned();
    assert!(status().await.contains("hit"), "it was fetched before");
    let url = format!("http://{HOST}/");
    fill(page, "#purge", &[("url", &url), ("token", "wrong")]);
    page.wait("document.querySelector('#purged').innerText.split('\\n').length === 10");
    assert_eq!(page.evaluate("document.querySelector('#purged').innerText.includes('purged, number')"), false);
    fill(page, "#purge", &[("url", &url), ("token", "demo")]);
    page.wait("document.querySelector('#purged').innerText.split('purged, number').length === 11");
    page.wait("/hard at (10 nodes|fra)/.test(document.querySelector('#purges').innerText)");
    let after = status().await;
    assert!(after.contains("fwd="), "purged, and yet {after}");
    // The wrong token's refusals are no fault of the page's.
    page.complaints.retain(|complaint| !complaint.contains("responded with a status of 40"));
    page.evaluate("document.querySelector('#purge').reset()");
}

/// No look needs scrolling sideways, and text stands out from its ground by at least 4.5 to 1 (WCAG 2.2, 1.4.3).
fn looks(page: &mut Browser) {
    for (name, width, height, scheme) in
        [("light", 1200, 1000, "light"), ("dark", 1200, 1000, "dark"), ("phone", 390, 844, "light")]
    {
        page.dress(width, height, scheme);
        // The dark one shows what the light one leaves out.
        let top = if name == "dark" { "#nodes-title" } else { "header" };
        page.evaluate(&format!(
            "scrollTo(0, document.querySelector('{top}').getBoundingClientRect().top + scrollY - 24)"
        ));
        // A phone's window grows with what is too wide for it.
        let fits = page.evaluate(&format!("document.documentElement.scrollWidth <= {width}"));
        assert_eq!(fits, true, "{name} is wider than its window");
        let faint = page.evaluate(FAINT);
        assert_eq!(faint, Value::Array(Vec::new()), "{name}: text that hardly stands out");
        let picture = page.picture();
        assert!(picture.len() > 10_000, "{name} shows nothing");
        if let Some(folder) = std::env::var_os("PERIGEE_SCREENSHOTS") {
            let path = std::path::Path::new(&folder).join(format!("{name}.png"));
            let decoded = Command::new("base64").arg("-d").stdin(into_file(&picture)).output().unwrap();
            std::fs::write(path, decoded.stdout).unwrap();
        }
    }
    let unnamed = "[...document.querySelectorAll('input, select, button')].filter((it) => !(it.labels?.length || it.innerText)).length";
    assert_eq!(page.evaluate(unnamed), 0, "every control has a name");
}

fn into_file(text: &str) -> std::process::Stdio {
    use std::io::{Seek, Write};
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file.into()
}

/// Texts with less contrast than 4.5 to their nearest painted ground.
const FAINT: &str = r"(() => {
  const parts = (color) => (color.match(/[\d.]+/g) ?? []).map(Number);
  const light = (color) => {
    const [r, g, b] = parts(color).map((part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const color = getComputedStyle(element).backgroundColor;
      const [, , , alpha = 1] = parts(color);
      if (alpha > 0) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  return [...document.querySelectorAll('body *')]
    .filter((element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()) && element.getClientRects().length && !element.closest('svg'))
    .filter((element) => {
      const pair = [light(getComputedStyle(element).color), light(ground(element))].sort((a, b) => b - a);
      return (pair[0] + 0.05) / (pair[1] + 0.05) < 4.5;
    })
    .map((element) => element.outerHTML.slice(0, 120));
})()";
