//! `cargo xtask deb --check`: the package on a machine, from its installation to its purge, with systemd as the first process
//! and the units' hardening in force.

use std::{
    io::{self, Read as _},
    path::Path,
    process::Stdio,
    thread,
};

use anyhow::{Context, Result, anyhow, ensure};

mod geo;

use super::{
    TIERS, UNITS,
    machine::{Machine, PROGRAMS, as_root, until},
};
use crate::{images::find, run::output};

const NAMESERVER: &str = "203.0.113.53";
const EDGE: &str = "203.0.113.1";
const SHIELD: &str = "203.0.113.80";
const HOST: &str = "www.cdn.example";
/// As the package sets them, so that all tiers fit on one machine.
const ADMINS: [(&str, &str); 3] =
    [("edge", "127.0.0.1:9100"), ("shield", "127.0.0.1:9101"), ("geodns", "127.0.0.1:9102")];

/// Whether this machine can make another; says why not, which is an error in CI.
pub(super) fn possible() -> Result<bool> {
    let missing = PROGRAMS.iter().find_map(|(program, package)| find(program, package).err());
    let root = output(as_root("true").arg("--version")).context("needs root, or sudo without a password");
    let Some(reason) = missing.or(root.err()) else { return Ok(true) };
    ensure!(std::env::var_os("CI").is_none(), "{reason:#}");
    println!("SKIP: the package is not installed anywhere: {reason:#}");
    Ok(false)
}

type Chapter<'a> = dyn Fn(&Machine) -> Result<()> + 'a;

