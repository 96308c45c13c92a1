//! A certificate and its key, from two files to what a handshake needs.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    Error, InconsistentKeys,
    client::verify_server_name,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject},
    },
    server::ParsedCertificate,
    sign::CertifiedKey,
};

use super::{ENDS_SOON, Pair, now_s};

/// The longest certificate or key file.
pub const PEM_BYTES_MAX: u64 = 1 << 20;

/// Why a pair cannot serve; names the key or flag, and the file.
#[derive(Debug, thiserror::Error)]
#[error("{whose}: {}: {reason}", path.display())]
pub struct PairError {
    whose: String,
    path: PathBuf,
    reason: Reason,
}

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("cannot be read: {0}")]
    Read(#[source] io::Error),
    #[error("is longer than {PEM_BYTES_MAX} bytes: is it the right file?")]
    TooLarge,
    #[error("is no PEM file: {0}")]
    Pem(String),
    #[error("holds no certificate (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    #[error("holds a certificate that cannot be read: {0}")]
    BadCertificate(String),
    #[error("holds no private key (-----BEGIN PRIVATE KEY-----)")]
    NoKey,
    #[error("holds a key that cannot be used: {0}")]
    BadKey(#[source] Error),
    #[error("is not the key of the certificate {}", .0.display())]
    OtherKey(PathBuf),
}

pub(super) struct Loaded {
    pub(super) key: Arc<CertifiedKey>,
    /// Unix seconds.
    pub(super) not_before: i64,
    /// Unix seconds.
    pub(super) not_after: i64,
    /// Names that the certificate is not good for.
    pub(super) uncovered: Vec<String>,
}

pub(super) fn load(pair: &Pair, provider: &CryptoProvider) -> Result<Loaded, PairError> {
    let wrong = |path: &Path, reason| PairError { whose: pair.whose(), path: path.to_owned(), reason };
    let in_certificate = |reason| wrong(&pair.certificate, reason);
    let in_key = |reason| wrong(&pair.key, reason);

    let chain = chain(&read(&pair.certificate).map_err(in_certificate)?).map_err(in_certificate)?;
    let leaf = chain.first().ok_or_else(|| in_certificate(Reason::NoCertificate))?;
    let (not_before, not_after) = validity(leaf).map_err(in_certificate)?;
    let uncovered = uncovered(leaf, &pair.names).map_err(in_certificate)?;

    let pem = read(&pair.key).map_err(in_key)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
        in_key(match error {
            pem::Error::NoItemsFound => Reason::NoKey,
            other => Reason::Pem(told(&other)),
        })
    })?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| in_key(Reason::BadKey(error)))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // Unknown: a kind of key that does not tell; the handshake will.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => return Err(in_key(Reason::OtherKey(pair.certificate.clone()))),
        Err(error) => return Err(in_certificate(Reason::BadCertificate(error.to_string()))),
    }
    Ok(Loaded { key: Arc::new(certified), not_before, not_after, uncovered })
}

fn read(path: &Path) -> Result<Vec<u8>, Reason> {
    let mut bytes = Vec::new();
    let file = crate::regular::open(path).map_err(Reason::Read)?;
    file.take(PEM_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(Reason::Read)?;
    if bytes.len() as u64 > PEM_BYTES_MAX { Err(Reason::TooLarge) } else { Ok(bytes) }
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Reason> {
    CertificateDer::pem_slice_iter(pem).map(|item| item.map_err(|error| Reason::Pem(told(&error)))).collect()
}

/// The library tells labels as numbers.
fn told(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("it ends before -----END {}-----", String::from_utf8_lossy(end_marker))
        }
        pem::Error::IllegalSectionStart { line } => {
            format!("a section begins badly: {}", String::from_utf8_lossy(line))
        }
        other => other.to_string(),
    }
}

/// RFC 5280 §4.1.2.5
fn validity(certificate: &CertificateDer<'_>) -> Result<(i64, i64), Reason> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|error| Reason::BadCertificate(error.to_string()))?;
    let validity = parsed.validity();
    Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// RFC 9110 §4.3.4: what a client will check.
fn uncovered(certificate: &CertificateDer<'_>, names: &[String]) -> Result<Vec<String>, Reason> {
    let parsed = ParsedCertificate::try_from(certificate).map_err(|error| Reason::BadCertificate(error.to_string()))?;
    let covers =
        |name: &str| ServerName::try_from(name.to_owned()).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok());
    Ok(names.iter().filter(|name| !covers(name)).cloned().collect())
}

impl Loaded {
    /// Logs what is no reason not to serve, but what clients will not like.
    pub(super) fn tell(&self, pair: &Pair) {
        let (site, path, now) = (&pair.site, pair.certificate.display(), now_s());
        let left = self.not_after.saturating_sub(now);
        if left < 0 {
            tracing::warn!(site, %path, "the certificate has expired: clients will refuse it");
        } else if left.unsigned_abs() < ENDS_SOON.as_secs() {
            tracing::warn!(site, %path, hours = left / 3600, "the certificate ends soon");
        }
        if self.not_before > now {
            tracing::warn!(site, %path, "the certificate is not valid yet: is the clock right?");
        }
        if !self.uncovered.is_empty() {
            tracing::warn!(site, %path, names = ?self.uncovered, "the certificate is not for these names of the site");
        }
    }
}
