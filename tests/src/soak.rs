//! The soak: many clients ask for many objects in every way there is, some change objects and say so, the origin fails now
//! and then, and every byte that anybody gets is checked.
//!
//! Object N is `/s/N`. Its owner, one of the clients, raises its version at the origin, invalidates it, and from the
//! acknowledgement on nobody may be given an older one. A response says its version (`X-Version`), from which its length
//! and its bytes follow. Whatever ends early, or is an error, must have been done by the origin.

use std::{
    fmt::Write as _,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    client::{Answer, Client, Failure},
    content::{Dice, Seed},
    origin::{Fault, Origin, Plan},
};

/// How much.
#[derive(Clone, Debug)]
pub struct Soak {
    /// Asked in every way.
    pub edge: SocketAddr,
    /// The site's host.
    pub host: String,
    /// How to purge a path at every node, those nearest the origin first; without it unsafe methods alone invalidate.
    pub purge: Option<Purge>,
    /// For so long.
    pub time: Duration,
    /// So many clients at once.
    pub clients: u64,
}

/// How a node is told to forget: one request to its admin API.
#[derive(Clone, Debug)]
pub struct Purge {
    /// The admin APIs, those nearest the origin first.
    pub admins: Vec<SocketAddr>,
    /// Lines of the head, each with its end.
    pub fields: String,
    /// The content, in which `PATH` stands for the path.
    pub content: String,
}

/// The objects: what the origin has, and what everybody was promised.
#[derive(Debug)]
pub struct Objects(Vec<Object>);

#[derive(Debug, Default)]
struct Object {
    /// At the origin.
    version: AtomicU64,
    /// Nobody is given an older one.
    promised: AtomicU64,
    /// When the origin last failed on purpose, in milliseconds after [`epoch`]; 0 is never.
    failed: AtomicU64,
    asked: AtomicU64,
}

/// A failure explains what is seen so long after it: followers hear of it later than the leader.
const EXPLAINS: Duration = Duration::from_secs(3);
/// Kept of what went wrong.
const FAULTS_MAX: usize = 20;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Answers that were whole and right.
    pub right: u64,
    /// Of those, answered by the edge from its store.
    pub hits: u64,
    /// Of those, parts.
    pub parts: u64,
    /// Of those, 304.
    pub unchanged: u64,
    /// Changes that were acknowledged, by unsafe method.
    pub changes: u64,
    /// Changes that were acknowledged, by purge.
    pub purges: u64,
    /// Body bytes that were checked.
    pub bytes: u64,
    /// Cuts and errors that the origin began.
    pub explained: u64,
    /// Whatever should not have been; the first few in words.
    pub wrong: u64,
    /// See [`Report::wrong`].
    pub faults: Vec<String>,
}

impl Report {
    fn add(&mut self, other: Self) {
        self.right += other.right;
        self.hits += other.hits;
        self.parts += other.parts;
        self.unchanged += other.unchanged;
        self.changes += other.changes;
        self.purges += other.purges;
        self.bytes += other.bytes;
        self.explained += other.explained;
        self.wrong += other.wrong;
        self.faults.extend(other.faults);
        self.faults.truncate(FAULTS_MAX);
    }

