//! What is measured: the paths that were named or found, each fetched from the origin once and looked at.

use std::{
    collections::{BTreeSet, VecDeque},
    io::{Read as _, stdin},
    net::IpAddr,
    path::Path,
};

use anyhow::{Context, anyhow, ensure};
use flate2::read::GzDecoder;
use http::{HeaderMap, Uri, header};
use perigee_upstream::{Resolve as _, SystemResolver};
use reqwest::Url;
use serde::Serialize;

use super::{
    args::MeasureArgs,
    crawl::{Own, links},
    fetch::{Client, Fetched, Keep, Line, usable, was_closed},
    target::Target,
};

/// Of a page, unpacked, that is looked through for links.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// Paths that a crawl knows of; what is found beyond them is nobody's but a trap's.
const KNOWN_MAX: usize = 10_000;
/// Fetches that may fail before it is enough.
const FAILED_MAX: usize = 20;
/// Of a file of paths.
const PATHS_BYTES_MAX: u64 = 1 << 20;

/// Of a line that is no path.
const LINE_CHARS_TOLD: usize = 120;

/// Something to fetch.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Asset {
    /// With its query.
    pub(super) path: String,
    pub(super) status: u16,
    /// Of the content, as the origin sent it.
    pub(super) bytes: u64,
    #[serde(skip)]
    pub(super) headers: HeaderMap,
}

/// The assets, and what was left out with the reason.
pub(super) struct Inventory {
    pub(super) assets: Vec<Asset>,
    /// The origin's addresses; the first is the one that took connections.
    pub(super) origin: Vec<IpAddr>,
    pub(super) left_out: Vec<String>,
}

/// The addresses of the origin.
pub(super) async fn resolve(target: &Target) -> anyhow::Result<Vec<IpAddr>> {
    if let Ok(address) = target.host.parse() {
        return Ok(vec![address]);
    }
    Ok(SystemResolver::from_system()?.resolve(&target.host.to_ascii_lowercase()).await?)
}

/// Fetches everything once, straight from the origin, from this machine's own address.
pub(super) async fn take(
    args: &MeasureArgs,
    client: &Client,
    (direct, cdn): (&Target, &Target),
    addresses: Vec<IpAddr>,
) -> anyhow::Result<Inventory> {
    let mut waiting: VecDeque<String> = match &args.paths {
        Some(file) => listed(file)?.into(),
        None => [direct.path.clone()].into(),
    };
    let own = Own { hosts: [direct, cdn].map(|target| target.tls_name().to_owned()).into() };
    let mut seen: BTreeSet<String> = waiting.iter().cloned().collect();
    let mut inventory = Inventory { assets: Vec::new(), origin: addresses, left_out: Vec::new() };
    let (mut line, mut first_failure) = (None, None);
    while let Some(path) = waiting.pop_front() {
        if inventory.assets.len() == usize::from(args.assets_max) {
            let more = waiting.len() + 1;
            inventory.left_out.push(format!("{more} more found; --assets-max is {}", args.assets_max));
            break;
        }
        if inventory.left_out.len() == FAILED_MAX {
            let more = waiting.len() + 1;
            inventory.left_out.push(format!("{more} more, after {FAILED_MAX} that failed"));
            break;
        }
        super::paint(&format!("{} assets of {} looked at", inventory.assets.len(), seen.len()));
        let fetched = match fetch(client, &mut line, direct, &mut inventory.origin, &path, args.crawl).await {
            Ok(fetched) => fetched,
            Err(error) => {
                inventory.left_out.push(perigee_node::report::line(error.as_ref()));
                first_failure.get_or_insert(error);
                continue;
            }
        };
        if args.crawl {
            for path in found(direct, &own, &path, &fetched) {
                if seen.len() < KNOWN_MAX && seen.insert(path.clone()) {
                    waiting.push_back(path);
                }
            }
        }
        let Fetched { status, bytes, headers, .. } = fetched;
        inventory.assets.push(Asset { path, status, bytes, headers });
    }
    if inventory.assets.is_empty() {
        return Err(first_failure.unwrap_or_else(|| anyhow!("there is no path to fetch")));
    }
    Ok(inventory)
}

