//! The demo's site: pages, a style sheet, a script and pictures, all made at start from a seed, with validators.

use std::{collections::BTreeMap, fmt::Write as _};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::{generated::Noise, picture};
use crate::cities::{CITIES, City};

/// Bytes of `/files/64MiB.bin`.
pub(crate) const FILE_BYTES: u64 = 64 << 20;
/// The seed that the published hashes belong to.
pub(crate) const SEED: u64 = 1;
/// SHA-256 of `/files/64MiB.bin` under [`SEED`].
const FILE_SHA256: &str = "b600ed40c28224f7209414c6b7cf8248dc9e61dcd54de14e9b7b3e689e2bce5c";
/// Widths of each city's pictures, in pixels.
const WIDTHS: [u32; 2] = [160, 640];

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const SVG: &str = "image/svg+xml";
const MINUTE: &str = "public, max-age=60, stale-while-revalidate=30";
const HOUR: &str = "public, max-age=3600";

/// What is served whole from memory.
#[derive(Clone, Debug)]
pub(crate) struct Asset {
    pub(crate) body: Bytes,
    pub(crate) content_type: &'static str,
    pub(crate) cache_control: &'static str,
    /// Strong, quotes included.
    pub(crate) etag: String,
}

impl Asset {
    fn new(body: impl Into<Bytes>, content_type: &'static str, cache_control: &'static str) -> Self {
        let body = body.into();
        let etag = format!("\"{:032x}\"", xxh3_128(&body));
        Self { body, content_type, cache_control, etag }
    }
}

/// Everything that does not change while the origin runs.
#[derive(Debug)]
pub(crate) struct Site {
    assets: BTreeMap<String, Asset>,
    pub(crate) not_found: Asset,
    pub(crate) noise: Noise,
}

impl Site {
    pub(crate) fn new(seed: u64) -> Self {
        let mut assets = BTreeMap::new();
        let mut add = |path: &str, asset: Asset| assets.insert(path.to_owned(), asset);
        add("/", Asset::new(front(), HTML, MINUTE));
        add("/lab.html", Asset::new(page("Laboratory", include_str!("assets/lab.html")), HTML, MINUTE));
        add("/files/", Asset::new(page("Files", &files()), HTML, MINUTE));
        add("/style.css", Asset::new(include_str!("assets/style.css"), "text/css; charset=utf-8", HOUR));
        add("/app.js", Asset::new(include_str!("assets/app.js"), "text/javascript; charset=utf-8", HOUR));
        add("/robots.txt", Asset::new("User-agent: *\nAllow: /\n", TEXT, HOUR));
        add("/favicon.svg", Asset::new(picture::MARK, SVG, HOUR));
        add("/pictures/map.svg", Asset::new(picture::map(), SVG, HOUR));
        for (index, city) in CITIES.iter().enumerate() {
            add(&format!("/cities/{}.html", city.id), Asset::new(city_page(city, index), HTML, MINUTE));
            for width in WIDTHS {
                let path = format!("/pictures/{}-{width}.png", city.id);
                add(&path, Asset::new(picture::skyline(city, seed, width), "image/png", HOUR));
            }
        }
        if seed == SEED {
            add("/files/SHA256SUMS", Asset::new(format!("{FILE_SHA256}  64MiB.bin\n"), TEXT, HOUR));
        }
        let not_found = Asset::new(
            page("Not here", "<p>There is nothing at this address. <a href=\"/\">Back to the cities</a>.</p>\n"),
            HTML,
            MINUTE,
        );
        Self { assets, not_found, noise: Noise::new(seed) }
    }

    pub(crate) fn asset(&self, path: &str) -> Option<&Asset> {
        self.assets.get(if path == "/index.html" { "/" } else { path })
    }
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title} · Postcards from eight edges</title>\n\
         <link rel=\"icon\" href=\"/favicon.svg\">\n<link rel=\"stylesheet\" href=\"/style.css\">\n</head>\n<body>\n\
         <header><img src=\"/favicon.svg\" alt=\"\"><a href=\"/\">Postcards from eight edges</a></header>\n\
         <main>\n<h1>{title}</h1>\n{body}</main>\n\
         <footer><a href=\"/lab.html\">Laboratory</a> · <a href=\"/files/\">Files</a> · the demo site of a Perigee CDN</footer>\n\
         <script src=\"/app.js\" defer></script>\n</body>\n</html>\n"
    )
}

