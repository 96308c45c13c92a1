//! `cargo xtask geo`: the real GeoLite2-City, for the tests that measure against real places.
//!
//! The last GeoLite2 under a free licence is of 2018 and lies in a Python package. It is never committed.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};

use crate::run::{output, root, succeed};

const PACKAGE: &str = "maxminddb-geolite2";
const VERSION: &str = "2018.703";
const FILE: &str = "GeoLite2-City.mmdb";

const ATTRIBUTION: &str = "\
This product includes GeoLite2 data created by MaxMind, available from https://www.maxmind.com,
licensed under CC BY-SA 4.0. It stays on this machine: .geo/ is ignored by git.";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    ensure!(arguments.is_empty(), "takes no arguments");
    let folder = root().join(".geo");
    let target = folder.join(FILE);
    if target.exists() {
        println!("{} is there already\n{ATTRIBUTION}", target.display());
        return Ok(());
    }
    // Beside the target, so that the last step is a rename and no half of a file is ever seen.
    let work = folder.join("fetching");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("cannot clear {}", work.display()))?;
    }
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    println!("fetching {PACKAGE} {VERSION} from PyPI ...");
    let fetched = fetch(&work).and_then(|found| {
        fs::rename(&found, &target).with_context(|| format!("cannot move {} to {}", found.display(), target.display()))
    });
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    fetched?;
    let bytes = fs::metadata(&target)?.len();
    println!("{} is there: {bytes} bytes\n{ATTRIBUTION}", target.display());
    Ok(())
}

fn fetch(work: &Path) -> Result<std::path::PathBuf> {
    let package = format!("{PACKAGE}=={VERSION}");
    let download = ["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", &package];
    succeed(Command::new("python3").args(download).current_dir(work)).context("needs python3 with pip, and PyPI")?;
    let archive = list(work)?.into_iter().find(|path| path.to_string_lossy().ends_with(".tar.gz"));
    let Some(archive) = archive else { bail!("pip has left no source archive in {}", work.display()) };
    let names = output(Command::new("tar").arg("-tzf").arg(&archive))?;
    let Some(member) = names.lines().find(|name| name.rsplit('/').next() == Some(FILE)) else {
        bail!("there is no {FILE} in {}", archive.display());
    };
    succeed(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(work).arg(member))?;
    Ok(work.join(member))
}

fn list(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}
