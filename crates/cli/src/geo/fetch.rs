//! `perigee geo fetch`: a database from MaxMind's download service, or from anywhere, into its place; or nothing at all.
//!
//! Everything happens beside the place, and the last step is a rename: whoever has the old file open keeps it whole, and a
//! nameserver that watches the place never sees half of a file.

use std::{
    fs::{self, File},
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail, ensure};
use perigee_node::{clock, report};
use reqwest::Url;
use sha2::{Digest as _, Sha256};
use tokio::signal::unix::{SignalKind, signal};

mod http;
mod unpack;

use http::{Client, Credentials};

use super::{
    args::GeoFetchArgs,
    file::{Known, date},
};

const ARCHIVE_BYTES_MAX: u64 = 2 << 30;
const CHECKSUM_BYTES_MAX: usize = 4096;
/// After a failure, unless the next look comes sooner.
const RETRY: Duration = Duration::from_secs(3600);
const PROGRESS: Duration = Duration::from_millis(100);

/// Fetches once, or again and again until the process is told to end.
pub(crate) async fn fetch(args: &GeoFetchArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        // What is half done is taken away by being dropped.
        _ = terminate.recv() => bail!("told to end"),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            bail!("interrupted")
        }
        done = fetch_until_done(args, out) => done,
    }
}

