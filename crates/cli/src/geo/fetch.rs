//! `perigee geo fetch`: a database from MaxMind's download service, or from anywhere, into its place; or nothing at all.
//!
//! Everything happens beside the place, and the last step is a rename: whoever has the old file open keeps it whole, and a
//! nameserver that watches the place never sees half of a file.

use std::{
    cell::RefCell,
    fs,
    io::{self, Write},
    time::Duration,
};

use ::http::{HeaderMap, header};
use anyhow::{Context, bail, ensure};
use futures_util::future::try_join_all;
use perigee_node::report;
use reqwest::Url;
use sha2::{Digest as _, Sha256};
use tokio::signal::unix::{SignalKind, signal};

mod aside;
mod beside;
mod http;
mod progress;
mod source;
mod unpack;

use self::{
    aside::aside,
    beside::{Beside, Place},
    http::{Client, Credentials, Later},
    progress::Progress,
    source::{Job, Source, jobs},
};

use super::{
    args::GeoFetchArgs,
    file::{Known, date},
};

const ARCHIVE_BYTES_MAX: u64 = 2 << 30;
/// Of a checksum, and of what is kept of a download.
const CHECKSUM_BYTES_MAX: usize = 4096;
/// After the first failure, and after many, unless the next look comes sooner.
const RETRY_FIRST: Duration = Duration::from_secs(60);
const RETRY_MAX: Duration = Duration::from_secs(3600);

/// Fetches once, or again and again until the process is told to end. False when one could not be fetched, which is told.
pub(crate) async fn fetch(args: &GeoFetchArgs, out: &mut impl Write) -> anyhow::Result<bool> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        // What is half done is taken away by being dropped. For whoever goes on and on, this is the way to end.
        _ = terminate.recv() => match args.every {
            Some(_) => Ok(true),
            None => bail!("told to end"),
        },
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            bail!("interrupted")
        }
        done = fetch_all(args, out) => done,
    }
}

async fn fetch_all(args: &GeoFetchArgs, out: &mut impl Write) -> anyhow::Result<bool> {
    let jobs = jobs(args)?;
    let client = Client::new(args.ca.as_deref())?;
    if let Some(every) = args.every {
        // Each by itself: what one server refuses is no reason for another database to grow old.
        let out = RefCell::new(out);
        try_join_all(jobs.iter().map(|job| again_and_again(&client, args, job, every, &out))).await?;
        return Ok(true);
    }
    // Who does not read what is said keeps no other database from being fetched.
    let (mut is_done, mut written) = (true, Ok(()));
    for job in &jobs {
        match once(&client, args, job).await {
            Ok(said) => written = written.and(writeln!(out, "{said}")),
            Err(error) if jobs.len() == 1 => return Err(error),
            Err(error) => {
                is_done = false;
                writeln!(io::stderr(), "perigee: {}: {}", job.place.display(), report::line(error.as_ref()))?;
            }
        }
    }
    if is_done {
        written?;
    }
    Ok(is_done)
}

