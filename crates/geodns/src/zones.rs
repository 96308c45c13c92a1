//! What of a zone lies in files beside the document: records, keys of secondaries, and the serial that follows from it all.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    io::Read,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use ipnet::IpNet;
use perigee_dns::{Secondaries, TsigKey};
use perigee_node::regular;
use perigee_protocol::{
    document::Mistakes,
    model::{Document, ZoneTransferKey},
    prefix_file,
    rdata::base64,
    zone_file::{self, ZoneFiles},
};

/// A file of a secret is longer only when it is something else.
const SECRET_FILE_BYTES_MAX: u64 = 4_096;

/// Reads the zone files that a document names, relative to `folder`. Fails with every mistake.
pub fn load(document: &Document, folder: &Path) -> Result<ZoneFiles, Mistakes> {
    zone_file::load(document, &mut |path: &Path| read_some(&folder.join(path), zone_file::BYTES_MAX))
}

/// A file that something stands in: an empty one is more often half-written, or what a full disk left, than meant.
fn read_some(path: &Path, bytes_max: usize) -> Result<Vec<u8>, String> {
    match regular::read(path, bytes_max as u64) {
        Ok(bytes) if bytes.is_empty() => Err("it is empty; one that is to say nothing has a comment".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads the files of prefixes that overrides name, relative to `folder`: of each override, in their order. Fails with every
/// mistake.
pub fn load_prefixes(document: &Document, folder: &Path) -> Result<Vec<Vec<IpNet>>, Mistakes> {
    prefix_file::load(document, &mut |path: &Path| read_some(&folder.join(path), prefix_file::BYTES_MAX))
}

/// The document with what [`load_prefixes`] read, as if its overrides said it themselves.
pub fn with_prefixes<'d>(document: &'d Document, prefixes: &[Vec<IpNet>]) -> Cow<'d, Document> {
    if prefixes.iter().all(Vec::is_empty) {
        return Cow::Borrowed(document);
    }
    let mut whole = document.clone();
    for (entry, more) in whole.geo.overrides.iter_mut().zip(prefixes) {
        entry.prefixes.extend(more);
    }
    Cow::Owned(whole)
}

/// Where a document and its files are.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    /// None: the document is no file.
    pub(crate) document: Option<PathBuf>,
}

/// The part of a zone that lies in files, and its version.
#[derive(Debug, Default)]
pub(crate) struct ZoneData {
    pub(crate) files: ZoneFiles,
    /// Of overrides' files.
    prefixes: Vec<Vec<IpNet>>,
    /// Where they are from, relative to the document's folder.
    prefix_files: Vec<PathBuf>,
    keys: Vec<TsigKey>,
    pub(crate) serial: u32,
    /// Of document and records: tells one version from another.
    content: u64,
}

impl ZoneData {
    /// Reads it all anew. `before`: what served until now, so that the serial goes up when something changed.
    pub(crate) fn read(document: &Document, place: &Place, before: Option<&Self>) -> Result<Self, String> {
        let files = load(document, &place.folder).map_err(|mistakes| mistakes.to_string())?;
        let prefixes = load_prefixes(document, &place.folder).map_err(|mistakes| mistakes.to_string())?;
        let prefix_files = document.geo.overrides.iter().filter_map(|entry| entry.prefixes_file.clone()).collect();
        let keys = document.zone.keys.iter().map(|key| read_key(key, &place.folder)).collect::<Result<_, _>>()?;
        let mut hash = Fnv::new();
        // Hashing does not fail.
        write!(hash, "{document:?}{:?}{:?}", files.soa, files.records).unwrap_or_default();
        let content = hash.0;
        let serial = serial(document, &files, place, content, before);
        if let Some(before) = before.filter(|before| before.content != content && before.serial == serial) {
            let transfer = document.zone.transfer.is_some();
            if transfer {
                tracing::warn!(
                    serial = before.serial,
                    "the zone changed and its serial did not: secondaries will not see it"
                );
            }
        }
        Ok(Self { files, prefixes, prefix_files, keys, serial, content })
    }

    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        (self.content, self.serial) == (other.content, other.serial)
            && self.files.files == other.files.files
            && self.prefixes == other.prefixes
    }

    /// The document as it counts, with what its files of prefixes say.
    pub(crate) fn whole<'d>(&self, document: &'d Document) -> Cow<'d, Document> {
        with_prefixes(document, &self.prefixes)
    }

    /// The files that it was read from, relative to the document's folder.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.files.iter().chain(&self.prefix_files)
    }

    /// Who may have the zone.
    pub(crate) fn secondaries(&self, document: &Document) -> Secondaries {
        let transfer = document.zone.transfer.as_ref();
        let is_it = |key: &ZoneTransferKey| transfer.is_some_and(|transfer| transfer.key == key.name);
        Secondaries {
            keys: self.keys.clone(),
            allow: transfer.map_or_else(Vec::new, |transfer| transfer.allow.clone()),
            key: document.zone.keys.iter().position(is_it),
        }
    }
}

