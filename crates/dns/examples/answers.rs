//! Nanoseconds per answer, without sockets, before and after the answers are made ahead:
//! `cargo run --release -p perigee-dns --example answers -- perigee.toml [GeoLite2-City.mmdb]`.

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::{env, fs, hint::black_box, net::IpAddr, sync::Arc, time::Instant};

use perigee_dns::{
    Arrival, CookieSecret, LimitPolicy, Limiter, Memory, Service, Snapshot, Transport, answer, dnssec::Signatures,
};
use perigee_geo::{database::GeoDatabase, health::HealthView, steer::Step};
use perigee_protocol::document;

fn question(name: &str, kind: u16, subnet: Option<[u8; 3]>) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(subnet.is_some())];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    if let Some(subnet) = subnet {
        message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 11, 0, 8, 0, 7, 0, 1, 24, 0]);
        message.extend(subnet);
    }
    message
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = env::args().skip(1);
    let path = args.next().ok_or("name a document")?;
    let document = document::load(&path, &fs::read_to_string(&path)?).map_err(|mistakes| mistakes.to_string())?;
    let database = args.next().map(fs::read).transpose()?.map(GeoDatabase::from_source).transpose()?;
    let service = Service {
        nsid: Box::default(),
        cookies: CookieSecret::new([1; 16]),
        keepalive_ds: 100,
        limit: LimitPolicy { responses_per_second: 0, slip: 0, exempt: Vec::new() },
        why: Vec::new(),
    };
    let snapshot = Snapshot::new(&document, 1, database.map(Arc::new), Arc::new(service), None)?;
    let site = document.sites.first().map(|site| document.site_name(site)).ok_or("no site")?;
    let mut seed = 88_172_645_463_325_252_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let ecs = |random: &mut dyn FnMut() -> u64| {
        let [a, b, c, ..] = random().to_be_bytes();
        [1 + a % 222, b, c]
    };
    let sets: [(&str, Vec<Vec<u8>>); 3] = [
        ("one name", vec![question(&site, 1, None)]),
        ("random ECS /24", (0..65_536).map(|_| question(&site, 1, Some(ecs(&mut random)))).collect()),
        (
            "random NXDOMAIN",
            (0..65_536).map(|_| question(&format!("{:x}.{}", random(), document.cdn.zone), 1, None)).collect(),
        ),
    ];
    let (health, mut out) = (HealthView::default(), Vec::new());
    let mut memory = Memory::new(Limiter::new([0; 16], 1), Signatures::new([0; 16]));
    let arrival = Arrival { peer: IpAddr::from([127, 49, 0, 1]), transport: Transport::Udp, now_ms: 1_800_000_000_000 };
    let rounds: usize = env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1_000_000);
    let mut run = |snapshot: &Snapshot<Vec<u8>>| {
        for (what, messages) in &sets {
            let began = Instant::now();
            for message in messages.iter().cycle().take(rounds) {
                black_box(answer(snapshot, arrival, message, &health, &mut memory, &mut out).rcode);
            }
            println!("{what:<16} {:>6.0} ns", began.elapsed().as_nanos() as f64 / rounds as f64);
        }
    };
    run(&snapshot);
    let (began, mut builder) = (Instant::now(), snapshot.begin_table(&health));
    while snapshot.step(&mut builder, 65_536) == Step::More {}
    let table = builder.finish();
    println!("made ahead in {:?}: {:?}", began.elapsed(), table.figures());
    run(&snapshot.with_table(Some(Arc::new(table))));
    Ok(())
}
