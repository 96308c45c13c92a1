//! Messages on their way to collectors and into files, as they read them.

use std::{
    fs,
    io::{Read, Write},
    num::NonZeroU32,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
};

use perigee_testkit::{patiently, wait_until};

use super::{
    frames::{Control, read_control, read_escaped, read_u32},
    queue::SHARD_BYTES_MAX,
    *,
};

fn options(target: TapTarget) -> TapOptions {
    TapOptions { target, ..TapOptions::default() }
}

fn start(target: TapTarget) -> (Tap, Tapper, TapMetrics) {
    let metrics = TapMetrics::default();
    let tap = Tap::start(&options(target), "ns1", metrics.clone()).unwrap();
    let tapper = tap.tapper(Transport::Udp).unwrap();
    (tap, tapper, metrics)
}

fn unix(folder: &tempfile::TempDir) -> TapTarget {
    TapTarget::Unix(folder.path().join("tap"))
}

/// A question alone.
fn ask(tapper: &mut Tapper, bytes: &[u8]) {
    tapper.offer(([192, 0, 2, 1], 300).into(), 7, bytes, None, false);
}

/// The bytes of DNS are the last of a frame.
fn ends(frames: &[Vec<u8>], expected: &[&str]) {
    assert_eq!(frames.len(), expected.len(), "{frames:?}");
    for (frame, end) in frames.iter().zip(expected) {
        assert!(frame.starts_with(b"\x0a\x03ns1\x12") && frame.ends_with(end.as_bytes()), "{frame:?} {end}");
    }
}

/// The next data frame; None: the word of the end.
fn next(stream: &mut impl Read) -> Option<Vec<u8>> {
    match read_u32(stream).unwrap() {
        0 => {
            assert_eq!(read_escaped(stream).unwrap(), Control::Stop);
            None
        }
        length => {
            let mut frame = vec![0; length as usize];
            stream.read_exact(&mut frame).unwrap();
            Some(frame)
        }
    }
}

fn accept(listener: &UnixListener) -> UnixStream {
    let (mut stream, _) = listener.accept().unwrap();
    assert_eq!(read_control(&mut stream).unwrap(), Control::Ready);
    stream.write_all(&Control::Accept.frame()).unwrap();
    assert_eq!(read_control(&mut stream).unwrap(), Control::Start);
    stream
}

#[tokio::test]
async fn a_collector_gets_everything_and_is_told_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("tap")).unwrap();
    let (tap, mut tapper, metrics) = start(unix(&folder));
    let collector = tokio::task::spawn_blocking(move || {
        let mut stream = accept(&listener);
        let frames: Vec<_> = std::iter::from_fn(|| next(&mut stream)).collect();
        stream.write_all(&Control::Finish.frame()).unwrap();
        frames
    });
    let client = ([192, 0, 2, 1], 300).into();
    tapper.offer(client, 7, b"q1", Some(b"a1"), false);
    // One that gets no answer, and a transfer, whose messages follow.
    tapper.offer(client, 7, b"q2", None, false);
    tapper.follow(b"nobody's");
    tapper.offer(client, 7, b"q3", Some(b"a3"), true);
    tapper.follow(b"a3b");
    tapper.offer(client, 7, b"q4", Some(b"a4"), false);
    tapper.follow(b"nobody's");
    patiently("the end", tap.close()).await;
    ends(&patiently("the collector", collector).await.unwrap(), &["q1", "a1", "q2", "q3", "a3", "a3b", "q4", "a4"]);
    assert_eq!((metrics.written.get(), metrics.dropped.get(), metrics.connected.get()), (8, 0, 0));
    // There is nobody any more, and nothing to wait for.
    patiently("the end", tap.close()).await;
}

#[tokio::test]
async fn a_collector_that_dies_is_dialled_again_and_misses_nothing_that_waits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tap");
    let listener = UnixListener::bind(&path).unwrap();
    let (tap, mut tapper, metrics) = start(unix(&folder));
    ask(&mut tapper, b"one");
    let first = tokio::task::spawn_blocking(move || {
        let mut stream = accept(&listener);
        next(&mut stream).unwrap()
    });
    ends(&[patiently("the first", first).await.unwrap()], &["one"]);
    // It is seen to be gone though nothing is written.
    wait_until("the end is seen", || metrics.connected.get() == 0 && metrics.errors.get() > 0).await;
    ask(&mut tapper, b"two");
    fs::remove_file(&path).unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let second = tokio::task::spawn_blocking(move || {
        let mut stream = accept(&listener);
        let frames: Vec<_> = std::iter::from_fn(|| next(&mut stream)).collect();
        stream.write_all(&Control::Finish.frame()).unwrap();
        frames
    });
    tap.reopen();
    wait_until("the second is written", || metrics.written.get() == 2).await;
    patiently("the end", tap.close()).await;
    ends(&patiently("the second", second).await.unwrap(), &["two"]);
    assert_eq!((metrics.written.get(), metrics.dropped.get()), (2, 0));
}

