//! What a run of `perigee geo fetch` is to get, from where, and with which key.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use perigee_node::clock;
use reqwest::Url;

use super::{
    super::{args::GeoFetchArgs, file::date},
    http::Credentials,
};

/// The most editions of one run; MaxMind has no more that a nameserver could read.
const EDITIONS_MAX: usize = 8;

/// One database: where it belongs, and MaxMind's name for it where one was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) place: PathBuf,
    edition: Option<String>,
}

/// One for each edition; in a folder each has a file of its own name.
pub(super) fn jobs(args: &GeoFetchArgs) -> anyhow::Result<Vec<Job>> {
    let (place, editions) = (&args.database, &args.edition);
    ensure!(
        editions.len() <= EDITIONS_MAX,
        "{} editions are named; one run takes at most {EDITIONS_MAX}",
        editions.len()
    );
    let twice =
        editions.iter().enumerate().find(|(index, edition)| editions.iter().take(*index).any(|it| it == *edition));
    if let Some((_, twice)) = twice {
        anyhow::bail!("{twice} is named twice");
    }
    for edition in editions {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let fits = !edition.is_empty() && edition.bytes().all(is_name);
        ensure!(fits, "{edition:?} is no edition; it takes a name like GeoLite2-City");
    }
    if place.is_dir() && !editions.is_empty() {
        let job =
            |edition: &String| Job { place: place.join(format!("{edition}.mmdb")), edition: Some(edition.clone()) };
        return Ok(editions.iter().map(job).collect());
    }
    ensure!(
        editions.len() < 2,
        "{} editions are wanted, and {} is no folder to put them into",
        editions.len(),
        place.display()
    );
    Ok(vec![Job { place: place.clone(), edition: editions.first().cloned() }])
}

/// What is to be asked for.
pub(super) struct Source {
    pub(super) archive: Url,
    pub(super) checksum: Option<Url>,
    pub(super) credentials: Option<Credentials>,
    /// MaxMind's name for it.
    pub(super) edition: Option<String>,
}

impl Source {
    pub(super) fn of(args: &GeoFetchArgs, job: &Job) -> anyhow::Result<Self> {
        let parse = |url: &str| url.parse::<Url>().with_context(|| format!("{url:?} is no URL"));
        if let Some(url) = &args.url {
            let today = date(clock::now_ms() / 1_000);
            let dated = |url: &String| {
                let (year, month) = (today.get(..4).unwrap_or_default(), today.get(5..7).unwrap_or_default());
                parse(&url.replace("%Y", year).replace("%m", month))
            };
            let checksum = args.checksum_url.as_ref().map(dated).transpose()?;
            // MaxMind's key is for MaxMind.
            return Ok(Self { archive: dated(url)?, checksum, credentials: None, edition: None });
        }
        let stem = job.place.file_stem().and_then(|stem| stem.to_str());
        let guessed = stem.filter(|stem| stem.starts_with("GeoLite2-") || stem.starts_with("GeoIP2-"));
        let edition = job.edition.as_deref().or(guessed).context(
            "which edition? name the file as MaxMind does (GeoLite2-City.mmdb), or add --edition GeoLite2-City, or --url",
        )?;
        let user = args
            .account_id
            .clone()
            .context("an account id is wanted: add --account-id, or PERIGEE_MAXMIND_ACCOUNT_ID")?;
        let password = key(args)?;
        let base = parse(&args.server)?;
        let of = |suffix: &str| base.join(&format!("/geoip/databases/{edition}/download?suffix={suffix}"));
        let credentials = Some(Credentials { user, password });
        Ok(Self {
            archive: of("tar.gz")?,
            checksum: Some(of("tar.gz.sha256")?),
            credentials,
            edition: Some(edition.to_owned()),
        })
    }
}

fn key(args: &GeoFetchArgs) -> anyhow::Result<String> {
    let text = match &args.license_key_file {
        Some(file) => fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?,
        None => match std::env::var("PERIGEE_MAXMIND_LICENSE_KEY") {
            Ok(key) => key,
            Err(_) => credential()?
                .context("a licence key is wanted: add --license-key-file, or PERIGEE_MAXMIND_LICENSE_KEY")?,
        },
    };
    let key = text.trim();
    ensure!(!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic()), "the licence key is empty or no key");
    Ok(key.to_owned())
}

/// What systemd's `LoadCredential=maxmind.key:…` hands over. An empty one is none: our unit has it where there is no such file.
fn credential() -> anyhow::Result<Option<String>> {
    let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY") else { return Ok(None) };
    let file = Path::new(&folder).join("maxmind.key");
    match fs::read_to_string(&file) {
        Ok(key) => Ok(Some(key).filter(|key| !key.trim().is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> GeoFetchArgs {
        use clap::{Args as _, FromArgMatches as _};
        let command = GeoFetchArgs::augment_args(clap::Command::new("fetch")).no_binary_name(true);
        GeoFetchArgs::from_arg_matches(&command.get_matches_from(line.split_whitespace())).unwrap()
    }

    #[test]
    fn every_edition_has_a_place() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().to_str().unwrap();
        let check = |line: &str, expected: Result<&[(&str, Option<&str>)], &str>| {
            let line = line.replace("FOLDER", folder);
            match (jobs(&args(&line)), expected) {
                (Ok(jobs), Ok(expected)) => {
                    let expected = expected.iter().map(|(place, edition)| Job {
                        place: place.replace("FOLDER", folder).into(),
                        edition: edition.map(str::to_owned),
                    });
                    assert_eq!(jobs, expected.collect::<Vec<_>>(), "{line}");
                }
                (Err(error), Err(expected)) => assert!(format!("{error:#}").contains(expected), "{line}: {error:#}"),
                (found, _) => panic!("{line}: {found:?}"),
            }
        };
        check("x.mmdb", Ok(&[("x.mmdb", None)]));
        check("x.mmdb --edition GeoLite2-City", Ok(&[("x.mmdb", Some("GeoLite2-City"))]));
        // A folder without an edition is told apart later, as a name that is nobody's.
        check("FOLDER", Ok(&[("FOLDER", None)]));
        check("FOLDER --edition A", Ok(&[("FOLDER/A.mmdb", Some("A"))]));
        let both: &[_] = &[("FOLDER/A.mmdb", Some("A")), ("FOLDER/B.mmdb", Some("B"))];
        check("FOLDER --edition A --edition B", Ok(both));
        check("FOLDER --edition A,B", Ok(both));
        check("FOLDER/x.mmdb --edition A,B", Err("2 editions are wanted"));
        check("FOLDER --edition A,B,A", Err("A is named twice"));
        check("FOLDER --edition A,", Err("\"\" is no edition"));
        check("FOLDER --edition ../A", Err("\"../A\" is no edition"));
        let of = |count: usize| {
            format!("FOLDER --edition {}", (0..count).map(|it| it.to_string()).collect::<Vec<_>>().join(","))
        };
        assert_eq!(jobs(&args(&of(EDITIONS_MAX).replace("FOLDER", folder))).unwrap().len(), EDITIONS_MAX);
        check(&of(EDITIONS_MAX + 1), Err("at most 8"));
    }
}
