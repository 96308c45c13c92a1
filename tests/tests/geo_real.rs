//! Steering by the real GeoLite2-City, against a brute force that shares no code with it.
//!
//! `cargo xtask geo` fetches the file; without it these tests say that they were skipped.

#![expect(clippy::unwrap_used, reason = "a test's helpers end where they are surprised, as the test does")]
#![expect(clippy::print_stdout, reason = "figures for whoever asks with --nocapture")]

use std::{
    fmt::Write as _,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    time::Instant,
};

use perigee_geo::{
    database::GeoDatabase,
    health::HealthView,
    steer::{ClientPrefix, Family, PlaceSource, SteerReason, Steering, Step},
};
use perigee_node::mmap::MappedFile;
use perigee_protocol::document;

/// Addresses sampled of the file's networks, every network alike.
const SAMPLES: usize = 10_000;
/// Addresses anywhere, which the file may not know.
const ANYWHERE: usize = 2_000;
/// Of what loading and steering may add to anonymous memory.
const ANONYMOUS_KIB_MAX: u64 = 20 * 1024;
/// Of a table of answers.
const TABLE_BYTES_MAX: usize = 16 * 1024 * 1024;

const CITIES: [(&str, f64, f64); 24] = [
    ("fra", 50.11, 8.68),
    ("lon", 51.51, -0.13),
    ("mad", 40.42, -3.7),
    ("waw", 52.23, 21.01),
    ("ist", 41.01, 28.98),
    ("dxb", 25.2, 55.27),
    ("bom", 19.08, 72.88),
    ("sin", 1.35, 103.82),
    ("hkg", 22.32, 114.17),
    ("nrt", 35.68, 139.69),
    ("icn", 37.57, 126.98),
    ("syd", -33.87, 151.21),
    ("akl", -36.85, 174.76),
    ("jnb", -26.2, 28.05),
    ("los", 6.52, 3.38),
    ("cai", 30.04, 31.24),
    ("gru", -23.55, -46.63),
    ("scl", -33.45, -70.67),
    ("bog", 4.71, -74.07),
    ("mex", 19.43, -99.13),
    ("mia", 25.76, -80.19),
    ("iad", 38.9, -77.04),
    ("ord", 41.88, -87.63),
    ("sjc", 37.34, -121.89),
];
const DEFAULT_LOCATION: (f64, f64) = (50.1, 8.7);

fn steering() -> Steering {
    let mut text = "version = 1\n[cdn]\nname = \"t\"\nzone = \"cdn.example\"\ncontact = \"h@cdn.example\"\n".to_owned();
    let (latitude, longitude) = DEFAULT_LOCATION;
    text += &format!("[geo]\ndefault_location = {{ latitude = {latitude}, longitude = {longitude} }}\n");
    text += "[geo.steering]\nanswers = 1\n";
    for (index, (id, latitude, longitude)) in CITIES.iter().enumerate() {
        text += &format!("[[pop]]\nid = \"{id}\"\ncity = \"{id}\"\nlatitude = {latitude}\nlongitude = {longitude}\n");
        text += &format!("addresses = [\"192.0.2.{index}\"]\n");
    }
    text += "[[site]]\nid = \"www\"\nhosts = [\"a.example\"]\norigins = [{ url = \"http://192.0.2.100\" }]\n";
    Steering::new(&document::load("test.toml", &text).unwrap())
}

/// The real file, or none and a line that says so.
fn real_file(test: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.geo/GeoLite2-City.mmdb");
    if path.is_file() {
        return Some(path);
    }
    let line = format!("SKIP: {test}: no {}; fetch it by `cargo xtask geo`", path.display());
    eprintln!("{line}");
    if let Some(list) = std::env::var_os("PERIGEE_SKIPS") {
        let mut list = std::fs::OpenOptions::new().append(true).create(true).open(list).unwrap();
        writeln!(list, "{line}").unwrap();
    }
    None
}

/// SplitMix64: the same samples every time.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn next_u128(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }

    /// The address with the bits past `prefix_len` by chance.
    fn within(&mut self, address: IpAddr, prefix_len: u8) -> IpAddr {
        match address {
            IpAddr::V4(v4) => {
                let host = u32::MAX.checked_shr(prefix_len.into()).unwrap_or(0);
                IpAddr::from(((v4.to_bits() & !host) | (self.next() as u32 & host)).to_be_bytes())
            }
            IpAddr::V6(v6) => {
                let host = u128::MAX.checked_shr(prefix_len.into()).unwrap_or(0);
                Ipv6Addr::from_bits((v6.to_bits() & !host) | (self.next_u128() & host)).into()
            }
        }
    }
}