#[tokio::test]
async fn what_has_no_room_is_dropped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (tap, mut tapper, metrics) = start(unix(&folder));
    let message = [b'x'; 60_000];
    let fits = SHARD_BYTES_MAX.div_ceil(message.len() + 4 + 4) as u64;
    for _ in 0..fits + 10 {
        ask(&mut tapper, &message);
    }
    let dropped = metrics.dropped.get();
    // Up to the limit, which the last may pass; what is beside the bytes of DNS takes some room too.
    assert!((10..=11).contains(&dropped), "{dropped}");
    patiently("the end", tap.close()).await;
    assert_eq!((metrics.written.get(), metrics.dropped.get()), (0, fits + 10));
}

#[tokio::test]
async fn who_is_no_collector_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("tap")).unwrap();
    let (tap, mut tapper, metrics) = start(unix(&folder));
    ask(&mut tapper, b"one");
    let other = tokio::task::spawn_blocking(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert_eq!(read_control(&mut stream).unwrap(), Control::Ready);
        // It would rather have something else.
        stream.write_all(b"\0\0\0\0\0\0\0\x0d\0\0\0\x01\0\0\0\x01\0\0\0\x01x").unwrap();
        let mut rest = Vec::new();
        // A reset is as good an end.
        drop(stream.read_to_end(&mut rest));
        rest
    });
    assert_eq!(patiently("its end", other).await.unwrap(), b"");
    patiently("the end", tap.close()).await;
    assert_eq!((metrics.written.get(), metrics.dropped.get()), (0, 1));
    assert!(metrics.errors.get() > 0);
}

#[test]
fn the_thread_ends_with_the_last_who_may_speak() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("tap")).unwrap();
    let (tap, mut tapper, _) = start(unix(&folder));
    let mut stream = accept(&listener);
    drop(tap);
    ask(&mut tapper, b"last");
    drop(tapper);
    let frames: Vec<_> = std::iter::from_fn(|| next(&mut stream)).collect();
    ends(&frames, &["last"]);
}

fn read_file(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let mut rest = bytes.as_slice();
    assert_eq!(read_control(&mut rest).unwrap(), Control::Start);
    let frames = std::iter::from_fn(|| next(&mut rest)).collect();
    assert!(rest.is_empty(), "{rest:?}");
    frames
}

#[tokio::test]
async fn a_file_is_gone_on_with_and_let_go_of() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let target = || TapTarget::File(at("tap"));
    let write = async |bytes: &[u8]| {
        let (tap, mut tapper, metrics) = start(target());
        ask(&mut tapper, bytes);
        patiently("the end", tap.close()).await;
        assert_eq!((metrics.written.get(), metrics.errors.get()), (1, 0));
    };
    write(b"one").await;
    ends(&read_file(&at("tap")), &["one"]);
    write(b"two").await;
    ends(&read_file(&at("tap")), &["one", "two"]);
    // Killed within a frame: the end of it goes.
    let whole = fs::read(at("tap")).unwrap();
    for torn in [whole.len() - 12 - 1, whole.len() - 12, whole.len() - 3] {
        fs::write(at("tap"), &whole[..torn]).unwrap();
        write(b"three").await;
        let kept: &[&str] = if torn < whole.len() - 12 { &["one", "three"] } else { &["one", "two", "three"] };
        ends(&read_file(&at("tap")), kept);
    }
    let (tap, mut tapper, metrics) = start(target());
    ask(&mut tapper, b"four");
    wait_until("it is written", || metrics.written.get() == 1).await;
    fs::rename(at("tap"), at("tap.1")).unwrap();
    tap.reopen();
    wait_until("the new file", || at("tap").exists()).await;
    ask(&mut tapper, b"five");
    patiently("the end", tap.close()).await;
    ends(&read_file(&at("tap.1")), &["one", "two", "three", "four"]);
    ends(&read_file(&at("tap")), &["five"]);
}

#[test]
fn a_file_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tap");
    let refused = |path: &Path| {
        let target = TapTarget::File(path.into());
        format!("{:#}", Tap::start(&options(target), "ns1", TapMetrics::default()).unwrap_err())
    };
    fs::write(&path, "a log of mine").unwrap();
    let said = refused(&path);
    assert!(said.contains("--dnstap takes a new file") && said.contains("something else than dnstap"), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "a log of mine");
    assert!(refused(folder.path()).contains("directory"), "{}", refused(folder.path()));
    assert!(refused(&folder.path().join("no/tap")).contains("No such file"));
    // What another process writes.
    fs::remove_file(&path).unwrap();
    let first = file::TapFile::open(&path).unwrap();
    assert!(file::TapFile::open(&path).unwrap_err().to_string().contains("another process"));
    drop(first);
    assert!(file::TapFile::open(&path).is_ok());
}

#[test]
fn one_query_in_so_many_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = TapMetrics::default();
    let sampled = TapOptions { one_in: NonZeroU32::new(100).unwrap(), ..options(unix(&folder)) };
    let tap = Tap::start(&sampled, "ns1", metrics).unwrap();
    let mut tapper = tap.tapper(Transport::Tcp).unwrap();
    let mut taken = 0;
    for _ in 0..100_000 {
        tapper.offer(([192, 0, 2, 1], 300).into(), 7, b"q", Some(b"a"), true);
        taken += u32::from(tapper.following.is_some());
    }
    // 1,000 by chance: seven standard deviations (31.5) to each side.
    assert!((780..=1_220).contains(&taken), "{taken}");
    assert!(Tap::default().tapper(Transport::Udp).is_none());
}
