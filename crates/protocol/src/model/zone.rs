//! `[zone]` beside its records: files of records, and who may have the whole zone.

use std::{net::SocketAddr, path::PathBuf};

use ipnet::IpNet;

/// `[zone]`, without `[[zone.record]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZoneSettings {
    /// `zone.serial`: the SOA's. None: the serial of a zone file's SOA; else made by the nameserver.
    pub serial: Option<u32>,
    /// `[[zone.file]]`
    pub files: Vec<ZoneFile>,
    /// `[[zone.key]]`, each name once.
    pub keys: Vec<ZoneTransferKey>,
    /// `[zone.transfer]`; None: nobody may have the zone.
    pub transfer: Option<Transfer>,
}

/// `[[zone.file]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneFile {
    /// Relative to the document.
    pub path: PathBuf,
    /// What names in it are relative to at its beginning: the zone or a name below it, lower-case, without the final dot.
    pub origin: String,
}

/// `[[zone.key]]`: a secret shared with secondaries (RFC 8945).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneTransferKey {
    /// A domain name, lower-case, without the final dot.
    pub name: String,
    /// What messages are signed with.
    pub algorithm: TsigAlgorithm,
    /// File of the secret in base 64, relative to the document.
    pub secret_file: PathBuf,
}

/// `zone.key.algorithm` (RFC 8945 §6)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TsigAlgorithm {
    /// `hmac-sha256`
    HmacSha256,
    /// `hmac-sha384`
    HmacSha384,
    /// `hmac-sha512`
    HmacSha512,
}

impl TsigAlgorithm {
    /// As the document and the wire have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        }
    }
}

/// `[zone.transfer]`: who may have the whole zone by AXFR and IXFR, with a signature of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// At least one.
    pub allow: Vec<IpNet>,
    /// The name of one of [`ZoneSettings::keys`].
    pub key: String,
    /// Secondaries that are told of a new version (RFC 1996).
    pub notify: Vec<SocketAddr>,
}
