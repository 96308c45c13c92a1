//! TLS of what this command dials: whom it trusts.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context, anyhow, ensure};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes in both directions, with TLS or without.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Trusts the authorities of a PEM file, or the public ones as bundled.
pub(crate) fn config(ca: Option<&Path>) -> anyhow::Result<ClientConfig> {
    let roots = match ca {
        Some(file) => roots(file).with_context(|| format!("cannot use {}", file.display()))?,
        None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}

fn roots(file: &Path) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&fs::read(file)?) {
        roots.add(certificate.map_err(|error| anyhow!("it is no PEM file: {error}"))?)?;
    }
    ensure!(!roots.is_empty(), "it holds no certificate (-----BEGIN CERTIFICATE-----)");
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_one_trusts() {
        let check = |text: &str, expected: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), text).unwrap();
            let error = format!("{:#}", config(Some(file.path())).unwrap_err());
            let named = error.strip_prefix(&format!("cannot use {}: ", file.path().display()));
            assert!(named.is_some_and(|why| why.starts_with(expected)), "{error}");
        };
        check("", "it holds no certificate");
        check("no PEM", "it holds no certificate");
        check("-----BEGIN CERTIFICATE-----\nAAAA\n", "it is no PEM file");
        assert!(config(Some(Path::new("/nowhere"))).is_err());
        assert!(config(None).is_ok());
    }
}