/// The SOA's serial: the document's own; else that of a zone file's SOA; else, where secondaries compare it, when the newest
/// of all files was modified, which goes up (RFC 1982) and is the same on nameservers whose copies keep their times; else a
/// hash of the content, which is the same on all nameservers.
fn serial(document: &Document, files: &ZoneFiles, place: &Place, content: u64, before: Option<&ZoneData>) -> u32 {
    let hash = ((content >> 32 ^ content) as u32).max(1);
    if let Some(told) = document.zone.serial.or(files.soa.as_ref().map(|soa| soa.serial)) {
        return told;
    }
    if document.zone.transfer.is_none() {
        return hash;
    }
    let paths = files.files.iter().map(|path| place.folder.join(path)).chain(place.document.clone());
    let modified_s = paths.filter_map(|path| {
        let modified = path.metadata().ok()?.modified().ok()?;
        Some(modified.duration_since(UNIX_EPOCH).ok()?.as_secs())
    });
    // RFC 1982 §3: 32 bits, that begin anew in 2106.
    let Some(modified) = modified_s.max().map(|modified_s| (modified_s as u32).max(1)) else { return hash };
    match before {
        // A file may come from a backup: what is served never goes back.
        Some(before) if !is_after(modified, before.serial) => {
            before.serial.wrapping_add(u32::from(before.content != content)).max(1)
        }
        _ => modified,
    }
}

/// RFC 1982 §3.2
fn is_after(serial: u32, other: u32) -> bool {
    (serial.wrapping_sub(other) as i32) > 0
}

