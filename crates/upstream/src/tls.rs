//! Whom to believe over TLS: the public authorities, or those that the document names.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use perigee_protocol::model::{UpstreamTls, Url};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{
        CertificateDer, InvalidDnsNameError, ServerName,
        pem::{self, PemObject},
    },
};

/// Certificates that a server's must lead to. Equal when they were read from equal bytes.
#[derive(Clone)]
pub struct Roots {
    store: Arc<RootCertStore>,
    /// What they were read from; empty: the bundled ones.
    pem: Arc<[u8]>,
}

/// Why bytes are no certificates to trust.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// Not PEM.
    #[error("is no PEM file: {0}")]
    Pem(String),
    /// PEM, but a certificate in it is none.
    #[error("holds a certificate that cannot be trusted: {0}")]
    Certificate(#[source] rustls::Error),
    /// PEM without certificates.
    #[error("holds no certificate (-----BEGIN CERTIFICATE-----)")]
    Empty,
}

impl Roots {
    /// The public authorities, as bundled with the program: nothing of the machine is read.
    pub fn bundled() -> Self {
        let store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        Self { store: Arc::new(store), pem: Arc::default() }
    }

    /// The certificates of a PEM file, and no others.
    pub fn from_pem(pem: &[u8]) -> Result<Self, RootsError> {
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| RootsError::Pem(told(&error)))?;
            store.add(certificate).map_err(RootsError::Certificate)?;
        }
        if store.is_empty() {
            return Err(RootsError::Empty);
        }
        Ok(Self { store: Arc::new(store), pem: pem.into() })
    }
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

impl PartialEq for Roots {
    fn eq(&self, other: &Self) -> bool {
        self.pem == other.pem
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.store.len())
    }
}

/// The files of certificates that a document names (`upstream.tls.ca`, `shield.tls.ca`), read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trust(BTreeMap<PathBuf, Roots>);

impl Trust {
    /// Adds what a file holds, under the name that the document gives it.
    pub fn add(&mut self, name: &Path, roots: Roots) {
        self.0.insert(name.to_owned(), roots);
    }

    fn roots(&self, tls: &UpstreamTls) -> Result<Roots, TlsError> {
        match &tls.ca {
            None => Ok(Roots::bundled()),
            Some(name) => self.0.get(name).cloned().ok_or_else(|| TlsError::NotRead(name.clone())),
        }
    }
}

/// Why TLS cannot be spoken to a server at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("{0}: was not read")]
    NotRead(PathBuf),
    #[error("{0:?} is no name that a certificate could have")]
    Name(String, #[source] InvalidDnsNameError),
    #[error("no TLS version to offer")]
    Versions(#[source] rustls::Error),
}

/// How to speak TLS to one server. Keeps its session tickets.
pub(crate) struct ClientTls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

impl ClientTls {
    /// `h2`: HTTP/2 is offered first (RFC 7301), else HTTP/1.1 alone.
    pub(crate) fn new(url: &Url, tls: &UpstreamTls, trust: &Trust, h2: bool) -> Result<Self, TlsError> {
        let name = tls.name.as_deref().unwrap_or(&url.host);
        let name = ServerName::try_from(name.to_owned()).map_err(|error| TlsError::Name(name.to_owned(), error))?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Versions)?
            .with_root_certificates(trust.roots(tls)?.store)
            .with_no_client_auth();
        config.alpn_protocols =
            if h2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
        Ok(Self { config: Arc::new(config), name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        let check = |pem: &str, expected: &str| {
            let error = Roots::from_pem(pem.as_bytes()).expect_err(pem).to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("", "holds no certificate");
        check("hello", "holds no certificate");
        check("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", "is no PEM file");
        check("-----BEGIN CERTIFICATE-----\nAA", "is no PEM file: it ends before -----END CERTIFICATE-----");
        check("-----BEGIN CERTIFICATE\nAAAA\n", "is no PEM file: a section begins badly: -----BEGIN CERTIFICATE");
        check("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot be trusted");
        check("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "holds no certificate");
    }

    #[test]
    fn equal_files_are_equal_trust() {
        let certificate = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert.pem();
        let (one, other) = (certificate("a.example"), certificate("b.example"));
        assert_eq!(Roots::from_pem(one.as_bytes()).unwrap(), Roots::from_pem(one.as_bytes()).unwrap());
        assert_ne!(Roots::from_pem(one.as_bytes()).unwrap(), Roots::from_pem(other.as_bytes()).unwrap());
        assert_ne!(Roots::from_pem(one.as_bytes()).unwrap(), Roots::bundled());
    }
}