async fn fetch_until_done(args: &GeoFetchArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let client = Client::new(args.ca.as_deref())?;
    loop {
        let done = once(&client, args).await;
        let Some(every) = args.every else { return Ok(writeln!(out, "{}", done?)?) };
        let pause = match done {
            Ok(said) => {
                writeln!(out, "{said}")?;
                out.flush()?;
                every
            }
            Err(error) => {
                let pause = every.min(RETRY);
                let reason = report::line(error.as_ref());
                writeln!(io::stderr(), "perigee: {reason}; trying again in {} s", pause.as_secs())?;
                pause
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// What is to be asked for.
struct Source {
    archive: Url,
    checksum: Option<Url>,
    credentials: Option<Credentials>,
}

impl Source {
    fn of(args: &GeoFetchArgs) -> anyhow::Result<Self> {
        let parse = |url: &str| url.parse::<Url>().with_context(|| format!("{url:?} is no URL"));
        if let Some(url) = &args.url {
            let today = date(clock::now_ms() / 1_000);
            let dated = |url: &String| {
                let (year, month) = (today.get(..4).unwrap_or_default(), today.get(5..7).unwrap_or_default());
                parse(&url.replace("%Y", year).replace("%m", month))
            };
            let checksum = args.checksum_url.as_ref().map(dated).transpose()?;
            // MaxMind's key is for MaxMind.
            return Ok(Self { archive: dated(url)?, checksum, credentials: None });
        }
        let stem = args.database.file_stem().and_then(|stem| stem.to_str());
        let guessed = stem.filter(|stem| stem.starts_with("GeoLite2-") || stem.starts_with("GeoIP2-"));
        let edition = args.edition.as_deref().or(guessed).context(
            "which edition? name the file as MaxMind does (GeoLite2-City.mmdb), or add --edition GeoLite2-City, or --url",
        )?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        ensure!(edition.bytes().all(is_name), "{edition:?} is no edition; it takes a name like GeoLite2-City");
        let user = args
            .account_id
            .clone()
            .context("an account id is wanted: add --account-id, or PERIGEE_MAXMIND_ACCOUNT_ID")?;
        let password = key(args)?;
        let base = parse(&args.server)?;
        let of = |suffix: &str| base.join(&format!("/geoip/databases/{edition}/download?suffix={suffix}"));
        let credentials = Some(Credentials { user, password });
        Ok(Self { archive: of("tar.gz")?, checksum: Some(of("tar.gz.sha256")?), credentials })
    }
}

fn key(args: &GeoFetchArgs) -> anyhow::Result<String> {
    let text = match &args.license_key_file {
        Some(file) => fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?,
        None => std::env::var("PERIGEE_MAXMIND_LICENSE_KEY")
            .map_err(|_| anyhow!("a licence key is wanted: add --license-key-file, or PERIGEE_MAXMIND_LICENSE_KEY"))?,
    };
    let key = text.trim();
    ensure!(!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic()), "the licence key is empty or no key");
    Ok(key.to_owned())
}

/// What was done, in a line.
async fn once(client: &Client, args: &GeoFetchArgs) -> anyhow::Result<String> {
    let place = Place::of(&args.database)?;
    let source = Source::of(args)?;
    let old = Known::open(&args.database).ok();
    let checksum = match &source.checksum {
        Some(url) => Some(checksum(client, url, source.credentials.as_ref()).await?),
        None => None,
    };
    if let (Some(old), Some(checksum), false) = (&old, &checksum, args.force)
        && fs::read_to_string(&place.checksum).is_ok_and(|kept| kept.trim() == checksum)
    {
        return Ok(format!("{}: {} is there already", args.database.display(), described(old)));
    }
    let archive = Beside::create(place.archive.clone())?;
    download(client, &source, &archive, checksum.as_deref()).await?;
    let mut new = Beside::create(place.new.clone())?;
    unpack::unpack(&archive.path, &mut new.file)?;
    new.file.sync_all().context("the database cannot be written")?;
    let known = Known::open(&new.path).context("what was downloaded does not serve, the old database stays")?;
    if let Some(old) = &old {
        let (is, was) = (known.what(), old.what());
        ensure!(is == was, "what was downloaded is a database of {is}, and {} one of {was}", args.database.display());
    }
    let said = format!(
        "{}: {}, {} bytes{}",
        args.database.display(),
        described(&known),
        new.file.metadata()?.len(),
        if checksum.is_some() { ", checksum verified" } else { "; no checksum was named" }
    );
    // The old one's must not stand beside the new one, whatever happens in between.
    fs::remove_file(&place.checksum).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    fs::rename(&new.path, &args.database).with_context(|| format!("cannot replace {}", args.database.display()))?;
    if let Some(checksum) = checksum {
        super::replace(&place.checksum, format!("{checksum}\n").as_bytes())?;
    }
    Ok(said)
}

fn described(known: &Known) -> String {
    let info = known.info();
    format!("{} of {} ({})", info.kind, date(info.built_at_s), known.what())
}

async fn checksum(client: &Client, url: &Url, credentials: Option<&Credentials>) -> anyhow::Result<String> {
    let mut answer = client.get(url, credentials).await?;
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

async fn download(client: &Client, source: &Source, to: &Beside, checksum: Option<&str>) -> anyhow::Result<()> {
    let mut answer = client.get(&source.archive, source.credentials.as_ref()).await?;
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
    let found: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(expected) = checksum {
        let what = "what was downloaded is not what was published, the old database stays";
        ensure!(found == expected, "{what}: SHA-256 {found} instead of {expected}");
    }
    Ok(())
}

/// The files around a database.
struct Place {
    archive: PathBuf,
    new: PathBuf,
    checksum: PathBuf,
}

impl Place {
    fn of(database: &Path) -> anyhow::Result<Self> {
        let name = database.file_name().with_context(|| format!("{} is no file name", database.display()))?;
        let name = name.to_string_lossy();
        let beside = |name: String| database.with_file_name(name);
        Ok(Self {
            archive: beside(format!(".{name}.fetch-archive")),
            new: beside(format!(".{name}.fetch-new")),
            checksum: beside(format!("{name}.sha256")),
        })
    }
}

/// A file that is taken away again, whatever happens; one process has it at a time.
struct Beside {
    path: PathBuf,
    file: File,
}

impl Beside {
    fn create(path: PathBuf) -> anyhow::Result<Self> {
        let open = File::options().create(true).write(true).truncate(false).open(&path);
        let file = open.with_context(|| format!("cannot write {}", path.display()))?;
        if file.try_lock().is_err() {
            bail!("another process fetches into {}", path.display());
        }
        // What a process that was killed has left.
        file.set_len(0).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path, file })
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Renamed into its place, it is not there any more.
        fs::remove_file(&self.path).unwrap_or_default();
    }
}

/// A line that grows, where somebody watches.
struct Progress {
    bytes: Option<u64>,
    told: Option<Instant>,
    is_watched: bool,
}

impl Progress {
    fn new(bytes: Option<u64>) -> Self {
        Self { bytes, told: None, is_watched: io::stderr().is_terminal() }
    }

    fn tell(&mut self, done: u64) {
        if !self.is_watched || self.told.is_some_and(|told| told.elapsed() < PROGRESS) {
            return;
        }
        self.told = Some(Instant::now());
        let mega = |bytes: u64| bytes as f64 / 1e6;
        let of = self.bytes.map_or(String::new(), |bytes| format!(" of {:.1}", mega(bytes)));
        // Whoever has gone does not miss it.
        write!(io::stderr(), "\r{:.1}{of} MB ", mega(done)).unwrap_or_default();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.told.is_some() {
            writeln!(io::stderr()).unwrap_or_default();
        }
    }
}
