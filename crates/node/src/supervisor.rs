//! What systemd is told of this process, and asks of it: a datagram of words to the socket that `NOTIFY_SOCKET` names
//! (sd_notify(3)). Without that variable nobody listens, and all of it does nothing.
//!
//! Deliberately absent: RELOADING. A reload is asked for and judged later; a document that is refused is no failure of the unit.

use std::{
    ffi::OsStr,
    future::Future,
    io,
    os::unix::net::UnixDatagram,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    task::JoinHandle,
    time::{self, MissedTickBehavior},
};

use crate::runtimes::Runtimes;

/// How often a start or an end that takes long asks for more time, and for how much.
const MORE_EVERY: Duration = Duration::from_secs(10);
const MORE: Duration = Duration::from_secs(30);
/// A supervisor that takes nothing for so long is left alone.
const SEND_BOUND: Duration = Duration::from_secs(1);

/// The supervisor of this process, if it has one. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Supervisor {
    socket: Option<Arc<UnixDatagram>>,
    /// How long it waits for a sign of life before it ends the process (`WatchdogSec=`).
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The one that the environment names. A socket that cannot be reached is logged and left.
    pub(crate) fn from_environment() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let Some(address) = variable("NOTIFY_SOCKET") else { return Self::default() };
        let watchdog = watchdog(
            variable("WATCHDOG_USEC").as_deref().and_then(OsStr::to_str),
            variable("WATCHDOG_PID").as_deref().and_then(OsStr::to_str),
            std::process::id(),
        );
        match connect(&address) {
            Ok(socket) => Self { socket: Some(Arc::new(socket)), watchdog },
            Err(error) => {
                tracing::warn!(%error, address = %address.to_string_lossy(), "NOTIFY_SOCKET cannot be reached: nobody is told");
                Self::default()
            }
        }
    }

    /// Says that clients are served.
    pub(crate) fn ready(&self) {
        self.tell("READY=1\nSTATUS=serving");
    }

    /// Says that the process is ending.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining");
    }

    /// Does `work`, a start or an end, and asks for more time as long as it lasts: a large cache takes its time to open,
    /// and a drain with a notice to end. When the process hangs nobody asks, and the unit's own bounds hold.
    pub(crate) async fn patiently<T>(&self, work: impl Future<Output = T>) -> T {
        self.patiently_every(MORE_EVERY, work).await
    }

    async fn patiently_every<T>(&self, every: Duration, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut more = time::interval(every);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = more.tick() => self.tell(&format!("EXTEND_TIMEOUT_USEC={}", MORE.as_micros())),
            }
        }
    }

    /// Gives a sign of life, twice as often as is asked for, whenever each runtime of the process has done a piece of work, and
    /// each thread beside them has gone round.
    pub(crate) fn live(&self, runtimes: &Runtimes) -> Option<JoinHandle<()>> {
        let every = self.watchdog.filter(|_| self.socket.is_some())? / 2;
        let (supervisor, runtimes) = (self.clone(), runtimes.clone());
        Some(runtimes.control.clone().spawn(async move {
            let mut look = time::interval(every);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                look.tick().await;
                let from = Instant::now();
                for runtime in runtimes.cores.iter().chain([&runtimes.store]) {
                    if runtime.spawn(async {}).await.is_err() {
                        return;
                    }
                }
                runtimes.pulses.all_beat().await;
                if from.elapsed() > every {
                    tracing::warn!(took = ?from.elapsed(), "a thread was kept from its work; systemd ends the process when this takes longer");
                }
                supervisor.tell("WATCHDOG=1");
            }
        }))
    }

    fn tell(&self, words: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(words.as_bytes())
        {
            tracing::warn!(%error, words, "systemd was not told");
        }
    }
}

/// An address is a path, or with `@` before it a name that is nowhere in the file system (unix(7), abstract).
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_BOUND))?;
    match address.as_encoded_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt as _;
            socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
        }
        _ => socket.connect(address)?,
    }
    Ok(socket)
}

