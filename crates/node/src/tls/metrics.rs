//! What is counted of certificates and handshakes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SiteLabel {
    site: String,
}

/// Of the certificates.
#[derive(Clone, Debug, Default)]
pub struct TlsMetrics {
    expiry: Family<SiteLabel, Gauge>,
    known: Arc<Mutex<HashSet<String>>>,
}

impl TlsMetrics {
    /// Registers `perigee_tls_certificate_expiry_seconds`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "perigee_tls_certificate_expiry_seconds",
            "When the certificate that serves a site ends, in seconds since the Unix epoch",
            metrics.expiry.clone(),
        );
        metrics
    }

    /// Of these sites and of no others.
    pub(super) fn set_expiries(&self, ends: Vec<(String, i64)>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let sites: HashSet<String> = ends.iter().map(|(site, _)| site.clone()).collect();
        for gone in known.difference(&sites) {
            self.expiry.remove(&SiteLabel { site: gone.clone() });
        }
        for (site, end) in ends {
            self.expiry.get_or_create(&SiteLabel { site }).set(end);
        }
        *known = sites;
    }
}
