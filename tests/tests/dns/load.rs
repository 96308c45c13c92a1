//! Queries without a pause, while documents and databases are replaced, while a nameserver is told to end, and while one of two is
//! killed. None is lost that could be answered.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use perigee_testkit::{patiently, wait_until};
use perigee_tests::installed;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    bench::{GERMANY, Nameserver, SWAPPED_WORLD, document},
    unbound::Resolver,
};

const A: u16 = 1;
/// Sockets that share the load: each has so small a buffer that a client who is not run for a while loses answers.
const SOCKETS: usize = 32;
/// What a datagram takes of a socket's buffer, with all that the kernel counts beside its bytes.
const DATAGRAM_BYTES: u64 = 1_280;
/// How long the last answers may take to come. Nothing but the verdict on what is lost waits for it.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

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

/// So many queries may be on their way at once. A buffer that is full loses what comes next, which is nobody's mistake: whoever
/// sends waits before it is, where a nameserver is not run for a while. What is lost otherwise is waited for to the end.
fn under_way_max() -> u64 {
    let told = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap_or_default();
    // The kernel's own default; it doubles what is asked for, and the nameserver asks for 4 MiB.
    let bytes = told.trim().parse::<u64>().unwrap_or(212_992).min(4 << 20) * 2;
    bytes / DATAGRAM_BYTES * 3 / 4
}

/// So many queries a second for `www`, by the clock and not by the answers.
struct Load {
    stop: Arc<AtomicBool>,
    /// How many were sent so far; the number of each tells its socket and its id.
    sent: Arc<AtomicU64>,
    /// How many beyond those of the clock.
    burst: Arc<AtomicU64>,
    sender: thread::JoinHandle<()>,
    receivers: Vec<thread::JoinHandle<Vec<(u64, Instant)>>>,
}

impl Load {
    fn start(server: SocketAddr, per_second: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let [sent, burst, answered] = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
        let sockets: Vec<UdpSocket> = (0..SOCKETS)
            .map(|_| {
                let socket = UdpSocket::bind((GERMANY, 0)).unwrap();
                socket.connect(server).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                socket
            })
            .collect();
        let receivers = sockets.iter().enumerate().map(|(index, socket)| {
            let (socket, stop, answered) = (socket.try_clone().unwrap(), Arc::clone(&stop), Arc::clone(&answered));
            thread::spawn(move || receive(&socket, index, &stop, &answered))
        });
        let receivers = receivers.collect();
        let (stopped, count, more) = (Arc::clone(&stop), Arc::clone(&sent), Arc::clone(&burst));
        let sender = thread::spawn(move || {
            let (began, under_way_max) = (Instant::now(), under_way_max());
            while !stopped.load(Ordering::SeqCst) {
                let due = u64::try_from(began.elapsed().as_micros()).unwrap() * per_second / 1_000_000;
                let due = due + more.load(Ordering::SeqCst);
                let due = due.min(answered.load(Ordering::SeqCst) + under_way_max);
                for number in count.load(Ordering::SeqCst)..due {
                    let number = usize::try_from(number).unwrap();
                    let message = query(u16::try_from(number / SOCKETS).unwrap(), "www.cdn.example", A);
                    // One that is refused, since nobody is there any more, is not answered; who asks finds out.
                    drop(sockets[number % SOCKETS].send(&message));
                    count.fetch_add(1, Ordering::SeqCst);
                }
                thread::sleep(Duration::from_micros(500));
            }
        });
        Self { stop, sent, burst, sender, receivers }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }

    async fn reach(&self, sent: u64) {
        wait_until("enough queries", || self.sent() >= sent).await;
    }

    /// So many more, all at once.
    async fn burst(&self, count: u64) {
        let before = self.sent();
        self.burst.fetch_add(count, Ordering::SeqCst);
        self.reach(before + count).await;
    }

    /// Ends, and tells which of the first `count` queries have no answer, and the longest time without one.
    fn end(self, count: impl FnOnce(u64) -> u64) -> (u64, Vec<u64>, Duration) {
        self.stop.store(true, Ordering::SeqCst);
        self.sender.join().unwrap();
        let count = count(self.sent.load(Ordering::SeqCst));
        let mut answers: Vec<(u64, Instant)> =
            self.receivers.into_iter().flat_map(|receiver| receiver.join().unwrap()).collect();
        answers.sort_unstable();
        let answered: std::collections::HashSet<u64> = answers.iter().map(|(number, _)| *number).collect();
        let lost = (0..count).filter(|number| !answered.contains(number)).collect();
        let mut times: Vec<Instant> = answers.iter().map(|(_, at)| *at).collect();
        times.sort_unstable();
        let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
        (count, lost, gap)
    }
}

