//! The ledger's form on disk: a version, the numbers, the sites, and the entries from the oldest to the youngest.

use super::{
    Kind, Ledger, Seq,
    ledger::{Marks, Site},
    scope::{Length, Target},
};
use crate::{
    codec::{Reader, put_bytes, put_count},
    head::DecodeError,
    time::Timestamp,
};

/// First byte of an encoded ledger.
const LEDGER_VERSION: u8 = 1;

impl Ledger {
    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(LEDGER_VERSION);
        put_u64(out, self.applied.as_u64());
        put_u64(out, self.folds);
        put_marks(out, self.all);
        put_marks(out, self.floor);
        let mut sites: Vec<(&u64, &Site)> = self.sites.iter().collect();
        sites.sort_unstable_by_key(|(site, _)| **site);
        put_count(out, sites.len());
        for (hash, site) in sites {
            put_u64(out, *hash);
            put_marks(out, site.purged);
            put_marks(out, site.floor);
            put_u64(out, site.latest.as_u64());
            put_marks(out, site.tags);
        }
        for order in [&self.order, &self.locals] {
            put_count(out, order.len());
            for (target, slot) in order.values().filter_map(|target| Some((target, self.slots.get(target)?))) {
                target.encode(out);
                put_marks(out, slot.marks);
                put_u64(out, slot.local.as_u64());
            }
        }
    }

    /// Reads the stored form, to tell `entries_max` entries apart; refuses anything else.
    pub fn decode(bytes: &[u8], entries_max: usize) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version(LEDGER_VERSION)?;
        let mut ledger = Self::with_entries_max(entries_max);
        ledger.applied = seq(&mut reader)?;
        let folds = reader.u64()?;
        ledger.all = marks(&mut reader)?;
        ledger.floor = marks(&mut reader)?;
        ledger.see(ledger.all.latest().max(ledger.floor.latest()));
        for _ in 0..reader.count()? {
            let hash = reader.u64()?;
            let site = Site {
                purged: marks(&mut reader)?,
                floor: marks(&mut reader)?,
                latest: seq(&mut reader)?,
                tags: marks(&mut reader)?,
                ..Site::default()
            };
            ledger.see(site.latest);
            ledger.sites.insert(hash, site);
        }
        for _order in 0..2 {
            for _ in 0..reader.count()? {
                let target = Target::decode(&mut reader)?;
                let marks = marks(&mut reader)?;
                ledger.mark(target, marks, seq(&mut reader)?);
            }
        }
        reader.end()?;
        ledger.folds += folds;
        Ok(ledger)
    }
}

impl Target {
    /// Appends the stored form.
    fn encode(self, out: &mut Vec<u8>) {
        let number = match self {
            Self::Everything => 0,
            Self::Site(_) => 1,
            Self::Url(..) => 2,
            Self::Prefix(..) => 3,
            Self::Tag(..) => 4,
        };
        out.push(number);
        match self {
            Self::Everything => {}
            Self::Site(site) => put_u64(out, site),
            Self::Url(site, hash) | Self::Tag(site, hash) => {
                put_u64(out, site);
                put_u128(out, hash);
            }
            Self::Prefix(site, length, hash) => {
                put_u64(out, site);
                put_u64(out, u64::from(length.bytes));
                out.push(u8::from(length.with_authority));
                put_u128(out, hash);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = reader.u8()?;
        if number == 0 {
            return Ok(Self::Everything);
        }
        let site = reader.u64()?;
        Ok(match number {
            1 => Self::Site(site),
            2 => Self::Url(site, u128_from(reader)?),
            3 => {
                let bytes = u32::try_from(reader.u64()?).map_err(|_| DecodeError::Invalid("prefix length"))?;
                let with_authority = reader.flag()?;
                Self::Prefix(site, Length { bytes, with_authority }, u128_from(reader)?)
            }
            4 => Self::Tag(site, u128_from(reader)?),
            _ => return Err(DecodeError::Invalid("target")),
        })
    }
}

/// One purge as it is written behind a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// Its number.
    pub seq: Seq,
    /// What it does.
    pub kind: Kind,
    /// Whether the node itself found it invalid: see [`Ledger::apply_local`].
    pub local: bool,
    /// When it was asked for.
    pub at: Timestamp,
    /// What it is for.
    pub targets: Vec<Target>,
    /// What it is for, in words.
    pub text: Box<str>,
}

impl Purge {
    /// Applies it.
    pub fn apply_to(&self, ledger: &mut Ledger) {
        if self.local {
            ledger.apply_local(self.seq, &self.targets);
        } else {
            ledger.apply(self.seq, self.kind, &self.targets);
        }
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.seq.as_u64());
        out.push(match (self.kind, self.local) {
            (Kind::Soft, _) => 0,
            (Kind::Hard, false) => 1,
            (Kind::Hard, true) => 2,
        });
        put_u64(out, self.at.as_millis());
        put_bytes(out, self.text.as_bytes());
        put_count(out, self.targets.len());
        self.targets.iter().for_each(|target| target.encode(out));
    }

    /// Reads the stored form; refuses anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let seq = seq(&mut reader)?;
        let (kind, local) = match reader.u8()? {
            0 => (Kind::Soft, false),
            1 => (Kind::Hard, false),
            2 => (Kind::Hard, true),
            _ => return Err(DecodeError::Invalid("kind")),
        };
        let at = Timestamp::from_millis(reader.u64()?);
        let text = reader.text()?.into();
        let targets = (0..reader.count()?).map(|_| Target::decode(&mut reader)).collect::<Result<_, _>>()?;
        reader.end()?;
        Ok(Self { seq, kind, local, at, targets, text })
    }
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_u128(out: &mut Vec<u8>, number: u128) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_marks(out: &mut Vec<u8>, marks: Marks) {
    put_u64(out, marks.hard.as_u64());
    put_u64(out, marks.soft.as_u64());
}

fn u128_from(reader: &mut Reader<'_>) -> Result<u128, DecodeError> {
    let (low, high) = (reader.u64()?, reader.u64()?);
    Ok(u128::from(high) << 64 | u128::from(low))
}

fn seq(reader: &mut Reader<'_>) -> Result<Seq, DecodeError> {
    reader.u64().map(Seq::new)
}

fn marks(reader: &mut Reader<'_>) -> Result<Marks, DecodeError> {
    Ok(Marks { hard: seq(reader)?, soft: seq(reader)? })
}
