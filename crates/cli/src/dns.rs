//! `perigee dns`: DNSSEC keys of a document's zone.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context, anyhow, bail};
use perigee_dns::dnssec::{Algorithm, Life, Role};
use perigee_geodns::keys::{self, KeyFile};
use perigee_node::{clock, document};
use perigee_protocol::model::{DnssecAlgorithm, Document};

use crate::args::{DnsCommand, KeyRole, KeygenArgs, RetireArgs};

/// Resolvers have forgotten the old set of keys after its TTL (an hour) and what clocks differ by, in seconds.
const PUBLISHED_BEFORE_S: u64 = 2 * 3_600;
/// The last signatures of a key are gone after their validity (a week) and a day, in seconds.
const SIGNED_AFTER_S: u64 = 8 * 86_400;

/// Performs one of the commands.
pub(crate) fn dns(command: &DnsCommand, out: &mut impl Write) -> anyhow::Result<()> {
    match command {
        DnsCommand::Keygen(args) => keygen(args, out),
        DnsCommand::Keys(args) => list(&Zone::of(&args.document)?, out),
        DnsCommand::Ds(args) => ds(&Zone::of(&args.document)?, out),
        DnsCommand::Retire(args) => retire(args, out),
    }
}

/// A document's zone and where its keys are.
struct Zone {
    name: String,
    folder: PathBuf,
    algorithm: Algorithm,
}

impl Zone {
    fn of(path: &Path) -> anyhow::Result<Self> {
        let loaded = document::read(path)?;
        let document: &Document = &loaded.document;
        let Some(dnssec) = &document.cdn.dnssec else {
            bail!("{}: the zone is unsigned; add [cdn.dnssec] with keys = \"keys\"", path.display());
        };
        let algorithm = match dnssec.algorithm {
            DnssecAlgorithm::EcdsaP256 => Algorithm::EcdsaP256,
            DnssecAlgorithm::Ed25519 => Algorithm::Ed25519,
        };
        Ok(Self { name: document.cdn.zone.clone(), folder: loaded.resolve(&dnssec.keys), algorithm })
    }

    fn files(&self) -> anyhow::Result<Vec<KeyFile>> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        Ok(keys::read(&self.folder, &self.name)?)
    }
}

fn now_s() -> u64 {
    clock::now_ms() / 1_000
}

fn keygen(args: &KeygenArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let zone = Zone::of(&args.document)?;
    let role = match args.role {
        KeyRole::Csk => Role::Csk,
        KeyRole::Ksk => Role::Ksk,
        KeyRole::Zsk => Role::Zsk,
    };
    let mut files = zone.files()?;
    let now_s = now_s();
    let in_use = files.iter().any(|file| file.role == role && file.life.retire_s.is_none());
    if in_use && !args.roll {
        bail!(
            "{} has a {} in use already; --roll makes the next one (see docs/dnssec.md), `perigee dns keys` lists them",
            zone.name,
            word(role)
        );
    }
    // RFC 6781 §4.1.1.1: a ZSK is published before it signs. One that the parent vouches for signs at once, beside the old one,
    // until the parent's DS has changed (§4.1.2).
    let activate_s = if in_use && role == Role::Zsk { now_s + PUBLISHED_BEFORE_S } else { now_s };
    let life = Life { publish_s: now_s, activate_s, retire_s: None, remove_s: None };
    let made = create(&zone, role, life)?;
    if in_use && role == Role::Zsk {
        for old in files.iter_mut().filter(|old| old.role == role && old.life.retire_s.is_none()) {
            let life = Life { retire_s: Some(activate_s), remove_s: Some(activate_s + SIGNED_AFTER_S), ..old.life };
            old.set_life(life)?;
        }
    }
    writeln!(out, "{}: {} of {}, tag {}", made.path.display(), word(role), zone.name, made.key.tag())?;
    if activate_s > now_s {
        writeln!(out, "it signs from {}; the old one is removed by itself", date(activate_s))?;
    }
    if role != Role::Zsk {
        writeln!(out, "give every nameserver this file, then have the parent publish:")?;
        ds(&zone, out)?;
    }
    if role == Role::Ksk && !files.iter().any(|file| file.role != Role::Ksk) {
        writeln!(out, "a KSK signs keys only: make a ZSK too, with --role zsk")?;
    }
    Ok(())
}

fn create(zone: &Zone, role: Role, life: Life) -> anyhow::Result<KeyFile> {
    loop {
        let mut private = [0; 32];
        getrandom::fill(&mut private).map_err(|error| anyhow!("the system gives no random numbers: {error}"))?;
        match KeyFile::create(&zone.folder, &zone.name, zone.algorithm, role, life, &private) {
            // One in 2³² numbers is beyond P-256's order, and one tag in 65,536 is taken.
            Err(keys::KeysError::Form { .. }) => continue,
            Err(keys::KeysError::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => continue,
            made => return Ok(made?),
        }
    }
}

fn retire(args: &RetireArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let zone = Zone::of(&args.document)?;
    let mut files = zone.files()?;
    let now_s = now_s();
    let index = files.iter().position(|file| file.key.tag() == args.tag);
    let index = index.with_context(|| format!("{} has no key of tag {}", zone.folder.display(), args.tag))?;
    let role = files.get(index).map(|file| file.role);
    let is_there_another = files.iter().enumerate().any(|(at, file)| {
        at != index && Some(file.role) == role && file.life.retire_s.is_none() && file.life.activate_s <= now_s
    });
    if !is_there_another {
        bail!(
            "tag {} is the only one of its kind that signs; make the next one with `perigee dns keygen --roll`",
            args.tag
        );
    }
    if let Some(file) = files.get_mut(index) {
        let life = Life { retire_s: Some(now_s), remove_s: Some(now_s + SIGNED_AFTER_S), ..file.life };
        file.set_life(life)?;
        writeln!(out, "tag {} signs no more and is removed on {}", args.tag, date(now_s + SIGNED_AFTER_S))?;
        writeln!(out, "give every nameserver {}", file.path.display())?;
    }
    Ok(())
}

fn list(zone: &Zone, out: &mut impl Write) -> anyhow::Result<()> {
    let now_s = now_s();
    for file in zone.files()? {
        let Life { publish_s, activate_s, retire_s, remove_s } = file.life;
        let state = match (retire_s, remove_s) {
            (_, Some(remove_s)) if remove_s <= now_s => format!("removed {}", date(remove_s)),
            (Some(retire_s), _) if retire_s <= now_s => format!("retired {}", date(retire_s)),
            _ if activate_s > now_s => format!("published, signs from {}", date(activate_s)),
            (Some(retire_s), _) => format!("signs until {}", date(retire_s)),
            _ => format!("signs since {}", date(publish_s.max(activate_s))),
        };
        writeln!(
            out,
            "{:<5}  {}  algorithm {}  {state}",
            file.key.tag(),
            word(file.role),
            file.key.algorithm().number()
        )?;
    }
    Ok(())
}

fn ds(zone: &Zone, out: &mut impl Write) -> anyhow::Result<()> {
    for record in keys::ds_records(&zone.files()?, &zone.name)? {
        writeln!(out, "{record}")?;
    }
    Ok(())
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Csk => "CSK",
        Role::Ksk => "KSK",
        Role::Zsk => "ZSK",
    }
}

fn date(unix_s: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(unix_s))
}