/// sd_watchdog_enabled(3): microseconds, meant for this process alone where a process is named.
fn watchdog(microseconds: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let microseconds: u64 = microseconds?.parse().ok().filter(|microseconds| *microseconds > 0)?;
    Some(Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(watchdog: Option<Duration>) -> (Supervisor, UnixDatagram, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let ear = UnixDatagram::bind(&path).unwrap();
        let socket = connect(path.as_os_str()).unwrap();
        (Supervisor { socket: Some(Arc::new(socket)), watchdog }, ear, folder)
    }

    fn heard(ear: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let length = ear.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn nobody_is_told_without_a_socket() {
        let nobody = Supervisor::default();
        nobody.ready();
        let runtimes = Runtimes::start(1).unwrap();
        assert!(nobody.live(runtimes.handles()).is_none());
        runtimes.shutdown(Duration::from_secs(1));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_name_without_a_file_is_an_address_too() {
        use std::os::{linux::net::SocketAddrExt as _, unix::net::SocketAddr};
        let name = format!("perigee-test-{}", std::process::id());
        let ear = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let socket = connect(OsStr::new(&format!("@{name}"))).unwrap();
        Supervisor { socket: Some(Arc::new(socket)), watchdog: None }.ready();
        assert_eq!(heard(&ear), "READY=1\nSTATUS=serving");
        assert!(connect(OsStr::new("/nowhere/notify")).is_err());
    }

    #[tokio::test]
    async fn what_takes_long_asks_for_more_time_and_then_is_silent() {
        let (supervisor, ear, _folder) = pair(None);
        let asked = tokio::task::spawn_blocking(move || (heard(&ear), heard(&ear), ear));
        let (first, second, ear) = supervisor.patiently_every(Duration::from_millis(1), asked).await.unwrap();
        assert_eq!([first.as_str(), &second], ["EXTEND_TIMEOUT_USEC=30000000"; 2]);
        supervisor.stopping();
        let last = std::iter::repeat_with(|| heard(&ear)).find(|words| !words.starts_with("EXTEND"));
        assert_eq!(last.unwrap(), "STOPPING=1\nSTATUS=draining");
        ear.set_nonblocking(true).unwrap();
        assert!(ear.recv(&mut [0; 64]).is_err());
    }

    #[test]
    fn it_lives_as_long_as_every_thread_works() {
        let (supervisor, ear, _folder) = pair(Some(Duration::from_millis(2)));
        let runtimes = Runtimes::start(2).unwrap();
        let task = supervisor.live(runtimes.handles()).unwrap();
        assert_eq!([heard(&ear), heard(&ear)], ["WATCHDOG=1", "WATCHDOG=1"]);
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let (tell, stuck) = std::sync::mpsc::channel();
        runtimes.handles().cores[1].spawn(async move {
            tell.send(()).unwrap();
            held.recv().unwrap_err();
        });
        stuck.recv().unwrap();
        // A look that had passed the thread already may still be told, and none after it.
        ear.set_nonblocking(true).unwrap();
        let heard_since = || std::iter::repeat_with(|| ear.recv(&mut [0; 64])).take_while(Result::is_ok).count();
        heard_since();
        std::thread::sleep(Duration::from_millis(40));
        assert!(heard_since() <= 1, "a sign of life though a thread hangs");
        drop(hold);
        ear.set_nonblocking(false).unwrap();
        assert_eq!(heard(&ear), "WATCHDOG=1");
        task.abort();
        runtimes.shutdown(Duration::from_secs(1));
    }

    #[test]
    fn it_lives_as_long_as_threads_without_a_runtime_go_round() {
        let (supervisor, ear, _folder) = pair(Some(Duration::from_millis(2)));
        let runtimes = Runtimes::start(1).unwrap();
        let pulse = runtimes.handles().pulses.add();
        let task = supervisor.live(runtimes.handles()).unwrap();
        ear.set_nonblocking(true).unwrap();
        std::thread::sleep(Duration::from_millis(40));
        assert!(ear.recv(&mut [0; 64]).is_err(), "a sign of life though a thread hangs");
        ear.set_nonblocking(false).unwrap();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let beating = std::thread::spawn(move || {
            while let Err(std::sync::mpsc::TryRecvError::Empty) = ended.try_recv() {
                pulse.beat();
                std::thread::yield_now();
            }
        });
        assert_eq!(heard(&ear), "WATCHDOG=1");
        // One that has ended is waited for no more.
        drop(end);
        beating.join().unwrap();
        for _ in 0..3 {
            assert_eq!(heard(&ear), "WATCHDOG=1");
        }
        task.abort();
        runtimes.shutdown(Duration::from_secs(1));
    }

    #[test]
    fn the_watchdog_is_this_processs_own() {
        let second = Some(Duration::from_secs(1));
        for (microseconds, pid, expected) in [
            (Some("1000000"), None, second),
            (Some("1000000"), Some("7"), second),
            (Some("1000000"), Some("8"), None),
            (Some("1000000"), Some("x"), None),
            (Some("0"), None, None),
            (Some("-1"), None, None),
            (None, None, None),
        ] {
            assert_eq!(watchdog(microseconds, pid, 7), expected, "{microseconds:?} {pid:?}");
        }
    }
}