type Reader = maxminddb::Reader<MappedFile>;

/// A reservoir sample of the networks of the file, with an address by chance in each.
fn sample(reader: &Reader, chance: &mut Seeded) -> Vec<IpAddr> {
    let mut reservoir = Vec::with_capacity(SAMPLES);
    for (seen, found) in reader.networks(Default::default()).unwrap().enumerate() {
        let network = found.unwrap().network().unwrap();
        let slot = (chance.next() % (seen as u64 + 1)) as usize;
        if seen < SAMPLES {
            reservoir.push(network);
        } else if let Some(kept) = reservoir.get_mut(slot) {
            *kept = network;
        }
    }
    reservoir.into_iter().map(|network| chance.within(network.ip(), network.prefix())).collect()
}

/// What the file says, by the reader alone; None: the rule for unknown places holds.
fn coordinates(reader: &Reader, address: IpAddr) -> Option<(f64, f64)> {
    let city: maxminddb::geoip2::City<'_> = reader.lookup(address).unwrap().decode().unwrap()?;
    Some((city.location.latitude?, city.location.longitude?))
}

fn haversine_km((a, b): (f64, f64), (c, d): (f64, f64)) -> f64 {
    let half = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
    let h = half(c - a) + a.to_radians().cos() * c.to_radians().cos() * half(d - b);
    2.0 * 6371.0088 * h.sqrt().min(1.0).asin()
}

/// Ties by rule: the first in the document.
fn brute_force(from: (f64, f64)) -> &'static str {
    let km = |city: &&(&str, f64, f64)| haversine_km(from, (city.1, city.2));
    CITIES.iter().min_by(|a, b| km(a).total_cmp(&km(b))).unwrap().0
}

fn anonymous_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[test]
fn steers_by_the_real_database_as_brute_force_does() {
    let Some(path) = real_file("steers_by_the_real_database_as_brute_force_does") else { return };
    let steering = steering();
    let site = steering.site("www").unwrap();
    let reader = Reader::from_source(MappedFile::open(&path).unwrap()).unwrap();
    let mut chance = Seeded(20_180_703);
    let mut clients = sample(&reader, &mut chance);
    assert_eq!(clients.len(), SAMPLES);
    // What is asked for at the door: unicast addresses, half of them IPv6.
    clients.extend(
        (0..ANYWHERE / 2).map(|_| IpAddr::from(((chance.next() as u32 % 0xDF00_0000) + 0x0100_0000).to_be_bytes())),
    );
    clients.extend((0..ANYWHERE / 2).map(|_| IpAddr::V6(Ipv6Addr::from_bits(chance.next_u128() >> 3 | 1 << 125))));

    let before_kib = anonymous_kib();
    let started = Instant::now();
    let database = GeoDatabase::from_source(MappedFile::open(&path).unwrap()).unwrap();
    let load = started.elapsed();
    let loaded_kib = anonymous_kib().saturating_sub(before_kib);

    let health = HealthView::default();
    let ask = |client: &ClientPrefix| steering.answer(Some(&database), client, site, &health, Family::V4);
    let started = Instant::now();
    for client in &clients {
        assert!(!ask(&ClientPrefix::host(*client)).addresses.is_empty());
    }
    let each = started.elapsed() / clients.len() as u32;
    let steered_kib = anonymous_kib().saturating_sub(before_kib);

    let (mut unknown, mut wrong) = (0, Vec::new());
    for client in &clients {
        let steered = ask(&ClientPrefix::host(*client));
        let known = coordinates(&reader, *client);
        unknown += usize::from(known.is_none());
        let expected = brute_force(known.unwrap_or(DEFAULT_LOCATION));
        assert_eq!(
            steered.source,
            if known.is_some() { PlaceSource::Database } else { PlaceSource::Default },
            "{client}"
        );
        assert_eq!(steered.reason, SteerReason::Nearest, "{client}");
        if steered.pop.unwrap().as_str() != expected {
            wrong.push((*client, expected, steered.pop));
        }
        // By ECS: the scope as the source prefix, and anybody within it.
        let prefix = ClientPrefix::new(*client, steered.scope_prefix);
        assert_eq!(ask(&prefix).addresses, steered.addresses, "{client}/{}", steered.scope_prefix);
        let neighbour = chance.within(*client, steered.scope_prefix);
        assert_eq!(
            ask(&ClientPrefix::host(neighbour)).addresses,
            steered.addresses,
            "{client}/{}",
            steered.scope_prefix
        );
    }
    println!(
        "{} clients, {unknown} of unknown place; {:?}\nload {load:?}, anonymous memory +{loaded_kib} KiB, after use +{steered_kib} KiB; \
         {each:?} a cold answer",
        clients.len(),
        database.info(),
    );
    assert_eq!(wrong, []);
    assert!(loaded_kib.max(steered_kib) < ANONYMOUS_KIB_MAX, "{loaded_kib} and {steered_kib} KiB of anonymous memory");
}