fn read_key(key: &ZoneTransferKey, folder: &Path) -> Result<TsigKey, String> {
    let path = folder.join(&key.secret_file);
    let remedy =
        format!("make it with `openssl rand -base64 32 > {}` and give the secondaries the same", path.display());
    let wrong = |what: String| format!("zone.key {}: {}: {what}; {remedy}", key.name, path.display());
    let mut text = String::new();
    regular::open(&path)
        .and_then(|file| file.take(SECRET_FILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let secret = base64(text.trim()).ok_or_else(|| wrong("is not base 64".to_owned()))?;
    TsigKey::new(&key.name, key.algorithm, &secret).map_err(|error| wrong(error.to_string()))
}

/// FNV-1a of whatever is written to it.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 = text.bytes().fold(self.0, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use perigee_protocol::document;

    use super::*;

    const DOCUMENT: &str = "[cdn]\nzone = \"cdn.example\"\n[[pop]]\nid = \"fra\"\nlatitude = 50\nlongitude = 8\n\
        addresses = [\"198.18.49.10\"]\n[[site]]\nid = \"www\"\norigins = [{ url = \"http://198.18.0.90\" }]\n\
        [[zone.file]]\npath = \"a.zone\"\n";
    const TRANSFER: &str =
        "[[zone.key]]\nname = \"k\"\nsecret_file = \"k\"\n[zone.transfer]\nallow = [\"::1/128\"]\nkey = \"k\"\n";
    const SOA: &str = "@ 60 SOA a b 77 1 2 3 4\n";

    struct Bench(tempfile::TempDir);

    impl Bench {
        fn new() -> Self {
            let bench = Self(tempfile::tempdir().unwrap());
            bench.write("k", "c2l4dGVlbiBieXRlcyBvciBtb3JlIG9mIGl0", 0);
            bench.write("perigee.toml", "", 1_000);
            bench
        }

        fn write(&self, name: &str, text: &str, modified_s: u64) {
            let path = self.0.path().join(name);
            std::fs::write(&path, text).unwrap();
            let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(modified_s);
            std::fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
        }

        fn read(&self, more: &str, before: Option<&ZoneData>) -> ZoneData {
            let document = document::load("perigee.toml", &format!("{DOCUMENT}{more}")).unwrap();
            let place = Place { folder: self.0.path().into(), document: Some(self.0.path().join("perigee.toml")) };
            ZoneData::read(&document, &place, before).unwrap()
        }
    }

    #[test]
    fn an_empty_file_is_a_mistake_and_a_comment_is_not() {
        let bench = Bench::new();
        let more = "[[geo.override]]\nprefixes_file = \"a.prefixes\"\npop = \"fra\"\n";
        let document = document::load("perigee.toml", &format!("{DOCUMENT}{more}")).unwrap();
        let check = |zone: &str, prefixes: &str, expected: &[&str]| {
            bench.write("a.zone", zone, 0);
            bench.write("a.prefixes", prefixes, 0);
            let said = [load(&document, bench.0.path()).map(drop), load_prefixes(&document, bench.0.path()).map(drop)];
            let said: Vec<_> = said.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
            assert_eq!(said.len(), expected.len(), "{said:?}");
            for (said, expected) in said.iter().zip(expected) {
                assert!(said.contains(expected) && said.contains("is empty"), "{said}");
            }
        };
        check("", "", &["a.zone cannot be read", "a.prefixes:1"]);
        check("; nothing\n", "# nothing\n", &[]);
    }

    #[test]
    fn where_a_serial_is_from() {
        let bench = Bench::new();
        bench.write("a.zone", "a 60 A 192.0.2.1\n", 2_000);
        assert_eq!(bench.read(TRANSFER, None).serial, 2_000, "of the newest file");
        assert_eq!(bench.read("[zone]\nserial = 5\n", None).serial, 5);
        // Nobody compares it: whatever the time, it follows from the content.
        let hashed = bench.read("", None).serial;
        bench.write("a.zone", "a 60 A 192.0.2.1\n", 3_000);
        assert_eq!(bench.read("", None).serial, hashed);
        bench.write("a.zone", "a 60 A 192.0.2.2\n", 3_000);
        assert_ne!(bench.read("", None).serial, hashed);
        bench.write("a.zone", SOA, 3_000);
        assert_eq!((bench.read(TRANSFER, None).serial, bench.read("", None).serial), (77, 77));
    }

    #[test]
    fn a_serial_never_goes_back() {
        let bench = Bench::new();
        bench.write("a.zone", "a 60 A 192.0.2.1\n", 5_000);
        let first = bench.read(TRANSFER, None);
        // From a backup: older, and other content.
        bench.write("a.zone", "a 60 A 192.0.2.2\n", 4_000);
        let second = bench.read(TRANSFER, Some(&first));
        assert_eq!((first.serial, second.serial), (5_000, 5_001));
        // The same content, older still.
        bench.write("a.zone", "a 60 A 192.0.2.2\n", 3_000);
        assert!(bench.read(TRANSFER, Some(&second)).is_same_as(&second));
        bench.write("a.zone", "a 60 A 192.0.2.3\n", 6_000);
        assert_eq!(bench.read(TRANSFER, Some(&second)).serial, 6_000);
    }

    #[test]
    fn serial_numbers_wrap() {
        for (serial, other, expected) in [
            (2, 1, true),
            (1, 1, false),
            (1, 2, false),
            (0, u32::MAX, true),
            (0x8000_0000, 1, true),
            (0x8000_0002, 1, false),
        ] {
            assert_eq!(is_after(serial, other), expected, "{serial} {other}");
        }
    }
}