fn front() -> String {
    let mut body = String::from(
        "<p>Eight cities on six continents, one origin. Wherever you ask from, the nearest edge answers.</p>\n\
         <img class=\"wide\" src=\"/pictures/map.svg\" alt=\"A map of the eight cities\">\n<ul class=\"cities\">\n",
    );
    for City { id, name, note, .. } in &CITIES {
        writeln!(
            body,
            "<li><a href=\"/cities/{id}.html\"><img src=\"/pictures/{id}-160.png\" alt=\"The skyline of {name}\"></a>\
             <p><a href=\"/cities/{id}.html\">{name}</a><br>{note}</p></li>"
        )
        .unwrap_or_default();
    }
    body.push_str("</ul>\n<h2>How this page reached you</h2>\n<table id=\"journey\"></table>\n");
    page("Eight cities", &body)
}

fn city_page(city: &City, index: usize) -> String {
    let next = CITIES.iter().cycle().nth(index + 1).unwrap_or(city);
    let City { id, name, country_name, code, latitude, longitude, note, .. } = city;
    let body = format!(
        "<p>{note}</p>\n<img class=\"wide\" src=\"/pictures/{id}-640.png\" alt=\"The skyline of {name}\">\n\
         <table>\n<tr><th>Country</th><td>{country_name}</td></tr>\n\
         <tr><th>Place</th><td>{latitude}, {longitude}</td></tr>\n\
         <tr><th>Clients of this edge in the demo</th><td><code>127.{code}.0.0/16</code></td></tr>\n</table>\n\
         <p>Next: <a href=\"/cities/{}.html\">{}</a></p>\n\
         <h2>How this page reached you</h2>\n<table id=\"journey\"></table>\n",
        next.id, next.name
    );
    page(name, &body)
}

fn files() -> String {
    "<ul>\n<li><a href=\"/files/64MiB.bin\">64MiB.bin</a>: noise, the same on every machine; ask for ranges of it</li>\n\
     <li><a href=\"/files/SHA256SUMS\">SHA256SUMS</a></li>\n</ul>\n\
     <p><code>/big/SIZE</code> is a file of any size, for example <code>/big/1GiB</code>.</p>\n"
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_published_hash_is_the_files() {
        let mut hash = Sha256::new();
        for piece in Noise::new(SEED).read(FILE_BYTES, 0, FILE_BYTES) {
            hash.update(&piece);
        }
        let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, FILE_SHA256);
    }

    #[test]
    fn a_site_is_made_the_same_every_time() {
        let (one, two) = (Site::new(SEED), Site::new(SEED));
        let etags = |site: &Site| site.assets.values().map(|asset| asset.etag.clone()).collect::<Vec<_>>();
        assert_eq!(etags(&one), etags(&two));
    }

    #[test]
    fn links_lead_somewhere_and_everything_is_linked() {
        let site = Site::new(SEED);
        // What the laboratory links to is answered by rules, not from memory.
        let made = ["/files/64MiB.bin", "/slow", "/uncacheable", "/fresh-1s", "/vary", "/cookie", "/big/1MiB"];
        let mut linked = BTreeSet::from(["/".to_owned(), "/robots.txt".to_owned()]);
        for asset in site.assets.values().filter(|asset| asset.content_type == HTML) {
            let text = std::str::from_utf8(&asset.body).unwrap();
            for attribute in ["href=\"", "src=\""] {
                linked
                    .extend(text.split(attribute).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned));
            }
        }
        for path in &linked {
            assert!(made.contains(&path.as_str()) || site.asset(path).is_some(), "{path} leads nowhere");
        }
        for path in site.assets.keys().map(String::as_str).chain(made) {
            assert!(linked.contains(path), "{path} is linked from no page");
        }
    }
}
