//! `cargo xtask bench`: our edge and other caches on the same work, one core for the server and one for the load, in turns;
//! the soak; figures of the edge alone; and a count of instructions that noise cannot move.
//!
//! A machine's speed drifts; a ratio of two that ran one after the other drifts less, and CPU time per request less than
//! requests per second. So rounds alternate, each gives a ratio, and the median is the figure.

mod dns;
mod figures;
mod instructions;
mod load;
mod peers;
mod report;
mod scenarios;
mod server;
mod soak;

use std::{
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result, bail, ensure};

pub(crate) use self::instructions::check as check_instructions;
use crate::run::{cargo, root, succeed};

const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";

const HELP: &str = "\
cargo xtask bench http [--scenario NAME]... [--peers NAME,...] [--rounds N] [--seconds N] [--quick] [--json] [--no-build]
cargo xtask bench dns [--scenario NAME]... [--peers NAME,...] [--rounds N] [--seconds N] [--quick] [--json] [--no-build]
cargo xtask bench soak [--minutes N | --seconds N] [--objects N] [--no-build]
cargo xtask bench figures [--quick] [--no-build]
cargo xtask bench instructions [--accept]
";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (bench, rest) = arguments.split_first().map_or(("http", &[][..]), |(first, rest)| (first.as_str(), rest));
    match bench {
        "http" => scenarios::run(rest),
        "dns" => dns::run(rest),
        "soak" => soak::run(rest),
        "figures" => figures::run(rest),
        "instructions" => instructions::run(rest),
        // As it was before there were others.
        flag if flag.starts_with("--") => scenarios::run(arguments),
        other => bail!("there is no bench {other:?}\n\n{HELP}"),
    }
}

/// The folder with release binaries of edge and shield; they are built first unless they are said to be there.
fn binaries(build: bool) -> Result<PathBuf> {
    if build {
        eprintln!("build   perigee-edge and perigee-shield, profile release (the first time takes minutes)");
        succeed(cargo().args(["build", "--release", "--package", "perigee-edge", "--package", "perigee-shield"]))?;
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join("release"))
}

/// A core for the server and one for the load, and descriptors for thousands of connections.
fn prepare() -> Result<()> {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    ensure!(cores >= 2, "needs two cores: one for the server, one for the load");
    let (_, most) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, most, most)?;
    Ok(())
}

/// Removed at the end.
struct Folder(PathBuf);

impl Folder {
    /// On tmpfs where there is one, so that no disk is measured.
    fn in_memory() -> Result<Self> {
        let memory = Path::new("/dev/shm");
        Self::within(if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() })
    }

    fn on_disk() -> Result<Self> {
        Self::within(std::env::temp_dir())
    }

    fn within(base: PathBuf) -> Result<Self> {
        let folder = base.join(format!("perigee-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}

/// The value after a flag, as a number.
fn number<'a>(flag: &str, rest: &mut impl Iterator<Item = &'a String>) -> Result<u64> {
    let value = rest.next().with_context(|| format!("{flag} takes a number"))?;
    value.parse().with_context(|| format!("{flag} takes a number, not {value:?}"))
}