/// Scopes of the real file: whoever is inside of one is answered the same, and they do not overlap, whatever is down.
#[test]
fn merged_scopes_of_the_real_database_are_true() {
    let Some(path) = real_file("merged_scopes_of_the_real_database_are_true") else { return };
    let steering = steering();
    let site = steering.site("www").unwrap();
    let database = GeoDatabase::from_source(MappedFile::open(&path).unwrap()).unwrap();
    let reader = Reader::from_source(MappedFile::open(&path).unwrap()).unwrap();
    let mut chance = Seeded(7_871_721);
    let mut clients = sample(&reader, &mut chance);
    clients.truncate(SAMPLES / 5);
    clients.extend((0..ANYWHERE).map(|_| IpAddr::from((chance.next() as u32).to_be_bytes())));
    clients.extend((0..ANYWHERE).map(|_| IpAddr::V6(Ipv6Addr::from_bits(chance.next_u128() >> 3 | 1 << 125))));
    // Three of Europe's down; Frankfurt and Sydney alone.
    for up in [(3..24).collect::<Vec<_>>(), vec![0, 11]] {
        let down = (0..24).filter(|pop| !up.contains(pop)).map(|pop| IpAddr::from([192, 0, 2, pop]));
        let health = HealthView::new(1, down);
        let (started, mut builder) = (Instant::now(), steering.table(&health));
        while builder.step(Some(&database), 1 << 16) == Step::More {}
        let (table, took) = (builder.finish(), started.elapsed());
        let figures = table.figures();
        assert!(figures.left_out == 0 && figures.bytes < TABLE_BYTES_MAX, "{figures:?}");
        let by = |client: IpAddr| {
            let client = ClientPrefix::host(client);
            steering.answer_by(Some(&table), Some(&database), &client, site, &health, Family::V4)
        };
        let plain =
            |client: IpAddr| steering.answer(Some(&database), &ClientPrefix::host(client), site, &health, Family::V4);
        let (mut shorter, mut bits, mut bits_plain) = (0_u32, 0, 0);
        for client in &clients {
            let (short, long) = (by(*client), plain(*client));
            assert_eq!((&short.addresses, short.reason), (&long.addresses, long.reason), "{client}");
            assert_eq!((short.source, short.country), (long.source, long.country), "{client}");
            assert!(short.scope_prefix <= long.scope_prefix, "{client}");
            if client.is_ipv4() {
                shorter += u32::from(short.scope_prefix < long.scope_prefix);
                (bits, bits_plain) = (bits + u32::from(short.scope_prefix), bits_plain + u32::from(long.scope_prefix));
            }
            for _ in 0..8 {
                let neighbour = chance.within(*client, short.scope_prefix);
                let (its, scope) = (plain(neighbour), by(neighbour).scope_prefix);
                assert_eq!((its.addresses, scope), (short.addresses, short.scope_prefix), "{neighbour}, {client}");
            }
        }
        println!(
            "{} of 24 up: made in {took:?}, {figures:?}; of {} clients, IPv4 scopes in all {bits} bits instead of {bits_plain}, \
             {shorter} are shorter",
            up.len(),
            clients.len(),
        );
    }
}

/// A damaged copy of the real file is refused, whatever part is hit hard enough to show.
#[test]
fn refuses_damaged_copies_of_the_real_database() {
    let Some(path) = real_file("refuses_damaged_copies_of_the_real_database") else { return };
    let whole = std::fs::read(path).unwrap();
    let check = |bytes: &[u8], expected: &str| {
        let refusal = GeoDatabase::from_source(bytes).map(|_| ()).unwrap_err().to_string();
        assert!(refusal.contains(expected), "{refusal:?} does not say {expected:?}");
    };
    check(&whole[..whole.len() / 2], "no metadata");
    check(&whole[..whole.len() - 1], "a value is cut short");
    let mut damaged = whole.clone();
    damaged[1_000_000..1_000_100].fill(0xFF);
    check(&damaged, "its search tree is damaged: node");
    let mut damaged = whole.clone();
    let data = whole.len() - 5_000_000;
    damaged[data..data + 4_096].fill(0x00);
    check(&damaged, "its data is damaged");
    // Bytes missing in the middle, as of a download resumed at the wrong place.
    let (start, end) = whole.split_at(40_000_000);
    check(&[start, &end[1_000_000..]].concat(), "its search tree is damaged: node");
}

