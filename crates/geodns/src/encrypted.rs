//! DNS over TLS, HTTPS and QUIC: at which addresses, and with which certificate.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, UdpSocket},
    path::Path,
    sync::Arc,
};

use anyhow::{anyhow, bail};
use perigee_node::{
    listen::{Listeners, bind_udp},
    metrics::NodeMetrics,
    tls::{Certificates, Pair, PairError, Prepared, TlsMetrics, Watch},
};
use perigee_protocol::model::{DnsOffer, DnsTls, Document};
use tokio::runtime::Handle;

use crate::{
    options::{EncryptedListen, ListenAt},
    udp::RECEIVE_BUFFER_BYTES,
};

/// RFC 7858 §3.1, RFC 9250 §4.1.1
pub(crate) const TLS_AND_QUIC_PORT: u16 = 853;
/// RFC 8484 §4.1: as any https.
pub(crate) const HTTPS_PORT: u16 = 443;

/// The protocol of DNS over TLS in a handshake (RFC 7858 §6.4, IANA's registry of ALPN).
pub(crate) const ALPN_TLS: &[u8] = b"dot";
/// RFC 9250 §4.1.1
pub(crate) const ALPN_QUIC: &[u8] = b"doq";

/// Sockets, `[core][address]`; of QUIC one of each address, since a connection's packets must all meet it.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) tls: Option<Listeners>,
    pub(crate) https: Option<Listeners>,
    pub(crate) quic: Vec<(SocketAddr, UdpSocket)>,
}

/// Binds what the flags say and the document offers. `plain`: where the nameserver answers in the clear.
pub(crate) fn bind(
    listen: &EncryptedListen,
    tls: Option<&DnsTls>,
    plain: &[SocketAddr],
    cores: usize,
) -> anyhow::Result<Sockets> {
    let streams = |flag, at: &ListenAt, offer| -> anyhow::Result<_> {
        let addresses = addresses(flag, at, offer, tls, plain)?;
        let listeners = (!addresses.is_empty()).then(|| Listeners::bind(&addresses, cores));
        Ok(listeners.transpose()?)
    };
    let over_tls = streams("--listen-tls", &listen.tls, DnsOffer::Dot)?;
    let https = streams("--listen-https", &listen.https, DnsOffer::Doh)?;
    let quic = addresses("--listen-quic", &listen.quic, DnsOffer::Doq, tls, plain)?;
    let (bound, sockets) = bind_udp(&quic, 1, RECEIVE_BUFFER_BYTES)?;
    let quic = bound.into_iter().zip(sockets.into_iter().flatten()).collect();
    Ok(Sockets { tls: over_tls, https, quic })
}

fn addresses(
    flag: &str,
    at: &ListenAt,
    offer: DnsOffer,
    tls: Option<&DnsTls>,
    plain: &[SocketAddr],
) -> anyhow::Result<Vec<SocketAddr>> {
    let port = if offer == DnsOffer::Doh { HTTPS_PORT } else { TLS_AND_QUIC_PORT };
    match at {
        ListenAt::Off => Ok(Vec::new()),
        ListenAt::Offered if tls.is_some_and(|tls| tls.offers.contains(&offer)) => {
            let ips: BTreeSet<_> = plain.iter().map(SocketAddr::ip).collect();
            Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
        }
        ListenAt::Offered => Ok(Vec::new()),
        ListenAt::At(_) if tls.is_none() => {
            bail!("{flag} needs a certificate: give the document [cdn.dns_tls] with certificate = and key =")
        }
        ListenAt::At(addresses) => Ok(addresses.clone()),
    }
}

/// What a running nameserver shows, and which new documents it can follow.
#[derive(Debug)]
pub(crate) struct Encrypted {
    listen: EncryptedListen,
    served: BTreeSet<DnsOffer>,
    /// None: nothing is encrypted.
    pub(crate) certificates: Option<Arc<Certificates>>,
    _watch: Option<Watch>,
}