/// Ends only when nobody can be told of it.
async fn again_and_again(
    client: &Client,
    args: &GeoFetchArgs,
    job: &Job,
    every: Duration,
    out: &RefCell<&mut impl Write>,
) -> anyhow::Result<()> {
    let mut failed_in_a_row = 0;
    loop {
        let pause = match once(client, args, job).await {
            Ok(said) => {
                let mut out = out.borrow_mut();
                writeln!(out, "{said}")?;
                out.flush()?;
                failed_in_a_row = 0;
                every
            }
            Err(error) => {
                failed_in_a_row += 1;
                let wish = error.chain().find_map(|cause| cause.downcast_ref::<Later>()).map(|later| later.after);
                let pause = pause(failed_in_a_row, every, wish);
                let (place, reason) = (job.place.display(), report::line(error.as_ref()));
                writeln!(io::stderr(), "perigee: {place}: {reason}; trying again in {} s", pause.as_secs())?;
                pause
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// After so many failures in a row: longer and longer, and as long as the server wishes for.
fn pause(failed_in_a_row: u32, every: Duration, wish: Option<Duration>) -> Duration {
    let doubled = RETRY_FIRST.saturating_mul(1 << failed_in_a_row.saturating_sub(1).min(16));
    doubled.min(RETRY_MAX).min(every).max(wish.unwrap_or_default())
}

/// What was done, in a line.
async fn once(client: &Client, args: &GeoFetchArgs, job: &Job) -> anyhow::Result<String> {
    let place = Place::of(&job.place)?;
    let source = Source::of(args, job)?;
    // These take away, too, what a process that was killed has left.
    let archive = Beside::create(place.archive.clone())?;
    let new = Beside::create(place.new.clone())?;
    drop(Beside::create(place.note.clone())?);
    let database = place.database.clone();
    let old = aside(move |_| Ok(Known::open(&database).ok())).await?;
    let checksum = match &source.checksum {
        Some(url) => Some(checksum(client, url, source.credentials.as_ref()).await?),
        None => None,
    };
    let there = |old| format!("{}: {} is there already", job.place.display(), described(old));
    let is_wanted = args.force || old.is_none();
    if let (Some(old), Some(checksum), false) = (&old, &checksum, is_wanted)
        && place.kept(&place.checksum).is_some_and(|kept| kept.trim() == checksum)
    {
        return Ok(there(old));
    }
    let origin = Origin::of(&source.archive);
    let conditions = match place.kept(&place.origin) {
        Some(kept) if !is_wanted && checksum.is_none() => origin.conditions(&kept),
        _ => HeaderMap::new(),
    };
    let Some(validators) = download(client, &source, &conditions, &archive, checksum.as_deref()).await? else {
        return old.as_ref().map(there).context("the server says that nothing changed, though nothing is there");
    };
    let packed = archive.path.clone();
    let (new, known) = aside(move |ended| {
        let mut new = new;
        unpack::unpack(&packed, &mut new.file, ended)?;
        new.file.sync_all().context("the database cannot be written")?;
        let known = Known::open(&new.path).context("what was downloaded does not serve, the old database stays")?;
        Ok((new, known))
    })
    .await?;
    check_kind(job, &source, old.as_ref(), &known)?;
    for warning in old.iter().flat_map(|old| losses(old, &known)) {
        writeln!(io::stderr(), "perigee: {}: {warning}", job.place.display()).unwrap_or_default();
    }
    let said = format!(
        "{}: {}, {} bytes{}",
        job.place.display(),
        described(&known),
        new.file.metadata()?.len(),
        if checksum.is_some() { ", checksum verified" } else { "; no checksum was named" }
    );
    put(&place, &new, checksum.as_deref(), origin.kept(&validators).as_deref())?;
    Ok(said)
}

/// The new database into the old one's place, and then what is known of it beside it.
fn put(place: &Place, new: &Beside, checksum: Option<&str>, origin: Option<&str>) -> anyhow::Result<()> {
    // Whoever may read the old one may read the new one.
    if let Ok(old) = fs::metadata(&place.database) {
        new.file.set_permissions(old.permissions()).context("the old database's mode cannot be kept")?;
    }
    // What is known of the old one must not stand beside the new one, whatever happens in between.
    for known in [&place.checksum, &place.origin] {
        fs::remove_file(known).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error).with_context(|| format!("cannot remove {}", known.display())),
        })?;
    }
    fs::rename(&new.path, &place.database).with_context(|| format!("cannot replace {}", place.database.display()))?;
    for (path, text) in [(&place.checksum, checksum), (&place.origin, origin)] {
        let Some(text) = text else { continue };
        let note = Beside::create(place.note.clone())?;
        (&note.file)
            .write_all(format!("{text}\n").as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        fs::rename(&note.path, path).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// That it is a database of what was asked for, and of what is there.
fn check_kind(job: &Job, source: &Source, old: Option<&Known>, new: &Known) -> anyhow::Result<()> {
    let is = new.what();
    if let Some(old) = old {
        let was = old.what();
        ensure!(is == was, "what was downloaded is a database of {is}, and {} one of {was}", job.place.display());
    }
    let edition = source.edition.as_deref().unwrap_or_default();
    let wanted = match edition.split('-').nth(1) {
        Some("ASN") => Some("autonomous systems"),
        Some("City" | "Country" | "Enterprise") => Some("places"),
        _ => None,
    };
    let fits = wanted.is_none_or(|wanted| wanted == is);
    ensure!(fits, "what was downloaded as {edition} is a database of {is}, the old database stays");
    Ok(())
}

/// In what the new one is less than the old one: taken all the same, since publishers do that, and said.
fn losses(old: &Known, new: &Known) -> Vec<String> {
    let (was, is) = (old.info(), new.info());
    let mut said = Vec::new();
    if is.built_at_s < was.built_at_s {
        said.push(format!("the new one is of {}, the old one of {}", date(is.built_at_s), date(was.built_at_s)));
    }
    if is.nodes < was.nodes / 2 {
        said.push(format!("the new one has {} nodes, the old one {}: less than half", is.nodes, was.nodes));
    }
    if let (Known::Places(was), Known::Places(is)) = (old, new)
        && was.level() != is.level()
    {
        said.push(format!("the new one knows {}, the old one {}", is.level().as_str(), was.level().as_str()));
    }
    said
}

fn described(known: &Known) -> String {
    let info = known.info();
    format!("{} of {} ({})", info.kind, date(info.built_at_s), known.what())
}

/// Where a database came from, as far as that can be told to anybody: URLs may have keys in them.
struct Origin {
    digest: String,
}

impl Origin {
    fn of(url: &Url) -> Self {
        Self { digest: hex(&Sha256::digest(url.as_str().as_bytes())) }
    }

    /// What is kept of it; None where the server named nothing to ask by.
    fn kept(&self, [etag, modified]: &[Option<String>; 2]) -> Option<String> {
        let or_empty = |value: &Option<String>| value.clone().unwrap_or_default();
        (etag.is_some() || modified.is_some())
            .then(|| [&*self.digest, &*or_empty(etag), &*or_empty(modified)].join("\n"))
    }

    /// RFC 9110 §13.1: asks whether what is kept is still what there is; nothing where it is from elsewhere.
    fn conditions(&self, kept: &str) -> HeaderMap {
        let mut lines = kept.lines();
        if lines.next() != Some(&self.digest) {
            return HeaderMap::new();
        }
        let named = [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE].into_iter().zip(lines);
        let set = named.filter(|(_, value)| !value.is_empty());
        set.filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn checksum(client: &Client, url: &Url, credentials: Option<&Credentials>) -> anyhow::Result<String> {
    let mut answer = client.get(url, credentials, &HeaderMap::new()).await?;
    let mut text = Vec::new();
    while let Some(piece) = answer.piece().await? {
        text.extend_from_slice(&piece);
        ensure!(text.len() <= CHECKSUM_BYTES_MAX, "{} is longer than a checksum", answer.from);
    }
    // As sha256sum writes: the digest, and the name of the file.
    let text = String::from_utf8_lossy(&text).to_lowercase();
    let digest = text.split_whitespace().next().unwrap_or_default();
    let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    ensure!(is_digest, "{} does not begin with a SHA-256", answer.from);
    Ok(digest.to_owned())
}

/// What can be asked by the next time; None where the server says that nothing changed.
async fn download(
    client: &Client,
    source: &Source,
    conditions: &HeaderMap,
    to: &Beside,
    checksum: Option<&str>,
) -> anyhow::Result<Option<[Option<String>; 2]>> {
    let mut answer = client.get(&source.archive, source.credentials.as_ref(), conditions).await?;
    if answer.is_unchanged {
        return Ok(None);
    }
    let (mut file, mut digest, mut progress) = (&to.file, Sha256::new(), Progress::new(answer.bytes));
    let mut total = 0_u64;
    while let Some(piece) = answer.piece().await? {
        total += piece.len() as u64;
        ensure!(total <= ARCHIVE_BYTES_MAX, "{} sends more than {ARCHIVE_BYTES_MAX} bytes", answer.from);
        digest.update(&piece);
        file.write_all(&piece).with_context(|| format!("cannot write {}", to.path.display()))?;
        progress.tell(total);
    }
    drop(progress);
    let found = hex(&digest.finalize());
    if let Some(expected) = checksum {
        let what = "what was downloaded is not what was published, the old database stays";
        ensure!(found == expected, "{what}: SHA-256 {found} instead of {expected}");
    }
    Ok(Some(answer.validators))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow() {
        let check = |failed: u32, every_s: u64, wish_s: Option<u64>, expected_s: u64| {
            let pause = pause(failed, Duration::from_secs(every_s), wish_s.map(Duration::from_secs));
            assert_eq!(pause.as_secs(), expected_s, "{failed} {every_s} {wish_s:?}");
        };
        let days = 3 * 86_400;
        check(1, days, None, 60);
        check(2, days, None, 120);
        check(6, days, None, 1_920);
        check(7, days, None, 3_600);
        check(u32::MAX, days, None, 3_600);
        check(7, 600, None, 600);
        check(1, days, Some(7_200), 7_200);
        check(7, days, Some(1), 3_600);
    }

    #[test]
    fn what_is_asked_by_is_of_the_same_url() {
        let url: Url = "https://a.example/x?key=SECRET".parse().unwrap();
        let origin = Origin::of(&url);
        let kept = origin.kept(&[Some("\"1\"".into()), Some("Sun, 06 Nov 1994 08:49:37 GMT".into())]).unwrap();
        assert!(!kept.contains("SECRET"), "{kept}");
        let conditions = origin.conditions(&kept);
        assert_eq!((conditions.len(), &conditions[header::IF_NONE_MATCH]), (2, &"\"1\"".parse().unwrap()));
        assert_eq!(Origin::of(&"https://a.example/y".parse().unwrap()).conditions(&kept).len(), 0);
        let kept = origin.kept(&[None, Some("x".into())]).unwrap();
        assert_eq!(origin.conditions(&kept).keys().collect::<Vec<_>>(), [header::IF_MODIFIED_SINCE]);
        assert_eq!(origin.kept(&[None, None]), None);
        assert_eq!(origin.conditions("").len(), 0);
    }
}