const NAME: &[u8] = b"\x03www\x03cdn\x07example\x00";

/// A query for `www.cdn.example A` on behalf of `client` (RFC 7871 §6), all of whose bits are told.
fn query(id: u16, client: Option<IpAddr>) -> Vec<u8> {
    let mut message = Vec::from(id.to_be_bytes());
    message.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    message.extend(NAME);
    message.extend([0, 1, 0, 1]);
    let (family, octets) = match client {
        None => (0, Vec::new()),
        Some(IpAddr::V4(v4)) => (1, v4.octets().to_vec()),
        Some(IpAddr::V6(v6)) => (2, v6.octets().to_vec()),
    };
    // OPT (RFC 6891 §6.1.2): root name, type 41, 1232 bytes, no flags.
    message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0]);
    if client.is_some() {
        let option = octets.len() as u8 + 4;
        message.extend([0, option + 4, 0, 8, 0, option, 0, family, octets.len() as u8 * 8, 0]);
        message.extend(octets);
    } else {
        message.extend([0, 0]);
    }
    message
}

/// The one address of an answer to [`query`].
fn answered(reply: &[u8], id: u16) -> Ipv4Addr {
    assert_eq!(reply[..2], id.to_be_bytes());
    assert_eq!(reply[3] & 15, 0, "NOERROR");
    assert_eq!(reply[6..8], [0, 1], "one answer");
    let address = 12 + NAME.len() + 4 + 12;
    <[u8; 4]>::try_from(&reply[address..address + 4]).unwrap().into()
}

#[tokio::test]
async fn the_nameserver_answers_ten_thousand_client_subnets_as_brute_force_does() {
    let Some(path) = real_file("the_nameserver_answers_ten_thousand_client_subnets_as_brute_force_does") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut text = format!(
        "version = 1\n[cdn]\nname = \"t\"\nzone = \"cdn.example\"\n[geo]\ndatabase = {:?}\n\
         default_location = {{ latitude = {}, longitude = {} }}\n[geo.steering]\nanswers = 1\n",
        path.canonicalize().unwrap(),
        DEFAULT_LOCATION.0,
        DEFAULT_LOCATION.1
    );
    for (index, (id, latitude, longitude)) in CITIES.iter().enumerate() {
        // Nobody is there, and nobody is missed: one probe an hour, ten of which must fail.
        write!(
            text,
            "[[pop]]\nid = \"{id}\"\nlatitude = {latitude}\nlongitude = {longitude}\naddresses = [\"127.99.0.{index}\"]\n\
             health = {{ interval = \"1h\", fall = 10 }}\n"
        )
        .unwrap();
    }
    text += "[[site]]\nid = \"www\"\norigins = [{ url = \"http://127.0.0.1:1\" }]\n";
    let document = folder.path().join("cdn.toml");
    std::fs::write(&document, text).unwrap();
    let [listen, admin] = [(); 2].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, perigee_testkit::free_port())));
    let arguments =
        ["--document", document.to_str().unwrap(), "--listen", &listen.to_string(), "--admin", &admin.to_string()];
    let mut nameserver = perigee_testkit::ProcessUnderTest::start("perigee-geodns", arguments);
    nameserver.wait_ready(admin).await;

    let reader = Reader::from_source(MappedFile::open(&path).unwrap()).unwrap();
    let clients = sample(&reader, &mut Seeded(7871));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(listen).unwrap();
    socket.set_read_timeout(Some(perigee_testkit::PATIENCE)).unwrap();
    let ask = |id: u16, client: Option<IpAddr>| {
        socket.send(&query(id, client)).unwrap();
        let mut reply = [0; 1232];
        let length = socket.recv(&mut reply).unwrap();
        CITIES[usize::from(answered(&reply[..length], id).octets()[3])].0
    };
    for (id, client) in clients.iter().enumerate() {
        let expected = brute_force(coordinates(&reader, *client).unwrap_or(DEFAULT_LOCATION));
        assert_eq!(ask(id as u16, Some(*client)), expected, "{client}");
    }
    // The database knows no loopback address: by its own source address the client is at the default location.
    assert_eq!(ask(1, None), brute_force(DEFAULT_LOCATION));
    println!(
        "{} client subnets over UDP, all as brute force; the nameserver has {} KiB of anonymous memory",
        clients.len(),
        nameserver.anonymous_rss_bytes() >> 10
    );
}
