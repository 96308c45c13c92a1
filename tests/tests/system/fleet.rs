//! An origin, a shield and edges, as processes on loopback.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use perigee_testkit::{ProcessUnderTest, ScriptedOrigin, free_port};
use tempfile::TempDir;

pub(crate) const SITE: &str = "www.cdn.example";

/// A node and where it is.
pub(crate) struct Node {
    pub(crate) process: ProcessUnderTest,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Node {
    pub(crate) async fn start(binary: &str, address: SocketAddr, arguments: &[&str]) -> Self {
        let admin = loopback(free_port());
        let mut all = vec!["--listen".to_owned(), address.to_string(), "--admin".to_owned(), admin.to_string()];
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let mut process = ProcessUnderTest::start(binary, all);
        process.wait_ready(admin).await;
        Self { process, address, admin }
    }

    /// An edge without a document, before any origin.
    pub(crate) async fn before(url: &str, arguments: &[&str]) -> Self {
        let mut all = vec!["--origin", url];
        all.extend(arguments);
        Self::start("perigee-edge", loopback(free_port()), &all).await
    }
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// An edge without a document.
pub(crate) async fn quick_edge(origin: &ScriptedOrigin, arguments: &[&str]) -> Node {
    Node::before(&origin.url(), arguments).await
}

/// One shield and two edges, in two PoPs, over one origin.
pub(crate) struct Fleet {
    pub(crate) edges: Vec<Node>,
    pub(crate) shield: Node,
    pub(crate) document: PathBuf,
    _folder: TempDir,
}

impl Fleet {
    pub(crate) async fn start(origin: &ScriptedOrigin, arguments: &[&str]) -> Self {
        Self::over(&origin.url(), arguments, "").await
    }

    /// Over any origin, with these lines at the document's end.
    pub(crate) async fn over(origin: &str, arguments: &[&str], more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shield_address = loopback(free_port());
        let document = folder.path().join("cdn.toml");
        std::fs::write(&document, text(origin, shield_address, more)).unwrap();
        std::fs::write(folder.path().join("fleet.secret"), "a secret of the tests alone\n").unwrap();
        let file = document.to_str().unwrap();
        // `FOLDER` in an argument becomes a folder of the node's own.
        let with = |own: [&'static str; 2]| {
            let place = folder.path().join(own[1]);
            let mut all = vec!["--document".to_owned(), file.to_owned()];
            let given = own.into_iter().chain(arguments.iter().copied());
            all.extend(given.map(|argument| argument.replace("FOLDER", place.to_str().unwrap())));
            all
        };
        let shield = start("perigee-shield", shield_address, with(["--shield", "shield-eu"])).await;
        let mut edges = Vec::new();
        for pop in ["fra", "syd"] {
            edges.push(start("perigee-edge", loopback(free_port()), with(["--pop", pop])).await);
        }
        Self { edges, shield, document, _folder: folder }
    }

    /// Writes the document anew, with these lines at its end.
    pub(crate) fn rewrite(&self, origin: &ScriptedOrigin, more: &str) {
        replace(&self.document, &text(&origin.url(), self.shield.address, more));
    }
}

async fn start(binary: &str, address: SocketAddr, arguments: Vec<String>) -> Node {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Node::start(binary, address, &arguments).await
}

/// As editors and deployments do: a new file under a passing name, renamed over the old one.
pub(crate) fn replace(path: &Path, text: &str) {
    let passing = path.with_extension("new");
    std::fs::write(&passing, text).unwrap();
    std::fs::rename(passing, path).unwrap();
}

/// The fleet's document; `more` continues the site.
pub(crate) fn text(origin: &str, shield: SocketAddr, more: &str) -> String {
    format!(
        r#"version = 1

[cdn]
name = "test"
zone = "cdn.example"
secret_file = "fleet.secret"

[[pop]]
id = "fra"
latitude = 50.11
longitude = 8.68
addresses = ["127.49.0.80"]

[[pop]]
id = "syd"
latitude = -33.87
longitude = 151.21
addresses = ["127.61.0.80"]

[[shield]]
id = "shield-eu"
url = "http://{shield}"
pops = ["fra"]

[[site]]
id = "www"
hosts = ["www.example.com"]
origins = [{{ url = "{origin}" }}]
{more}
"#
    )
}