/// The numbers of the queries that are answered on a socket, and when.
fn receive(socket: &UdpSocket, index: usize, stop: &AtomicBool, answered: &AtomicU64) -> Vec<(u64, Instant)> {
    let (mut answers, mut reply, mut ended) = (Vec::new(), [0; 1_500], None);
    loop {
        match socket.recv(&mut reply) {
            Ok(length) => {
                assert!(length > 12 && reply[3] & 15 == 0 && reply[7] == 1, "an answer with one address");
                let id = usize::from(u16::from_be_bytes([reply[0], reply[1]]));
                answers.push((u64::try_from(id * SOCKETS + index).unwrap(), Instant::now()));
                answered.fetch_add(1, Ordering::SeqCst);
            }
            Err(_) if stop.load(Ordering::SeqCst) => {
                let ended = *ended.get_or_insert_with(Instant::now);
                let is_quiet = answers.last().is_none_or(|(_, at)| at.elapsed() > LAST_ANSWERS);
                if is_quiet || ended.elapsed() > LAST_ANSWERS {
                    return answers;
                }
            }
            Err(_) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_and_databases_are_replaced_under_load() {
    let first = document("");
    let nameserver = Nameserver::start(&first).await;
    let load = Load::start(nameserver.address, 10_000);
    load.reach(2_000).await;
    for step in 0..10_u64 {
        if step % 2 == 0 {
            nameserver.replace_world(SWAPPED_WORLD);
        } else {
            let more =
                format!("[[zone.record]]\nname = \"step\"\ntype = \"TXT\"\nttl = \"1h\"\nvalues = [\"{step}\"]\n");
            nameserver.replace("perigee.toml", format!("{first}{more}"));
            nameserver.process.signal(Signal::SIGHUP);
        }
        load.reach(2_000 * (step + 2)).await;
    }
    // What came while another was under way may have been applied as one.
    let applied = patiently("four reloads", async {
        loop {
            let applied = nameserver.metric("perigee_reloads_total", "result=\"applied\"").await;
            if applied >= 4.0 {
                return applied;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let (sent, lost, gap) = load.end(|sent| sent);
    println!("{sent} queries at 10,000 a second over {applied} reloads: {} lost, longest gap {gap:?}", lost.len());
    assert!(lost.is_empty(), "{} of {sent} lost: {:?}", lost.len(), &lost[..lost.len().min(20)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_asked_before_the_end_is_answered() {
    let mut nameserver = Nameserver::start(&document("")).await;
    let mut stream = TcpStream::connect(nameserver.address).await.unwrap();
    let load = Load::start(nameserver.address, 5_000);
    load.reach(2_000).await;
    // Half a second of a connection's work, in flight at the signal.
    const PIPELINED: u16 = 2_000;
    let framed = |id| {
        let message = query(id, "www.cdn.example", A);
        [&u16::try_from(message.len()).unwrap().to_be_bytes(), &message[..]].concat()
    };
    stream.write_all(&(0..PIPELINED).flat_map(framed).collect::<Vec<u8>>()).await.unwrap();
    // More than is answered before the signal comes, and less than a buffer has room for.
    load.burst((under_way_max() / 2).min(1_500)).await;
    let before = load.sent();
    nameserver.process.terminate();
    let answered = patiently("answers over TCP", async {
        for id in 0..PIPELINED {
            let Ok(length) = stream.read_u16().await else { return id };
            let mut reply = vec![0; usize::from(length)];
            if stream.read_exact(&mut reply).await.is_err() {
                return id;
            }
            assert_eq!(reply[..2], id.to_be_bytes(), "in their order");
        }
        PIPELINED
    })
    .await;
    assert!(nameserver.process.wait_exit().await.success(), "{}", nameserver.process.stderr());
    let (count, lost, _) = load.end(|_| before);
    println!("{count} queries over UDP before SIGTERM: {} lost; {answered} of {PIPELINED} over TCP", lost.len());
    assert!(lost.is_empty(), "{} lost: {:?}", lost.len(), &lost[..lost.len().min(20)]);
    assert_eq!(answered, PIPELINED);
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0, "then the connection ends");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resolvers_go_on_when_one_of_two_is_killed() {
    if !installed("unbound") {
        return;
    }
    let first = Nameserver::start(&document("")).await;
    let port = Some(first.address.port());
    let mut second = Nameserver::at([127, 0, 0, 2].into(), &document(""), port).await;
    // Nothing is kept, so that every question goes to one of the two.
    let forgetful = "  cache-max-ttl: 0\n  cache-max-negative-ttl: 0\n  infra-cache-min-rtt: 50\n";
    let resolver = Resolver::start(&[first.address, second.address], None, forgetful).await;
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (address, stop, answered) = (resolver.address, Arc::clone(&stop), Arc::clone(&answered));
            thread::spawn(move || {
                let mut number = 0;
                while !stop.load(Ordering::SeqCst) {
                    ask_as_a_stub(address, &format!("n{client}-{number}.wild.cdn.example"));
                    number += 1;
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let reach = async |count: u64| {
        wait_until("answers, or the end of a client", || {
            answered.load(Ordering::SeqCst) >= count || clients.iter().any(thread::JoinHandle::is_finished)
        })
        .await;
    };
    reach(500).await;
    let [one, two] =
        [first.metric("perigee_dns_queries_total", "").await, second.metric("perigee_dns_queries_total", "").await];
    assert!(one > 0.0 && two > 0.0, "both are asked: {one} and {two}");
    second.process.kill();
    let at_the_kill = answered.load(Ordering::SeqCst);
    reach(at_the_kill + 1_000).await;
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().unwrap();
    }
    println!(
        "{at_the_kill} answers before one of two was killed, {} after, none failed",
        answered.load(Ordering::SeqCst) - at_the_kill
    );
}

/// As the stub resolvers of operating systems: five seconds, and once more.
fn ask_as_a_stub(resolver: SocketAddr, name: &str) {
    let socket = UdpSocket::bind((GERMANY, 0)).unwrap();
    socket.connect(resolver).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut message = query(7, name, A);
    message[2] |= 1;
    for _ in 0..2 {
        socket.send(&message).unwrap();
        let mut reply = [0; 1_500];
        if let Ok(length) = socket.recv(&mut reply) {
            assert_eq!((reply[3] & 15, reply[7]), (0, 1), "{name}: {:02x?}", &reply[..length]);
            return;
        }
    }
    panic!("{name} was not answered");
}
