//! A zone's DNSSEC keys in a folder: one small TOML file for each, the same on every nameserver of the fleet.

use std::{
    fs, io,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use perigee_dns::{
    InvalidName, Name,
    dnssec::{ActiveKeys, Algorithm, InvalidKey, KeyRing, KeyRingError, Life, Role, ZoneKey},
};
use perigee_node::regular;
use perigee_protocol::model::Document;
use serde::{Deserialize, Serialize};

/// Keys that a folder may have.
const KEYS_MAX: usize = 64;
/// Longer files are something else.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// Why a folder's keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The folder or a file of it.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not one of our files.
    #[error("{path}: is no key file of `perigee dns keygen`: {reason}")]
    Form {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Of another zone.
    #[error("{path}: is a key of the zone {zone}, not of {expected}")]
    Zone {
        /// Which.
        path: PathBuf,
        /// Whose.
        zone: String,
        /// Ours.
        expected: String,
    },
    /// None, or none of use now.
    #[error("{folder}: {source}; make one with `perigee dns keygen --document FILE`")]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: KeyRingError,
    },
    /// The zone's name.
    #[error("the zone {0:?} {1}")]
    Name(String, #[source] InvalidName),
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum RoleWord {
    Csk,
    Ksk,
    Zsk,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
enum AlgorithmWord {
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
    #[serde(rename = "ed25519")]
    Ed25519,
}

/// A key as its file has it. Times are seconds since the Unix epoch.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Written {
    zone: String,
    role: RoleWord,
    algorithm: AlgorithmWord,
    /// 32 octets, hexadecimal.
    private_key: String,
    publish: u64,
    activate: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    retire: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remove: Option<u64>,
}

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Written").field("zone", &self.zone).field("role", &self.role).finish_non_exhaustive()
    }
}

/// A key and its file.
#[derive(Debug)]
pub struct KeyFile {
    /// Where it lies.
    pub path: PathBuf,
    /// What it signs.
    pub role: Role,
    /// When.
    pub life: Life,
    /// The key.
    pub key: ZoneKey,
    written: Written,
}

impl KeyFile {
    /// Makes a file for a private key; an existing one is not overwritten.
    pub fn create(
        folder: &Path,
        zone: &str,
        algorithm: Algorithm,
        role: Role,
        life: Life,
        private: &[u8; 32],
    ) -> Result<Self, KeysError> {
        let written = Written {
            zone: zone.to_owned(),
            role: match role {
                Role::Csk => RoleWord::Csk,
                Role::Ksk => RoleWord::Ksk,
                Role::Zsk => RoleWord::Zsk,
            },
            algorithm: match algorithm {
                Algorithm::EcdsaP256 => AlgorithmWord::EcdsaP256,
                Algorithm::Ed25519 => AlgorithmWord::Ed25519,
            },
            private_key: private.iter().map(|octet| format!("{octet:02x}")).collect(),
            publish: life.publish_s,
            activate: life.activate_s,
            retire: life.retire_s,
            remove: life.remove_s,
        };
        let form = |InvalidKey| KeysError::Form { path: folder.to_owned(), reason: InvalidKey.to_string() };
        let tag = ZoneKey::new(algorithm, private, role, life).map_err(form)?.tag();
        let path = folder.join(format!("{zone}+{:03}+{tag:05}.toml", algorithm.number()));
        let io = |source| KeysError::Io { path: path.clone(), source };
        fs::create_dir_all(folder).map_err(io)?;
        if path.exists() {
            return Err(io(io::ErrorKind::AlreadyExists.into()));
        }
        write(&path, &written)?;
        Self::of(path, written)
    }

    /// Changes when the key is used.
    pub fn set_life(&mut self, life: Life) -> Result<(), KeysError> {
        let mut written = self.written.clone();
        (written.publish, written.activate, written.retire, written.remove) =
            (life.publish_s, life.activate_s, life.retire_s, life.remove_s);
        write(&self.path, &written)?;
        *self = Self::of(self.path.clone(), written)?;
        Ok(())
    }

    fn read(path: PathBuf) -> Result<Self, KeysError> {
        let io = |source| KeysError::Io { path: path.clone(), source };
        let mut text = String::new();
        let file = regular::open(&path).map_err(io)?;
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(io)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(KeysError::Form { path, reason: format!("it has more than {FILE_BYTES_MAX} bytes") });
        }
        match toml::from_str(&text) {
            Ok(written) => Self::of(path, written),
            // Without the text: the private key is in it.
            Err(error) => Err(KeysError::Form { path, reason: error.message().to_owned() }),
        }
    }

    fn of(path: PathBuf, written: Written) -> Result<Self, KeysError> {
        let form = |reason: &str| KeysError::Form { path: path.clone(), reason: reason.to_owned() };
        let private = unhex(&written.private_key).ok_or_else(|| form("private_key must be 64 hexadecimal digits"))?;
        let role = match written.role {
            RoleWord::Csk => Role::Csk,
            RoleWord::Ksk => Role::Ksk,
            RoleWord::Zsk => Role::Zsk,
        };
        let algorithm = match written.algorithm {
            AlgorithmWord::EcdsaP256 => Algorithm::EcdsaP256,
            AlgorithmWord::Ed25519 => Algorithm::Ed25519,
        };
        let life = Life {
            publish_s: written.publish,
            activate_s: written.activate,
            retire_s: written.retire,
            remove_s: written.remove,
        };
        let key = ZoneKey::new(algorithm, &private, role, life).map_err(|error| form(&error.to_string()))?;
        Ok(Self { path, role, life, key, written })
    }
}

