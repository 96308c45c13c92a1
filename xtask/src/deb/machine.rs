//! A machine of Debian's own packages with systemd as its first process, for as long as a check lasts: debootstrap makes its
//! files once, systemd-nspawn boots them, and what is written there is gone afterwards.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::run::{output, root};

/// What the files are made of beside the smallest Debian.
const INCLUDE: &str = "systemd-sysv,logrotate";
/// What a machine needs of the one it runs on, with the Debian package that brings it.
pub(super) const PROGRAMS: [(&str, &str); 5] = [
    ("debootstrap", "debootstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("ip", "iproute2"),
    ("curl", "curl"),
    ("dig", "bind9-dnsutils"),
];
/// Longest wait for anything that is to happen in the machine.
const WAIT_BOUND: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// A machine at work. Dropped, it is shut down.
pub(super) struct Machine {
    child: Child,
    /// Its first process, as this machine numbers it.
    first: String,
}

impl Machine {
    /// Boots a machine that sees `packages` as `/deb`, has `addresses`, and no network.
    pub(super) fn boot(packages: &Path, addresses: &[&str]) -> Result<Self> {
        let files = files()?;
        let mut command = as_root("systemd-nspawn");
        command.args([
            "--quiet",
            "--boot",
            "--private-network",
            "--volatile=overlay",
            "--register=no",
            "--settings=no",
        ]);
        command.args(["--console=pipe", "--link-journal=no", "--resolv-conf=off", "--timezone=off"]);
        if !Path::new("/run/systemd/system").exists() {
            // Nobody here makes a scope for it.
            command.arg("--keep-unit");
        }
        command
            .arg(format!("--machine=perigee-{}", std::process::id()))
            .arg(format!("--directory={}", files.display()));
        command.arg(format!("--bind-ro={}:/deb", packages.display()));
        let log = fs::File::create(packages.join("machine.log"))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        let mut machine = Self { child, first: String::new() };
        machine.first = until("systemd being its first process", || {
            if let Some(status) = machine.child.try_wait()? {
                bail!("it ended with {status}: {}", fs::read_to_string(packages.join("machine.log"))?);
            }
            Ok(first_process(&machine.child.id().to_string()))
        })?;
        until("the machine being up", || {
            // Exits with 1 while it is anything else than running.
            let state = machine.command(&["systemctl", "is-system-running"]).output()?;
            let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
            Ok(["running", "degraded"].contains(&state.as_str()).then_some(()))
        })?;
        machine.host(&["ip", "link", "set", "lo", "up"])?;
        for address in addresses {
            machine.host(&["ip", "address", "add", &format!("{address}/32"), "dev", "lo"])?;
        }
        Ok(machine)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = as_root("nsenter");
        command.args(["--all", "--target", &self.first]).args(words);
        // What of this machine's folders and language would be told to its programs.
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// What a program of the machine prints; its failure is an error.
    pub(super) fn run(&self, words: &[&str]) -> Result<String> {
        output(&mut self.command(words))
    }

    /// As [`Self::run`], for a line of a shell, with the spaces at both ends gone.
    pub(super) fn sh(&self, line: &str) -> Result<String> {
        self.run(&["sh", "-ec", line]).map(|text| text.trim().to_owned())
    }

    /// A program of this machine's with the network of that one.
    pub(super) fn host_command(&self, words: &[&str]) -> Command {
        let mut command = as_root("nsenter");
        command.args(["--net", "--target", &self.first]).args(words);
        command
    }

    /// What it prints.
    pub(super) fn host(&self, words: &[&str]) -> Result<String> {
        output(&mut self.host_command(words)).map(|text| text.trim().to_owned())
    }

    /// The end of its journal, for whoever is to understand a failure.
    pub(super) fn journal(&self) -> String {
        self.sh("journalctl --no-pager --lines=60; systemctl --no-pager --full status 'perigee-*'; true")
            .unwrap_or_else(|error| format!("{error:#}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        // systemd-nspawn hands it on as the signal that shuts systemd down.
        let told = output(as_root("kill").args(["-TERM", &pid]));
        let ended = told.and_then(|_| until("its end", || Ok(self.child.try_wait()?.map(drop))));
        if ended.is_err() {
            drop(output(as_root("kill").args(["-KILL", &pid])));
            drop(self.child.wait());
        }
    }
}

/// Looks until there is something.
pub(super) fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let from = Instant::now();
    loop {
        if let Some(found) = look().with_context(|| format!("waiting for {what}"))? {
            return Ok(found);
        }
        ensure!(from.elapsed() < WAIT_BOUND, "{what} does not happen");
        thread::sleep(LOOK);
    }
}

/// A program that only root may use as it is used here.
pub(super) fn as_root(program: &str) -> Command {
    let mut command = Command::new(program);
    if !nix::unistd::geteuid().is_root() {
        command = Command::new("sudo");
        command.args(["--non-interactive", program]);
    }
    // Where administrators' programs are, for users who have them not in their way.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

/// The process called `systemd` below a process.
fn first_process(pid: &str) -> Option<String> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().find_map(|child| {
        let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
        if name.trim() == "systemd" { Some(child.to_owned()) } else { first_process(child) }
    })
}

/// The machine's files, made once for each release of Debian.
fn files() -> Result<PathBuf> {
    let release = release()?;
    let folder = root().join(format!("target/deb/debian-{release}"));
    if folder.is_dir() {
        return Ok(folder);
    }
    let part = folder.with_extension("part");
    output(as_root("rm").arg("-rf").arg(&part))?;
    fs::create_dir_all(folder.parent().context("a folder without a parent")?)?;
    eprintln!("making the files of a Debian machine ({release}), once");
    let mut command = as_root("debootstrap");
    command.args(["--variant=minbase", &format!("--include={INCLUDE}"), &release]).arg(&part).arg(mirror(&release)?);
    output(&mut command)?;
    // Each boot is a machine of its own.
    output(as_root("truncate").arg("--size=0").arg(part.join("etc/machine-id")))?;
    output(as_root("mv").arg(&part).arg(&folder))?;
    Ok(folder)
}

/// This machine's release of Debian: its programs are to run there.
fn release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release")?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name.context("/etc/os-release names no release")?.trim_matches('"').to_owned())
}

/// Where this machine gets its packages from.
fn mirror(release: &str) -> Result<String> {
    let format = "$(SITE) $(RELEASE) $(COMPONENT)";
    let targets = output(Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))?;
    let ours = targets.lines().find_map(|line| line.strip_suffix(&format!(" {release} main")));
    Ok(ours.with_context(|| format!("apt knows no source of {release} main"))?.to_owned())
}