async fn fetch(
    client: &Client,
    line: &mut Option<Line>,
    target: &Target,
    addresses: &mut [IpAddr],
    path: &str,
    is_crawl: bool,
) -> anyhow::Result<Fetched> {
    let keep = Keep { bytes_max: if is_crawl { PAGE_BYTES_MAX } else { 0 } };
    loop {
        let mut open = match usable(line.take()).await {
            Some(open) => open,
            None => {
                let (open, address) = client.open_any(target, addresses, None).await?;
                // What took a connection is asked first from now on.
                addresses.sort_by_key(|other| *other != address);
                open
            }
        };
        let was_used = open.is_used();
        match open.get(target, path, keep).await {
            Ok(fetched) => {
                *line = Some(open);
                return Ok(fetched);
            }
            Err(error) if was_used && was_closed(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The paths of a file; empty lines and those that begin with # are left out.
fn listed(file: &Path) -> anyhow::Result<Vec<String>> {
    let mut text = String::new();
    let reader: Box<dyn std::io::Read> = if file == Path::new("-") {
        Box::new(stdin())
    } else {
        Box::new(std::fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?)
    };
    let read = reader.take(PATHS_BYTES_MAX + 1).read_to_string(&mut text);
    read.with_context(|| format!("cannot read {}", file.display()))?;
    ensure!(text.len() as u64 <= PATHS_BYTES_MAX, "{} is larger than {PATHS_BYTES_MAX} bytes", file.display());
    paths(&text).with_context(|| format!("{}", file.display()))
}

fn paths(text: &str) -> anyhow::Result<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    // Some editors begin a file with a mark of its byte order.
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let is_path = line.starts_with('/') && line.parse::<Uri>().is_ok();
        let told: String = line.chars().take(LINE_CHARS_TOLD).collect();
        ensure!(is_path, "line {}: {told:?} is no path; it takes /a/b?c, without a host", index + 1);
        let path = coded(line.split('#').next().unwrap_or_default());
        if seen.insert(path.clone()) {
            all.push(path);
        }
    }
    ensure!(!all.is_empty(), "there is no path in it");
    Ok(all)
}

/// As it goes over the line (RFC 3986 §2.1).
fn coded(path: &str) -> String {
    let byte = |byte: u8| if byte.is_ascii() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    path.bytes().map(byte).collect()
}

fn found(target: &Target, own: &Own, path: &str, fetched: &Fetched) -> Vec<String> {
    let Ok(base) = Url::parse(&target.url(path)) else { return Vec::new() };
    let field = |name| fetched.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if let Some(location) = fetched.headers.get(header::LOCATION).and_then(|location| location.to_str().ok()) {
        let target = base.join(location).ok().filter(|url| own.has(&base, url));
        return target.iter().map(super::target::path_of).collect();
    }
    let kind = field(header::CONTENT_TYPE).to_ascii_lowercase();
    if !["text/html", "application/xhtml+xml"].iter().any(|html| kind.starts_with(html)) {
        return Vec::new();
    }
    let html = if field(header::CONTENT_ENCODING).eq_ignore_ascii_case("gzip") {
        let mut plain = Vec::new();
        // A page that does not unpack, or not to its end, has the links that it has.
        GzDecoder::new(&*fetched.kept).take(PAGE_BYTES_MAX as u64).read_to_end(&mut plain).unwrap_or_default();
        plain
    } else {
        fetched.kept.clone()
    };
    links(&base, own, &String::from_utf8_lossy(&html))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_paths() {
        let check = |text: &str, expected: Result<&[&str], &str>| match (paths(text), expected) {
            (Ok(paths), Ok(expected)) => assert_eq!(paths, expected),
            (Err(error), Err(expected)) => assert!(format!("{error:#}").contains(expected), "{error:#}"),
            (other, expected) => panic!("{text:?}: {other:?}, not {expected:?}"),
        };
        check("/\n# no\n\n /a?b=1 \n/\n", Ok(&["/", "/a?b=1"]));
        check("\u{feff}/\r\n/b\r\n# no\r\n/ä#part\r\n/%C3%A4\r\n", Ok(&["/", "/b", "/%C3%A4"]));
        check("//a/b\n/", Ok(&["//a/b", "/"]));
        check("/a\u{7}", Err("line 1"));
        check(&"x".repeat(9_000), Err(&format!("line 1: \"{}\" is no path", "x".repeat(LINE_CHARS_TOLD))));
        check("/\nhttp://x.example/", Err("line 2"));
        check("/a b", Err("line 1"));
        check("# only this", Err("no path"));
    }
}