fn unhex(digits: &str) -> Option<[u8; 32]> {
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut octets = [0; 32];
    for (at, octet) in octets.iter_mut().enumerate() {
        *octet = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(octets)
}

/// For its owner's eyes only, and whole or not at all.
fn write(path: &Path, written: &Written) -> Result<(), KeysError> {
    let io = |source| KeysError::Io { path: path.to_owned(), source };
    let text = toml::to_string(written).map_err(|error| io(io::Error::other(error)))?;
    let text = format!(
        "# A DNSSEC key of {}. Keep it secret; every nameserver of the fleet needs it. Times are Unix seconds.\n{text}",
        written.zone
    );
    let beside = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let done = options.open(&beside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    });
    done.map_err(io)
}

/// All keys of a folder, by name.
pub fn read(folder: &Path, zone: &str) -> Result<Vec<KeyFile>, KeysError> {
    let io = |source| KeysError::Io { path: folder.to_owned(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.len() > KEYS_MAX {
        return Err(KeysError::Form { path: folder.to_owned(), reason: format!("it has more than {KEYS_MAX} files") });
    }
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let file = KeyFile::read(path)?;
        if file.written.zone != zone {
            let (path, zone_of) = (file.path, file.written.zone);
            return Err(KeysError::Zone { path, zone: zone_of, expected: zone.to_owned() });
        }
        files.push(file);
    }
    Ok(files)
}

/// The keys that sign the document's zone at `now_s`; None: the document wants none.
pub fn active(document: &Document, folder: &Path, now_s: u64) -> Result<Option<ActiveKeys>, KeysError> {
    let Some(dnssec) = &document.cdn.dnssec else { return Ok(None) };
    let folder = folder.join(&dnssec.keys);
    let keys = read(&folder, &document.cdn.zone)?.into_iter().map(|file| file.key).collect();
    KeyRing::new(keys).at(now_s).map(Some).map_err(|source| KeysError::Unusable { folder, source })
}

/// The DS records that the parent is to have: one for each key that it vouches for.
pub fn ds_records(files: &[KeyFile], zone: &str) -> Result<Vec<String>, KeysError> {
    let apex = Name::parse(zone).map_err(|source| KeysError::Name(zone.to_owned(), source))?;
    let vouched = files.iter().filter(|file| file.role != Role::Zsk && file.life.remove_s.is_none());
    Ok(vouched.map(|file| file.key.ds_record(&apex)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: Life = Life { publish_s: 0, activate_s: 0, retire_s: None, remove_s: None };

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let zone = "cdn.example";
        let make = |seed: u8, role| {
            KeyFile::create(folder.path(), zone, Algorithm::EcdsaP256, role, ALWAYS, &[seed; 32]).unwrap()
        };
        let (mut ksk, zsk) = (make(1, Role::Ksk), make(2, Role::Zsk));
        let tags = |files: Vec<KeyFile>| files.iter().map(|file| file.key.tag()).collect::<Vec<_>>();
        let mut made = vec![ksk.key.tag(), zsk.key.tag()];
        made.sort_unstable();
        assert_eq!(tags(read(folder.path(), zone).unwrap()), made);
        assert_eq!(ds_records(&read(folder.path(), zone).unwrap(), zone).unwrap().len(), 1);
        ksk.set_life(Life { remove_s: Some(9), ..ALWAYS }).unwrap();
        assert_eq!(ds_records(&read(folder.path(), zone).unwrap(), zone).unwrap().len(), 0);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&ksk.path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let again = KeyFile::create(folder.path(), zone, Algorithm::EcdsaP256, Role::Zsk, ALWAYS, &[2; 32]);
        assert!(matches!(again, Err(KeysError::Io { .. })), "nothing is overwritten");
        assert!(matches!(read(folder.path(), "other.example"), Err(KeysError::Zone { .. })));
    }

    #[test]
    fn other_files_are_refused_without_telling_what_is_in_them() {
        let check = |text: &str, expected: &str| {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("a.toml"), text).unwrap();
            let error = read(folder.path(), "cdn.example").unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("5ec4e7"), "{error}");
        };
        check("private_key = \"5ec4e7", "is no key file");
        check("private_key = \"5ec4e7\"", "missing field");
        let whole = |key: &str| {
            format!(
                "zone = \"cdn.example\"\nrole = \"csk\"\nalgorithm = \"ecdsa-p256\"\nprivate_key = \"{key}\"\npublish = 0\nactivate = 0\n"
            )
        };
        check(&whole("5ec4e7"), "64 hexadecimal digits");
        check(&whole(&"00".repeat(32)), "no private key");
    }
}