/// Takes the two packages of a folder, an older and a newer, through their lives.
pub(super) fn run(folder: &Path, older: &str, newer: &str) -> Result<()> {
    let machine = Machine::boot(folder, &[NAMESERVER, EDGE, SHIELD])?;
    let story: [(&str, &Chapter<'_>); 11] = [
        ("installs, and starts nothing", &|machine| install(machine, older)),
        ("is configured and started: who runs, and with what rights", &start),
        ("serves: HTTP by edge and shield, DNS", &serve),
        ("reloads a changed document, and keeps the old one when it is bad", &reload),
        ("rotates its access log", &rotate),
        ("is restarted when it hangs", &watchdog),
        ("fetches a geo database, and says why when it cannot", &geo::fetch),
        ("keeps its cache where a drop-in lets it", &drop_in),
        ("stops when what is under way has ended", &drain),
        ("is upgraded: what ran runs anew, what was edited stays", &|machine| upgrade(machine, newer)),
        ("is removed and purged", &remove),
    ];
    for (chapter, tell) in story {
        if let Err(error) = tell(&machine) {
            eprintln!("{}", machine.journal());
            return Err(error.context(chapter));
        }
        println!("ok      {chapter}");
    }
    Ok(())
}

fn same(what: &str, found: &str, expected: &str) -> Result<()> {
    ensure!(found == expected, "{what} is {found:?}, not {expected:?}");
    Ok(())
}

fn has(what: &str, found: &str, part: &str) -> Result<()> {
    ensure!(found.contains(part), "{what} has no {part:?}:\n{found}");
    Ok(())
}

fn install(machine: &Machine, package: &str) -> Result<()> {
    // Nothing can be fetched: what it depends on is there, or this fails.
    machine.run(&["apt-get", "install", "--yes", "--no-install-recommends", &format!("/deb/{package}")])?;
    same("/etc/perigee", &machine.sh("stat -c '%a %U:%G' /etc/perigee")?, "750 root:perigee")?;
    has("the user", &machine.sh("getent passwd perigee")?, ":/usr/sbin/nologin")?;
    for unit in UNITS {
        let state = machine
            .sh(&format!("systemctl is-active perigee-{unit} || true; systemctl is-enabled perigee-{unit} || true"))?;
        same(unit, &state, "inactive\ndisabled")?;
        machine.sh(&format!("systemd-analyze verify --man=no /usr/lib/systemd/system/perigee-{unit}.service"))?;
        let variables = format!("stat -c '%a %U:%G' /etc/perigee/{unit}.env");
        same("its variables", &machine.sh(&variables)?, "640 root:root")?;
    }
    for tier in TIERS {
        machine.sh(&format!("perigee-{tier} --version; test -s /usr/share/man/man8/perigee-{tier}.8.gz"))?;
        machine.run(&["bash", "-n", &format!("/usr/share/bash-completion/completions/perigee-{tier}")])?;
    }
    machine.sh("test -s /usr/share/man/man1/perigee-init.1.gz; test -s /usr/share/man/man5/perigee.toml.5.gz").map(drop)
}

fn start(machine: &Machine) -> Result<()> {
    machine.sh(&format!(
        "cd /etc/perigee; perigee init --no-input --zone cdn.example --nameserver ns1.cdn.example={NAMESERVER} \
         --origin http://127.0.0.1:8000 --pop fra={EDGE} --shield s1=http://{SHIELD}:8080 perigee.toml; perigee check perigee.toml
         sed -i 's|^PERIGEE_POP=.*|PERIGEE_POP=fra|; s|^#PERIGEE_ACCESS_LOG|PERIGEE_ACCESS_LOG|; s|:10GiB|:256MiB|' edge.env
         sed -i 's|^PERIGEE_SHIELD=.*|PERIGEE_SHIELD=s1|; s|:10GiB|:256MiB|' shield.env
         systemd-run --quiet --unit=origin perigee origin --listen 127.0.0.1:8000
         systemctl enable --quiet perigee-shield
         systemctl start perigee-shield perigee-edge perigee-geodns"
    ))?;
    for tier in TIERS {
        let about =
            machine.sh(&format!("systemctl show --property=Type,SubState,StatusText,NRestarts perigee-{tier}"))?;
        for said in ["Type=notify", "SubState=running", "StatusText=serving", "NRestarts=0"] {
            has(tier, &about, said)?;
        }
        let pid = main_pid(machine, tier)?;
        let rights = machine.sh(&format!("cat /proc/{pid}/status"))?;
        let user = machine.sh("id -u perigee")?;
        // 0x400 is CAP_NET_BIND_SERVICE, and 2 a filter of system calls.
        for said in
            [format!("Uid:\t{user}\t{user}"), "CapEff:\t0000000000000400".into(), "CapBnd:\t0000000000000400".into()]
        {
            has(tier, &rights, &said)?;
        }
        has(tier, &rights, "NoNewPrivs:\t1")?;
        has(tier, &rights, "Seccomp:\t2")?;
        for folder in ["/etc/perigee", "/usr/bin", "/var/lib"] {
            let write = format!("nsenter --target {pid} --mount touch {folder}/x 2>&1 || true");
            has(&format!("{tier} in {folder}"), &machine.sh(&write)?, "Read-only file system")?;
        }
        // systemd counts what is in force, which is no less than what the file says.
        machine.sh(&format!("systemd-analyze security --threshold=30 perigee-{tier}.service"))?;
    }
    Ok(())
}

fn main_pid(machine: &Machine, unit: &str) -> Result<String> {
    machine.sh(&format!("systemctl show --property=MainPID --value perigee-{unit}"))
}

/// The fields and the body of an answer of the edge.
fn get(machine: &Machine, path: &str) -> Result<String> {
    machine.host(&[
        "curl",
        "--silent",
        "--show-error",
        "--include",
        "--max-time",
        "20",
        "--header",
        &format!("Host: {HOST}"),
        &format!("http://{EDGE}{path}"),
    ])
}

fn dig(machine: &Machine, words: &[&str]) -> Result<String> {
    let server = format!("@{NAMESERVER}");
    machine.host(&[&["dig", &server, HOST, "A", "+norecurse", "+tries=1", "+time=5"], words].concat())
}

fn serve(machine: &Machine) -> Result<()> {
    let first = get(machine, "/lab.html")?;
    for said in ["HTTP/1.1 200", "Laboratory", "s1", "fra"] {
        has("the first answer", &first, said)?;
    }
    has("the second answer", &get(machine, "/lab.html")?, "fra; hit")?;
    for words in [&["+short"][..], &["+short", "+tcp"]] {
        same("the name", &dig(machine, words)?, EDGE)?;
    }
    for (tier, admin) in ADMINS {
        has("its status", &machine.sh(&format!("perigee status --admin {admin}"))?, tier)?;
    }
    machine.sh("test -d /var/cache/perigee/edge; test -d /var/cache/perigee/shield; test -d /var/lib/perigee").map(drop)
}

fn generation(machine: &Machine, tier: &str) -> Result<u64> {
    let admin = ADMINS.iter().find(|(name, _)| *name == tier).map(|(_, admin)| *admin).context("a tier")?;
    let status: serde_json::Value =
        serde_json::from_str(&machine.run(&["perigee", "status", "--json", "--admin", admin])?)?;
    status["document_generation"].as_u64().with_context(|| format!("{tier} tells no generation: {status}"))
}

fn reload(machine: &Machine) -> Result<()> {
    machine.sh(
        "sed -i '/^\\[cdn\\]/a ttl = \"77s\"' /etc/perigee/perigee.toml; perigee check /etc/perigee/perigee.toml",
    )?;
    let told = || -> Result<bool> { Ok(dig(machine, &["+noall", "+answer"])?.split_whitespace().nth(1) == Some("77")) };
    machine.sh("systemctl reload perigee-geodns")?;
    until("the document being taken over", || Ok(told()?.then_some(())))?;
    for tier in TIERS {
        // What is asked for is done though nothing changed.
        until("the document being followed", || Ok((generation(machine, tier)? > 1).then_some(())))?;
        let before = generation(machine, tier)?;
        machine.sh(&format!("systemctl reload perigee-{tier}"))?;
        until("a reload", || Ok((generation(machine, tier)? > before).then_some(())))?;
    }
    machine.sh("cp /etc/perigee/perigee.toml /root/good; echo nonsense >>/etc/perigee/perigee.toml; systemctl reload perigee-geodns")?;
    until("a refusal in the journal", || {
        let journal = machine.sh("journalctl --no-pager --unit=perigee-geodns")?;
        Ok(journal.contains("the old one goes on").then_some(()))
    })?;
    ensure!(told()?, "a bad document was taken over");
    same("the nameserver", &machine.sh("systemctl is-active perigee-geodns")?, "active")?;
    machine.sh("cp /root/good /etc/perigee/perigee.toml").map(drop)
}

fn rotate(machine: &Machine) -> Result<()> {
    let log = "/var/log/perigee/edge.log";
    get(machine, "/?before")?;
    let wait = |file: &str, text: &str| {
        until(&format!("{text} in {file}"), || {
            Ok(machine.sh(&format!("cat {file} || true"))?.contains(text).then_some(()))
        })
    };
    wait(log, "before")?;
    machine.sh("logrotate --force /etc/logrotate.d/perigee")?;
    wait(&format!("{log}.1"), "before")?;
    // Opened anew soon after the signal, and not by it: what comes in between is the old file's.
    until("the log being opened anew", || {
        get(machine, "/?after")?;
        Ok(machine.sh(&format!("cat {log} || true"))?.contains("after").then_some(()))
    })?;
    ensure!(!machine.sh(&format!("cat {log}"))?.contains("before"), "the log was not rotated");
    same("the log", &machine.sh(&format!("stat -c '%a %U:%G' {log}"))?, "640 perigee:perigee")
}

fn watchdog(machine: &Machine) -> Result<()> {
    same("the watchdog", &machine.sh("systemctl show --property=WatchdogUSec --value perigee-shield")?, "1min")?;
    machine.sh("mkdir -p /etc/systemd/system/perigee-shield.service.d
         printf '[Service]\\nWatchdogSec=2s\\n' >/etc/systemd/system/perigee-shield.service.d/quick.conf
         systemctl daemon-reload; systemctl restart perigee-shield")?;
    let pid = main_pid(machine, "shield")?;
    machine.sh("systemctl kill --signal=STOP --kill-whom=main perigee-shield")?;
    until("another process in its place", || {
        let state = machine.sh("systemctl show --property=ActiveState,NRestarts perigee-shield")?;
        let anew = state.contains("ActiveState=active") && !state.contains("NRestarts=0");
        Ok((anew && main_pid(machine, "shield")? != pid).then_some(()))
    })?;
    machine.sh("rm -r /etc/systemd/system/perigee-shield.service.d; systemctl daemon-reload").map(drop)
}

/// As docs/packages.md has it.
fn drop_in(machine: &Machine) -> Result<()> {
    let state = "systemctl restart perigee-shield; systemctl is-active perigee-shield";
    machine.sh("cp /etc/perigee/shield.env /root/shield.env; mkdir /srv/cache; chown perigee: /srv/cache
        sed -i 's|^PERIGEE_DISK=.*|PERIGEE_DISK=/srv/cache:256MiB|' /etc/perigee/shield.env")?;
    ensure!(machine.sh(state).is_err(), "a folder of the machine's own can be written without a drop-in");
    machine.sh("systemctl stop perigee-shield; mkdir -p /etc/systemd/system/perigee-shield.service.d
         printf '[Service]\\nReadWritePaths=/srv/cache\\n' >/etc/systemd/system/perigee-shield.service.d/override.conf
         systemctl daemon-reload; systemctl reset-failed perigee-shield")?;
    same("the shield", &machine.sh(state)?, "active")?;
    ensure!(!machine.sh("ls /srv/cache")?.is_empty(), "the cache is elsewhere");
    machine
        .sh("rm -r /etc/systemd/system/perigee-shield.service.d; cp /root/shield.env /etc/perigee/shield.env
         systemctl daemon-reload; systemctl restart perigee-shield")
        .map(drop)
}

fn drain(machine: &Machine) -> Result<()> {
    // Warm, so that only the client is slow.
    let url = format!("http://{EDGE}/big/32MiB");
    let host = format!("Host: {HOST}");
    let curl = ["curl", "--silent", "--show-error", "--fail", "--header", &host, "--limit-rate", "16M", &url];
    let mut download = machine.host_command(&curl).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut body = download.stdout.take().context("a pipe")?;
    let mut first = [0; 1];
    body.read_exact(&mut first)?;
    let rest = thread::spawn(move || io::copy(&mut body, &mut io::sink()));
    machine.sh("systemctl stop perigee-edge")?;
    let bytes = rest.join().map_err(|_| anyhow!("the reader ended badly"))?? + 1;
    let status = download.wait()?;
    ensure!(status.success() && bytes == 32 << 20, "the download was cut: {status}, {bytes} bytes");
    let state = machine.sh("systemctl show --property=Result,ActiveState perigee-edge")?;
    has("the edge", &state, "Result=success")?;
    has("the edge", &state, "ActiveState=inactive")
}

fn upgrade(machine: &Machine, package: &str) -> Result<()> {
    let edited = machine.sh("cat /etc/perigee/edge.env")?;
    let pids = || -> Result<[String; 3]> {
        Ok([main_pid(machine, "shield")?, main_pid(machine, "geodns")?, main_pid(machine, "geo")?])
    };
    let before = pids()?;
    machine.run(&["apt-get", "install", "--yes", "--no-install-recommends", &format!("/deb/{package}")])?;
    same("edge.env", &machine.sh("cat /etc/perigee/edge.env")?, &edited)?;
    let now = pids()?;
    ensure!(before.iter().zip(&now).all(|(before, now)| before != now && now != "0"), "{before:?} and then {now:?}");
    let states = machine.sh("systemctl is-active perigee-edge perigee-shield perigee-geodns perigee-geo || true")?;
    same("what runs", &states, "inactive\nactive\nactive\nactive")?;
    same("the shield", &machine.sh("systemctl is-enabled perigee-shield")?, "enabled")?;
    machine.sh("systemctl start perigee-edge")?;
    // Its memory is gone, its disk is not.
    let url = format!("http://{EDGE}/big/32MiB");
    let host = format!("Host: {HOST}");
    let head =
        ["curl", "--silent", "--show-error", "--dump-header", "-", "--output", "/dev/null", "--header", &host, &url];
    has("what was in the cache", &machine.host(&head)?, "fra; hit")
}

fn remove(machine: &Machine) -> Result<()> {
    machine.run(&["apt-get", "remove", "--yes", "perigee"])?;
    for tier in TIERS {
        let state = machine.sh(&format!(
            "systemctl is-active perigee-{tier} || true; cat /proc/[0-9]*/comm | grep -x perigee-{tier} || true"
        ))?;
        same(tier, &state, "inactive")?;
    }
    same("perigee-geo", &machine.sh("systemctl is-active perigee-geo || true")?, "inactive")?;
    machine.sh("test ! -e /usr/bin/perigee-edge; test -s /etc/perigee/edge.env; test -s /etc/perigee/perigee.toml; test -s /var/lib/perigee/GeoLite2-City.mmdb
         test -d /var/cache/perigee/edge; test -s /var/log/perigee/edge.log")?;
    machine.run(&["apt-get", "purge", "--yes", "perigee"])?;
    machine.sh(
        "for gone in /etc/perigee/edge.env /etc/perigee/geo.env /etc/systemd/system/*/perigee-* /etc/logrotate.d/perigee /var/cache/perigee /var/log/perigee /var/lib/perigee; do
             test ! -e $gone || { echo $gone is there >&2; exit 1; }
         done
         test -s /etc/perigee/perigee.toml",
    )
    .map(drop)
}