    fn fault(&mut self, text: String) {
        self.wrong += 1;
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(text);
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { right, hits, parts, unchanged, changes, purges, bytes, explained, wrong, .. } = self;
        let hit = *hits as f64 / (*right).max(1) as f64 * 100.0;
        write!(
            f,
            "{right} right answers ({hit:.0} % hits, {parts} parts, {unchanged} unchanged), {} MiB checked, {changes} changes \
             and {purges} purges acknowledged, {explained} failures of the origin seen, {wrong} wrong",
            bytes >> 20
        )?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

/// An origin of so many objects; with `faults`, one answer in a few hundred fails.
pub fn origin(count: u64, faults: bool) -> io::Result<(Origin, Arc<Objects>)> {
    let objects = Arc::new(Objects((0..count).map(|_| Object::default()).collect()));
    let theirs = Arc::clone(&objects);
    let origin = Origin::start(Box::new(move |method, path| theirs.plan(method, path, faults)))?;
    Ok((origin, objects))
}

fn epoch() -> Instant {
    static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

fn now_ms() -> u64 {
    epoch().elapsed().as_millis() as u64 + 1
}

/// What every version of an object has at least, in bytes: mostly little, sometimes much.
fn length_min(path: &str) -> u64 {
    let seed = Seed::of(path, u64::MAX);
    match seed.below(1000) {
        0..800 => 200 + seed.below(8 << 10),
        800..950 => (8 << 10) + seed.below(56 << 10),
        950..997 => (64 << 10) + seed.below(512 << 10),
        _ => (1 << 20) + seed.below(3 << 20),
    }
}

fn length(path: &str, version: u64) -> u64 {
    let least = length_min(path);
    least + Seed::of(path, version).below(least / 4 + 1)
}

impl Objects {
    fn plan(&self, method: &str, path: &str, faults: bool) -> Option<Plan> {
        let number: usize = path.strip_prefix("/s/")?.parse().ok()?;
        let object = self.0.get(number)?;
        let version = object.version.load(Ordering::SeqCst);
        let mut fields = format!("X-Version: {version}\r\nSurrogate-Key: all s{}\r\n", number % 100);
        let freshness = match number % 20 {
            0 => "no-store",
            1 | 2 => "max-age=1",
            3 => "max-age=1, stale-while-revalidate=30",
            _ => "max-age=3600",
        };
        // Writing to a String cannot fail.
        write!(fields, "Cache-Control: {freshness}\r\n").unwrap_or_default();
        let asked = object.asked.fetch_add(1, Ordering::Relaxed);
        let fault = match Seed::of(path, asked).below(1000) {
            _ if !faults || method != "GET" => None,
            0..4 => Some(Fault::Status),
            4..6 => Some(Fault::Close),
            6..10 => Some(Fault::Cut),
            _ => None,
        };
        if fault.is_some() {
            object.failed.store(now_ms(), Ordering::SeqCst);
        }
        let seed = Seed::of(path, version);
        let delay = Duration::from_millis(seed.below(4));
        Some(Plan { length: length(path, version), seed, tag: format!("{number}-{version}"), fields, delay, fault })
    }
}

/// Runs it.
pub fn run(soak: &Soak, objects: &Objects) -> io::Result<Report> {
    let all = Mutex::new(Report::default());
    let end = Instant::now() + soak.time;
    epoch();
    thread::scope(|scope| {
        for me in 0..soak.clients {
            let all = &all;
            thread::Builder::new().name(format!("soak-{me}")).spawn_scoped(scope, move || {
                let report = Worker::new(soak, objects, me).run(end);
                all.lock().unwrap_or_else(PoisonError::into_inner).add(report);
            })?;
        }
        Ok::<_, io::Error>(())
    })?;
    Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
}

struct Worker<'a> {
    soak: &'a Soak,
    objects: &'a Objects,
    me: u64,
    client: Client,
    admins: Vec<Client>,
    dice: Dice,
    report: Report,
}

impl<'a> Worker<'a> {
    fn new(soak: &'a Soak, objects: &'a Objects, me: u64) -> Self {
        let admins = soak.purge.iter().flat_map(|purge| &purge.admins);
        Self {
            soak,
            objects,
            me,
            client: Client::new(soak.edge, &soak.host),
            admins: admins.map(|admin| Client::new(*admin, "admin")).collect(),
            dice: Dice::new(me),
            report: Report::default(),
        }
    }

    fn run(mut self, end: Instant) -> Report {
        while Instant::now() < end {
            let number = self.dice.zipf(self.objects.0.len() as u64);
            match self.dice.below(100) {
                0..3 => self.change(number, false),
                3..5 => self.change(number, self.soak.purge.is_some()),
                5..12 => self.get(number, "HEAD", None),
                12..24 => {
                    let least = length_min(&path(number));
                    let from = self.dice.below(least);
                    let last = (from + self.dice.below(least)).min(least - 1);
                    self.get(number, "GET", Some((from, last)));
                }
                _ => self.get(number, "GET", None),
            }
        }
        self.report
    }

    /// Raises the version of one of its own objects, and has it invalidated.
    fn change(&mut self, near: u64, by_purge: bool) {
        let number = near - near % self.soak.clients + self.me;
        let Some(object) = self.objects.0.get(number as usize) else { return };
        let path = path(number);
        let version = object.version.fetch_add(1, Ordering::SeqCst) + 1;
        let done = if by_purge { self.purge(&path) } else { self.unsafe_method(&path) };
        match done {
            Ok(()) => {
                object.promised.store(version, Ordering::SeqCst);
                *(if by_purge { &mut self.report.purges } else { &mut self.report.changes }) += 1;
            }
            // Not acknowledged, nothing promised; but a node that refuses is not what the soak is for.
            Err(text) => self.report.fault(format!("{path}: {text}")),
        }
    }

    fn unsafe_method(&mut self, path: &str) -> Result<(), String> {
        match self.client.ask("DELETE", path, "", "") {
            Ok(answer) if answer.status == 204 => Ok(()),
            other => Err(format!("DELETE: {other:?}")),
        }
    }

    fn purge(&mut self, path: &str) -> Result<(), String> {
        let Some(purge) = &self.soak.purge else { return Ok(()) };
        let content = purge.content.replace("PATH", path);
        for admin in &mut self.admins {
            match admin.ask("POST", "/v1/purge", &purge.fields, &content) {
                Ok(answer) if answer.status / 100 == 2 => {}
                other => return Err(format!("purge: {other:?}")),
            }
        }
        Ok(())
    }

    fn get(&mut self, number: u64, method: &str, range: Option<(u64, u64)>) {
        let Some(object) = self.objects.0.get(number as usize) else { return };
        let path = path(number);
        let oldest = object.promised.load(Ordering::SeqCst);
        let mut fields = range.map_or(String::new(), |(from, last)| format!("Range: bytes={from}-{last}\r\n"));
        let conditional = range.is_none() && self.dice.below(8) == 0;
        if conditional {
            let version = object.version.load(Ordering::SeqCst);
            // Writing to a String cannot fail.
            write!(fields, "If-None-Match: \"{number}-{version}\"\r\n").unwrap_or_default();
        }
        let began = Instant::now();
        let got = self.client.ask(method, &path, &fields, "");
        let newest = object.version.load(Ordering::SeqCst);
        // As far back as a failure may have begun that is heard of now.
        let since = now_ms().saturating_sub((began.elapsed() + EXPLAINS).as_millis() as u64);
        let explained = object.failed.load(Ordering::SeqCst) >= since.max(1);
        let what = || format!("{method} {path} {range:?} after {:?}, promised {oldest}", began.elapsed());
        match got {
            Ok(answer) if answer.status >= 500 && explained => self.report.explained += 1,
            Err(Failure::Cut(_)) if explained => self.report.explained += 1,
            Ok(answer) => match judge(&answer, &path, method, range, oldest..=newest) {
                Ok(()) => {
                    self.report.right += 1;
                    self.report.bytes += answer.body.len() as u64;
                    let members = answer.field("cache-status").unwrap_or_default();
                    self.report.hits += u64::from(members.contains("; hit"));
                    self.report.parts += u64::from(answer.status == 206);
                    self.report.unchanged += u64::from(answer.status == 304);
                }
                Err(text) => {
                    let status = answer.field("cache-status").unwrap_or_default().to_owned();
                    self.report.fault(format!("{}: {text}; {status}", what()));
                }
            },
            Err(failure) => self.report.fault(format!("{}: {failure:?}", what())),
        }
    }
}

fn path(number: u64) -> String {
    format!("/s/{number}")
}

fn judge(
    answer: &Answer,
    path: &str,
    method: &str,
    range: Option<(u64, u64)>,
    versions: std::ops::RangeInclusive<u64>,
) -> Result<(), String> {
    let said = answer.field("x-version").and_then(|text| text.parse::<u64>().ok());
    let number = path.rsplit('/').next().unwrap_or_default();
    let tagged = answer
        .field("etag")
        .and_then(|tag| tag.trim_matches('"').strip_prefix(number)?.strip_prefix('-')?.parse::<u64>().ok());
    let version = said.or(tagged).ok_or_else(|| format!("a {} without a version", answer.status))?;
    if !versions.contains(&version) {
        return Err(format!("version {version} is not in {versions:?}"));
    }
    if tagged.is_some_and(|tagged| tagged != version) {
        return Err(format!("version {version} under the tag of {tagged:?}"));
    }
    let whole = length(path, version);
    let (from, until) = match (answer.status, range) {
        (304, None) => return Ok(()),
        (200, _) => (0, whole),
        (206, Some((from, last))) => {
            let expected = format!("bytes {from}-{last}/{whole}");
            if answer.field("content-range") != Some(&expected) {
                return Err(format!("Content-Range {:?} instead of {expected}", answer.field("content-range")));
            }
            (from, last + 1)
        }
        (status, _) => return Err(format!("status {status}")),
    };
    if method == "HEAD" {
        let expected = whole.to_string();
        let right = answer.field("content-length").is_none_or(|length| length == expected);
        return if right { Ok(()) } else { Err(format!("Content-Length is not {expected}")) };
    }
    if answer.body != Seed::of(path, version).bytes(from, until) {
        return Err(format!("{} bytes that are not {from}..{until} of version {version}", answer.body.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Straight at the origin everything is right; and the judge sees what is not.
    #[test]
    fn an_origin_is_right_by_itself() {
        let (origin, objects) = origin(50, true).unwrap();
        let time = Duration::from_millis(300);
        let soak = Soak { edge: origin.address(), host: "origin".to_owned(), purge: None, time, clients: 4 };
        // Until it has done everything once: how much it does in a while is the machine's to say.
        let is_enough = |report: &Report| report.right > 0 && report.changes > 0 && report.parts > 0;
        let mut report = Report::default();
        while !is_enough(&report) {
            report = run(&soak, &objects).unwrap();
            let closed = report.faults.iter().filter(|fault| fault.contains("NoHead")).count() as u64;
            assert_eq!(report.wrong - closed, 0, "{report}");
        }
    }

    #[test]
    fn what_is_wrong_is_seen() {
        let (origin, objects) = origin(10, false).unwrap();
        let mut client = Client::new(origin.address(), "origin");
        let right = client.ask("GET", "/s/4", "", "").unwrap();
        assert_eq!(judge(&right, "/s/4", "GET", None, 0..=0), Ok(()));
        assert!(judge(&right, "/s/4", "GET", None, 1..=1).unwrap_err().contains("version 0"));
        assert!(judge(&right, "/s/5", "GET", None, 0..=0).is_err());
        let mut flipped = right.clone();
        flipped.body[77] ^= 1;
        assert!(judge(&flipped, "/s/4", "GET", None, 0..=0).unwrap_err().contains("bytes that are not"));
        let mut short = right;
        short.body.pop();
        assert!(judge(&short, "/s/4", "GET", None, 0..=0).is_err());
        objects.0[4].version.store(1, Ordering::SeqCst);
        assert_eq!(client.ask("GET", "/s/4", "", "").unwrap().field("x-version"), Some("1"));
    }
}
