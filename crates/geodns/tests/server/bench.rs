//! One nameserver on loopback, edges that can be switched off, and clients at addresses of one's choice.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use hickory_proto::{op::Message, rr::RData};
use perigee_geo::build;
use perigee_geodns::{DocumentSource, Options, Running, start};
use perigee_node::{
    flags::AccessLogTarget,
    runtimes::{RunningRuntimes, Runtimes},
};
use perigee_testkit::patiently;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
};

/// Germany and Australia by telephone code.
pub(crate) const WORLD: &str = "\
prefix,country,city,lat,lon,asn
127.49.0.0/16,DE,Berlin,52.52,13.40,
127.61.0.0/16,AU,Canberra,-35.28,149.13,
";
/// The other way round.
pub(crate) const SWAPPED_WORLD: &str = "\
prefix,country,city,lat,lon,asn
127.61.0.0/16,DE,Berlin,52.52,13.40,
127.49.0.0/16,AU,Canberra,-35.28,149.13,
";
pub(crate) const GERMANY: &str = "127.49.0.1";
pub(crate) const AUSTRALIA: &str = "127.61.0.1";
pub(crate) const FRA: &str = "127.49.0.80";
pub(crate) const SYD: &str = "127.61.0.80";

pub(crate) const A: u16 = 1;
pub(crate) const TXT: u16 = 16;

/// A document whose edges nobody has probed before the test is over.
pub(crate) fn unprobed() -> String {
    document(1, 100).replace("\"500ms\"", "\"1h\"")
}

/// A document whose edges are probed on `port`, and down after `fall` failures. A probe has half a second, which no living edge
/// takes twice running, whatever else the machine does.
pub(crate) fn document(port: u16, fall: u32) -> String {
    let pop = |id: &str, country: &str, latitude: f64, longitude: f64, address: &str| {
        format!(
            "[[pop]]\nid = \"{id}\"\ncity = \"{id}\"\ncountry = \"{country}\"\nlatitude = {latitude}\nlongitude = {longitude}\n\
             addresses = [\"{address}\"]\n\
             health = {{ path = \"/.perigee/healthz\", port = {port}, interval = \"500ms\", timeout = \"450ms\", rise = 1, fall = {fall} }}\n"
        )
    };
    format!(
        "version = 1\n[cdn]\nname = \"test\"\nzone = \"cdn.example\"\n\
         nameservers = [{{ host = \"ns1.cdn.example\", addresses = [\"127.0.0.53\"] }}]\nttl = \"30s\"\n\
         [geo]\ndatabase = \"world.mmdb\"\n[geo.steering]\nanswers = 1\n{}{}\
         [[site]]\nid = \"www\"\norigins = [{{ url = \"http://127.0.0.1:1\" }}]\n",
        pop("fra", "DE", 50.11, 8.68, FRA),
        pop("syd", "AU", -33.87, 151.21, SYD),
    )
}

pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) runtimes: RunningRuntimes,
    pub(crate) running: Running,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::start_with(&unprobed()).await
    }

    pub(crate) async fn start_with(document: &str) -> Self {
        Self::start_told(document, |_| {}).await
    }

    pub(crate) async fn start_told(document: &str, tell: impl FnOnce(&mut Options)) -> Self {
        let folder = folder(document, WORLD);
        let runtimes = Runtimes::start(2).unwrap();
        let mut options = options(&folder);
        tell(&mut options);
        let running = start(options, runtimes.handles()).await.unwrap();
        Self { folder, runtimes, running }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces a file of the folder as operators must: by renaming another over it.
    pub(crate) fn replace(&self, name: &str, content: impl AsRef<[u8]>) {
        let next = self.path("next");
        std::fs::write(&next, content).unwrap();
        std::fs::rename(&next, self.path(name)).unwrap();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.listen_addrs()[0]
    }

    /// The first address that a client gets for `www`.
    pub(crate) async fn www(&self, client: &str) -> IpAddr {
        let reply = Client::at(client).await.ask(self.address(), &query(1, "www.cdn.example", A)).await;
        addresses(&reply)[0]
    }

    /// Waits until a client gets that address for `www`.
    pub(crate) async fn www_becomes(&self, client: &str, expected: &str) {
        let expected: IpAddr = expected.parse().unwrap();
        patiently("another answer", async {
            while self.www(client).await != expected {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    pub(crate) async fn isolated_becomes(&self, expected: bool) {
        self.admin_becomes("/v1/status", &format!("\"isolated\":{expected}")).await;
    }

    /// Waits until an answer of the admin API says so.
    pub(crate) async fn admin_becomes(&self, path: &str, said: &str) {
        patiently(said, async {
            while !self.admin(path).await.contains(said) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Waits until so many more probes of an address have failed.
    pub(crate) async fn probes_fail(&self, address: &str, more: u64) {
        let before = self.failed_probes(address).await;
        patiently("failed probes", async {
            while self.failed_probes(address).await < before + more {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    async fn failed_probes(&self, address: &str) -> u64 {
        let metrics = self.admin("/metrics").await;
        let said = format!("address=\"{address}\",result=\"failed\"}} ");
        let count = metrics.lines().find_map(|line| line.strip_prefix("perigee_dns_probes_total")?.split_once(&said));
        count.map_or(0, |(_, count)| count.trim().parse().unwrap())
    }

    pub(crate) async fn admin(&self, path: &str) -> String {
        self.admin_asked(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await
    }

    /// The whole answer to a whole request.
    pub(crate) async fn admin_asked(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.running.admin_addr().unwrap()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        patiently("the admin API", stream.read_to_string(&mut answer)).await.unwrap();
        answer
    }
}

/// A folder with a document and its database.
pub(crate) fn folder(document: &str, world: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("perigee.toml"), document).unwrap();
    std::fs::write(folder.path().join("world.mmdb"), build::build(world.as_bytes()).unwrap()).unwrap();
    folder
}

pub(crate) fn options(folder: &tempfile::TempDir) -> Options {
    Options {
        name: None,
        document: DocumentSource::File(folder.path().join("perigee.toml")),
        listen: vec!["127.0.0.53:0".parse().unwrap()],
        admin: Some("127.0.0.1:0".parse().unwrap()),
        page: Default::default(),
        query_log: AccessLogTarget::Off,
        query_log_one_in: std::num::NonZeroU32::MIN,
        dnstap: Default::default(),
        encrypted: perigee_geodns::EncryptedListen::default(),
        probe_at: std::collections::BTreeMap::new(),
        state: None,
        keys_look: perigee_geodns::KEYS_LOOK,
    }
}

/// A query without EDNS.
pub(crate) fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

pub(crate) fn addresses(reply: &Message) -> Vec<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    reply.answers.iter().filter_map(|record| address(&record.data)).collect()
}

/// A datagram socket at an address of one's choice.
pub(crate) struct Client(pub(crate) UdpSocket);

impl Client {
    pub(crate) async fn at(address: &str) -> Self {
        Self(UdpSocket::bind((address, 0)).await.unwrap())
    }

    pub(crate) async fn ask(&self, server: SocketAddr, message: &[u8]) -> Message {
        self.0.send_to(message, server).await.unwrap();
        let (reply, from) = self.receive().await;
        assert_eq!(from, server, "the address asked is the one that answers");
        reply
    }

    pub(crate) async fn receive(&self) -> (Message, SocketAddr) {
        let mut reply = [0; 4096];
        let (length, from) = patiently("a reply", self.0.recv_from(&mut reply)).await.unwrap();
        (Message::from_vec(&reply[..length]).unwrap(), from)
    }
}

/// A message as it goes over a stream.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

pub(crate) async fn read_framed(stream: &mut TcpStream) -> Message {
    let length = patiently("a length", stream.read_u16()).await.unwrap();
    let mut reply = vec![0; usize::from(length)];
    patiently("a reply", stream.read_exact(&mut reply)).await.unwrap();
    Message::from_vec(&reply).unwrap()
}

/// The health path of an edge, which can be switched.
pub(crate) struct Edge {
    healthy: Arc<AtomicBool>,
    /// Header fields that its answers have.
    says: Arc<Mutex<String>>,
}

impl Edge {
    /// At a port that both edges share; 0 takes one that is free at all addresses.
    pub(crate) async fn start(address: &str, port: u16) -> (Self, u16) {
        let port = if port == 0 { perigee_testkit::free_port() } else { port };
        let listener = TcpListener::bind((address, port)).await.unwrap();
        let healthy = Arc::new(AtomicBool::new(true));
        let is_healthy = Arc::clone(&healthy);
        let says = Arc::new(Mutex::new(String::new()));
        let said = Arc::clone(&says);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let status = if is_healthy.load(Ordering::SeqCst) { "200 OK" } else { "503 Service Unavailable" };
                let mut request = [0; 1024];
                let length = stream.read(&mut request).await.unwrap_or(0);
                if request[..length].starts_with(b"GET /.perigee/healthz HTTP/1.1\r\n") {
                    let said = said.lock().unwrap().clone();
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n{said}connection: close\r\n\r\n");
                    stream.write_all(answer.as_bytes()).await.unwrap_or_default();
                }
            }
        });
        (Self { healthy, says }, port)
    }

    /// Header fields, each with its end of line.
    pub(crate) fn say(&self, fields: &str) {
        *self.says.lock().unwrap() = fields.to_owned();
    }

    pub(crate) fn set(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::SeqCst);
    }
}