impl Encrypted {
    /// Reads the certificate, if anything is to show it.
    pub(crate) fn start(
        listen: EncryptedListen,
        sockets: &Sockets,
        (document, folder): (&Document, &Path),
        metrics: &NodeMetrics,
        control: &Handle,
    ) -> anyhow::Result<Self> {
        let here = [
            (DnsOffer::Dot, sockets.tls.is_some()),
            (DnsOffer::Doh, sockets.https.is_some()),
            (DnsOffer::Doq, !sockets.quic.is_empty()),
        ];
        let served: BTreeSet<_> = here.into_iter().filter(|(_, is_here)| *is_here).map(|(offer, _)| offer).collect();
        let pair = pair(document, folder).filter(|_| !served.is_empty());
        let load = |pair| {
            Certificates::load(&[pair], metrics.register(TlsMetrics::register), metrics.reloads.clone())
                .map_err(|errors| anyhow!(told(&errors)))
        };
        let certificates = pair.map(load).transpose()?;
        let watch = certificates.as_ref().map(|certificates| certificates.watch(control));
        Ok(Self { listen, served, certificates, _watch: watch })
    }

    /// Reads what a new document names; nothing changes before [`Self::apply`]. Fails where it offers what this nameserver
    /// would have to listen for and does not.
    pub(crate) fn prepare(&self, document: &Document, folder: &Path) -> Result<Option<Prepared>, String> {
        let offers = document.cdn.dns_tls.iter().flat_map(|tls| &tls.offers);
        for offer in offers.filter(|offer| !self.served.contains(offer)) {
            let (at, word) = match offer {
                DnsOffer::Dot => (&self.listen.tls, "dot"),
                DnsOffer::Doq => (&self.listen.quic, "doq"),
                DnsOffer::Doh => (&self.listen.https, "doh"),
            };
            if *at == ListenAt::Offered {
                return Err(format!("cdn.dns_tls.offers: this nameserver was started without {word}; restart it"));
            }
        }
        match (&self.certificates, pair(document, folder)) {
            (Some(certificates), Some(pair)) => certificates.prepare(&[pair]).map(Some).map_err(|errors| told(&errors)),
            (Some(_), None) => {
                tracing::warn!(
                    "the document has no cdn.dns_tls any more; what listens goes on with the old certificate"
                );
                Ok(None)
            }
            (None, _) => Ok(None),
        }
    }

    /// Shows what was prepared.
    pub(crate) fn apply(&self, prepared: Option<Prepared>) {
        if let (Some(certificates), Some(prepared)) = (&self.certificates, prepared) {
            certificates.apply(prepared);
        }
    }
}

/// RFC 9539 §4.6.3: resolvers reach a nameserver by its address and may name anything, or nothing; one certificate is for all.
fn pair(document: &Document, folder: &Path) -> Option<Pair> {
    let tls = document.cdn.dns_tls.as_ref()?;
    Some(Pair {
        site: "cdn.dns_tls".into(),
        names: Vec::new(),
        certificate: folder.join(&tls.certificate),
        key: folder.join(&tls.key),
    })
}

fn told(errors: &[PairError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(offers: &[DnsOffer]) -> DnsTls {
        let offers = offers.iter().copied().collect();
        DnsTls { certificate: "ns.pem".into(), key: "ns.key".into(), offers }
    }

    #[test]
    fn where_it_listens() {
        let plain = ["192.0.2.1:53", "192.0.2.1:5300", "[2001:db8::1]:53"].map(|text| text.parse().unwrap());
        let own = ListenAt::At(vec!["127.0.0.1:8853".parse().unwrap()]);
        let all = tls(&[DnsOffer::Dot, DnsOffer::Doq, DnsOffer::Doh]);
        let check = |at: &ListenAt, offer, tls: Option<&DnsTls>, expected: &str| {
            let found = match addresses("--listen-x", at, offer, tls, &plain) {
                Ok(found) => found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expected);
        };
        check(&ListenAt::Off, DnsOffer::Dot, Some(&all), "");
        check(&ListenAt::Offered, DnsOffer::Dot, None, "");
        check(&ListenAt::Offered, DnsOffer::Dot, Some(&tls(&[DnsOffer::Doq])), "");
        check(&ListenAt::Offered, DnsOffer::Dot, Some(&all), "192.0.2.1:853 [2001:db8::1]:853");
        check(&ListenAt::Offered, DnsOffer::Doq, Some(&all), "192.0.2.1:853 [2001:db8::1]:853");
        check(&ListenAt::Offered, DnsOffer::Doh, Some(&all), "192.0.2.1:443 [2001:db8::1]:443");
        check(&own, DnsOffer::Doh, Some(&tls(&[])), "127.0.0.1:8853");
        check(
            &own,
            DnsOffer::Doh,
            None,
            "--listen-x needs a certificate: give the document [cdn.dns_tls] with certificate = and key =",
        );
    }
}
