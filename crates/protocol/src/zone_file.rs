//! Zone files, "master files" (RFC 1035 §5): text → records, or every mistake with its file and line. No file is opened
//! here: the caller hands in what reads one.
//!
//! `lex` makes entries of tokens, `read` makes records of entries, `check` holds the records against each other and against
//! the document, whose names and nameservers they must not contradict.
//!
//! Of the directives of one implementation `$GENERATE` is here, which is BIND's (`generate`).
//!
//! Deliberately absent: other classes than IN, and records that the nameserver makes by itself (RRSIG, NSEC, DNSKEY).

mod check;
mod generate;
mod lex;
mod read;
mod ttl;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    document::{Mistake, Mistakes},
    model::Document,
    rdata::RecordData,
};

pub use ttl::parse_ttl;

/// Bytes of all zone files of a document together, included ones as often as they are included.
pub const BYTES_MAX: usize = 256 << 20;
/// Records of all zone files of a document.
pub const RECORDS_MAX: usize = 1_000_000;
/// How deep `$INCLUDE` may go: a file of the document is at depth 0.
pub const DEPTH_MAX: usize = 8;
/// Files read for a document, each as often as it is included.
pub const READS_MAX: usize = 256;
/// Mistakes told in full; the others are counted.
pub const MISTAKES_MAX: usize = 20;

/// What one reading may take; tests take less.
#[derive(Clone, Copy, Debug)]
struct Limits {
    bytes: usize,
    records: usize,
    depth: usize,
    reads: usize,
}

const LIMITS: Limits = Limits { bytes: BYTES_MAX, records: RECORDS_MAX, depth: DEPTH_MAX, reads: READS_MAX };

/// Where something stands in a zone file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// As the document or `$INCLUDE` names it, with the folder of the file that includes it.
    pub file: Arc<str>,
    /// From 1: where the entry begins.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A record of a zone file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneRecord {
    /// In the form of names in [`RecordData`]: absolute, in lower case, without the final dot, escaped.
    pub name: String,
    /// Time to live, in seconds.
    pub ttl_s: u32,
    /// Type and data.
    pub data: RecordData,
    /// Where it stands.
    pub place: Place,
}

/// As a line of a zone file, which reads back.
impl fmt::Display for ZoneRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {} IN {} {}", self.name, self.ttl_s, self.data.kind(), self.data)
    }
}

/// The SOA of a zone file. The document says the rest of the zone's SOA: primary, contact and minimum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneFileSoa {
    /// The version of the zone.
    pub serial: u32,
    /// Seconds between a secondary's looks for a new version.
    pub refresh_s: u32,
    /// Seconds until it tries again.
    pub retry_s: u32,
    /// Seconds after which a secondary without contact stops to answer.
    pub expire_s: u32,
    /// Where it stands.
    pub place: Place,
}

/// What a document's zone files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZoneFiles {
    /// In the order of the files.
    pub records: Vec<ZoneRecord>,
    /// Of the zone's apex.
    pub soa: Option<ZoneFileSoa>,
    /// Every file read, included ones too, each once: relative to the document's folder.
    pub files: Vec<PathBuf>,
}

/// What opens a file, by its name relative to the document's folder; it should read no more than [`BYTES_MAX`]. The error
/// says why it could not.
pub type Loader<'a> = dyn FnMut(&Path) -> Result<Vec<u8>, String> + 'a;

/// Reads the zone files that the document names and holds them against it.
///
/// Fails with every mistake, of which [`MISTAKES_MAX`] are told and the others counted.
pub fn load(document: &Document, loader: &mut Loader<'_>) -> Result<ZoneFiles, Mistakes> {
    load_within(document, loader, LIMITS)
}

fn load_within(document: &Document, loader: &mut Loader<'_>, limits: Limits) -> Result<ZoneFiles, Mistakes> {
    let mut reading = read::Reading::new(&document.cdn.zone, loader, limits);
    for (index, file) in document.zone.files.iter().enumerate() {
        reading.document_file(index, file);
    }
    let (zone_files, mut mistakes) = reading.finish();
    check::check(document, &zone_files, &mut mistakes);
    if mistakes.is_empty() {
        return Ok(zone_files);
    }
    Err(Mistakes::of_files(mistakes, MISTAKES_MAX))
}

fn mistake(place: &Place, said: impl Into<String>, law: impl Into<String>, remedy: impl Into<String>) -> Mistake {
    const SAID_CHARS_MAX: usize = 80;
    let said = said.into();
    let said = match said.char_indices().nth(SAID_CHARS_MAX) {
        Some((at, _)) => format!("{}…", said.get(..at).unwrap_or_default()),
        None => said,
    };
    Mistake {
        file: place.file.to_string(),
        line: place.line,
        column: 1,
        path: String::new(),
        said: Some(said),
        law: law.into(),
        remedy: remedy.into(),
    }
}
