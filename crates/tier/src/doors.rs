//! Where clients come in: the flags, the certificates that the document and the flags name, the listeners.

use std::{
    collections::HashSet,
    fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use anyhow::bail;
use clap::Args;
use ipnet::IpNet;
use perigee_node::{
    door_metrics::DoorMetrics,
    http::{Doors, HANDSHAKE_TIMEOUT, HEADER_TIMEOUT, IDLE_TIMEOUT, Limits, WRITE_TIMEOUT},
    listen::{self, Listeners},
    metrics::NodeMetrics,
    runtimes::Runtimes,
    tls::{Certificates, Pair, TlsMetrics, Watch},
};
use perigee_protocol::{
    document::{parse_duration, render_duration},
    model::Document,
};

use crate::assemble::Role;

/// Where `https` is, where nobody said.
pub(crate) const HTTPS_PORT: u16 = 443;

/// The flags of the doors.
#[derive(Args, Clone, Debug)]
pub struct DoorFlags {
    /// Address and port for HTTPS, or off; repeat it for several [default: port 443 of every address where there is a certificate]
    #[arg(long, value_name = "ADDRESS|off", env = "PERIGEE_LISTEN_TLS", value_delimiter = ',')]
    pub listen_tls: Vec<TlsAddress>,

    /// Certificate for every name that the document gives none, PEM: the node's own first, then what leads to its authority
    #[arg(long, value_name = "FILE", env = "PERIGEE_TLS_CERTIFICATE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,

    /// Private key of --tls-certificate, PEM
    #[arg(long, value_name = "FILE", env = "PERIGEE_TLS_KEY", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,

    /// Prefixes of load balancers that begin every connection with a PROXY protocol header (v1 or v2); nobody else may
    #[arg(long, value_name = "PREFIX", env = "PERIGEE_PROXY_PROTOCOL", value_delimiter = ',', value_parser = parse_prefix)]
    pub proxy_protocol: Vec<IpNet>,

    /// Connections of one client (an IPv4 address, an IPv6 /64) at once; further ones are closed. fair: 16 times what is free, so that it bites only where doors are nearly full; off: no limit
    #[arg(long, value_name = "N|fair|off", env = "PERIGEE_CONNECTIONS_PER_CLIENT", default_value = "fair")]
    pub connections_per_client: PerClient,

    /// How long a request's head may take, and a new connection to send one
    #[arg(long, value_name = "DURATION", env = "PERIGEE_HEADER_TIMEOUT", value_parser = parse_timeout, default_value_t = Shown(HEADER_TIMEOUT))]
    pub header_timeout: Shown,

    /// How long a connection may be idle between two requests
    #[arg(long, value_name = "DURATION", env = "PERIGEE_IDLE_TIMEOUT", value_parser = parse_timeout, default_value_t = Shown(IDLE_TIMEOUT))]
    pub idle_timeout: Shown,

    /// How long a client may take nothing of what it is sent
    #[arg(long, value_name = "DURATION", env = "PERIGEE_WRITE_TIMEOUT", value_parser = parse_timeout, default_value_t = Shown(WRITE_TIMEOUT))]
    pub write_timeout: Shown,

    /// How long a TLS handshake or a PROXY protocol header may take
    #[arg(long, value_name = "DURATION", env = "PERIGEE_HANDSHAKE_TIMEOUT", value_parser = parse_timeout, default_value_t = Shown(HANDSHAKE_TIMEOUT))]
    pub handshake_timeout: Shown,
}

impl DoorFlags {
    pub(crate) fn options(&self, tls_port: u16) -> anyhow::Result<DoorOptions> {
        let mut addresses = Vec::new();
        for address in &self.listen_tls {
            addresses.extend(address.0);
        }
        let tls = match (self.listen_tls.is_empty(), addresses.is_empty()) {
            (true, _) => TlsListen::WithCertificates(tls_port),
            (false, true) => TlsListen::Off,
            (false, false) if addresses.len() == self.listen_tls.len() => TlsListen::At(addresses),
            (false, false) => bail!("--listen-tls is given addresses and off; one of them must go"),
        };
        Ok(DoorOptions {
            tls,
            pair: self.tls_certificate.clone().zip(self.tls_key.clone()),
            proxies: self.proxy_protocol.clone(),
            per_client: self.connections_per_client,
            header_timeout: self.header_timeout.0,
            idle_timeout: self.idle_timeout.0,
            write_timeout: self.write_timeout.0,
            handshake_timeout: self.handshake_timeout.0,
        })
    }
}

/// One of `--listen-tls`; None is `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsAddress(pub Option<SocketAddr>);

impl FromStr for TlsAddress {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self(None));
        }
        text.parse().map(|address| Self(Some(address))).map_err(|_| "an address with a port, say 0.0.0.0:443, or off")
    }
}

/// How many connections a client may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PerClient {
    /// See [`Limits::client_share`].
    #[default]
    Fair,
    /// See [`Limits::client_connections_max`].
    Most(NonZeroU32),
    /// As many as there are.
    Off,
}

impl FromStr for PerClient {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "fair" => Ok(Self::Fair),
            "off" => Ok(Self::Off),
            _ => text.parse().map(Self::Most).map_err(|_| "a number from 1 on, fair, or off"),
        }
    }
}

/// A duration that is shown as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown(pub Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render_duration(self.0))
    }
}

fn parse_timeout(text: &str) -> Result<Shown, &'static str> {
    let range = Duration::from_millis(1)..=Duration::from_secs(3600);
    let parsed = parse_duration(text).filter(|duration| range.contains(duration));
    parsed.map(Shown).ok_or("a duration with a unit (ms, s, m, h), 1ms to 1h, for example 15s")
}

/// A prefix, or an address alone.
pub(crate) fn parse_prefix(text: &str) -> Result<IpNet, &'static str> {
    let prefix = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    match prefix {
        Ok(prefix) if prefix == prefix.trunc() => Ok(prefix),
        Ok(_) => Err("a prefix whose host bits are zero, for example 10.0.0.0/8"),
        Err(_) => Err("a prefix or an address, for example 10.0.0.0/8 or 192.0.2.1"),
    }
}

/// Where a tier listens for `https`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsListen {
    /// Nowhere, whatever certificates there are.
    Off,
    /// At that port of every address, if there is a certificate.
    WithCertificates(u16),
    /// There; a certificate must be, too.
    At(Vec<SocketAddr>),
}

/// What a tier is told of its doors.
#[derive(Clone, Debug)]
pub struct DoorOptions {
    /// Where `https` is.
    pub tls: TlsListen,
    /// Certificate and key for names that the document gives none.
    pub pair: Option<(PathBuf, PathBuf)>,
    /// Who speaks the PROXY protocol.
    pub proxies: Vec<IpNet>,
    /// How many connections a client may have.
    pub per_client: PerClient,
    /// See [`Limits::header_timeout`].
    pub header_timeout: Duration,
    /// See [`Limits::idle_timeout`].
    pub idle_timeout: Duration,
    /// See [`Limits::write_timeout`].
    pub write_timeout: Duration,
    /// See [`Limits::handshake_timeout`].
    pub handshake_timeout: Duration,
}

impl Default for DoorOptions {
    /// Plain HTTP to everybody.
    fn default() -> Self {
        Self {
            tls: TlsListen::Off,
            pair: None,
            proxies: Vec::new(),
            per_client: PerClient::Fair,
            header_timeout: HEADER_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
            handshake_timeout: HANDSHAKE_TIMEOUT,
        }
    }
}

impl DoorOptions {
    pub(crate) fn limits(&self, connections_max: usize) -> Limits {
        let client_connections_max = match self.per_client {
            PerClient::Most(most) => Some(most.get()),
            PerClient::Fair | PerClient::Off => None,
        };
        Limits {
            connections_max,
            client_connections_max,
            client_share: self.per_client == PerClient::Fair,
            header_timeout: self.header_timeout,
            idle_timeout: self.idle_timeout,
            write_timeout: self.write_timeout,
            handshake_timeout: self.handshake_timeout,
            ..Limits::default()
        }
    }
}

/// The certificates that a place of the document shows, and the flags' own last, for every other name.
pub(crate) fn pairs(document: Option<(&Document, &Path, &Role)>, own: Option<&(PathBuf, PathBuf)>) -> Vec<Pair> {
    let mut pairs = Vec::new();
    if let Some((document, folder, role @ Role::Edge(_))) = document {
        for site in document.sites.iter().filter(|site| role.serves(site)) {
            let Some(tls) = &site.tls else { continue };
            pairs.push(Pair {
                site: site.id.to_string(),
                names: document.site_hosts(site).collect(),
                certificate: folder.join(&tls.certificate),
                key: folder.join(&tls.key),
            });
        }
    }
    pairs.extend(own.map(|(certificate, key)| Pair {
        site: "--tls-certificate".into(),
        names: Vec::new(),
        certificate: certificate.clone(),
        key: key.clone(),
    }));
    pairs
}

/// The TLS of a running tier.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) certificates: Arc<Certificates>,
    _watch: Watch,
}

impl Tls {
    /// None: it does not listen for `https`.
    pub(crate) fn start(
        options: &DoorOptions,
        pairs: &[Pair],
        metrics: &NodeMetrics,
        runtimes: &Runtimes,
    ) -> anyhow::Result<Option<Self>> {
        match (&options.tls, pairs.first()) {
            (TlsListen::Off, Some(first)) => {
                tracing::warn!(
                    site = first.site,
                    "there is a certificate, and TLS is off: sites are served over http alone"
                );
                return Ok(None);
            }
            (TlsListen::Off | TlsListen::WithCertificates(_), None) => return Ok(None),
            (TlsListen::At(_), None) => bail!(
                "--listen-tls needs a certificate: give a site of this place `tls` in the document, or --tls-certificate and --tls-key"
            ),
            (_, Some(_)) => {}
        }
        let tls_metrics = metrics.register(TlsMetrics::register);
        let certificates = Certificates::load(pairs, tls_metrics, metrics.reloads.clone()).map_err(|errors| {
            let list: Vec<String> = errors.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("{}", list.join("\n"))
        })?;
        let watch = certificates.watch(&runtimes.control);
        Ok(Some(Self { certificates, _watch: watch }))
    }
}

/// What a new document would change of the certificates, applied by the caller once all else is good.
pub(crate) fn prepare(
    certificates: Option<&Arc<Certificates>>,
    options: &DoorOptions,
    pairs: &[Pair],
) -> Result<Option<perigee_node::tls::Prepared>, String> {
    match (certificates, pairs.first()) {
        (Some(certificates), _) => certificates
            .prepare(pairs)
            .map(Some)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        (None, Some(first)) if options.tls != TlsListen::Off => {
            Err(format!("site.{}.tls: this node was started without TLS; restart it", first.site))
        }
        (None, _) => Ok(None),
    }
}

/// Binds the listeners: a busy port is said before anything else is opened.
pub(crate) fn bind(
    listen: &[SocketAddr],
    options: &DoorOptions,
    has_certificates: bool,
    runtimes: &Runtimes,
) -> anyhow::Result<(Listeners, Option<Listeners>)> {
    let plain = Listeners::bind(listen, runtimes.threads())?;
    let tls = match &options.tls {
        TlsListen::Off => None,
        TlsListen::WithCertificates(_) if !has_certificates => None,
        TlsListen::WithCertificates(port) => Some(listen::default_addresses(*port)),
        TlsListen::At(addresses) => Some(addresses.clone()),
    };
    let taken: HashSet<_> = listen.iter().filter(|address| address.port() != 0).collect();
    if let Some(both) = tls.iter().flatten().find(|address| taken.contains(address)) {
        bail!("{both} is in --listen and in --listen-tls; one port speaks one of them");
    }
    let tls = tls.map(|addresses| Listeners::bind(&addresses, runtimes.threads())).transpose()?;
    Ok((plain, tls))
}

/// What is handed to `node::http::serve`.
pub(crate) fn doors(
    (plain, listeners): (Listeners, Option<Listeners>),
    tls: Option<&Tls>,
    options: &DoorOptions,
    metrics: &NodeMetrics,
) -> anyhow::Result<Doors> {
    let tls = match (listeners, tls) {
        (Some(listeners), Some(tls)) => Some((listeners, tls.certificates.server_config()?)),
        _ => None,
    };
    Ok(Doors { plain, tls, proxies: options.proxies.clone(), metrics: metrics.register(DoorMetrics::register) })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        doors: DoorFlags,
    }

    fn parse(line: &str) -> Result<DoorOptions, String> {
        let words = std::iter::once("node").chain(line.split_whitespace());
        let command = Command::try_parse_from(words).map_err(|error| error.to_string())?;
        command.doors.options(HTTPS_PORT).map_err(|error| error.to_string())
    }

    #[test]
    fn where_https_is() {
        let check = |line: &str, expected: TlsListen| assert_eq!(parse(line).unwrap().tls, expected, "{line}");
        let addresses = |list: &[&str]| TlsListen::At(list.iter().map(|text| text.parse().unwrap()).collect());
        check("", TlsListen::WithCertificates(443));
        check("--listen-tls off", TlsListen::Off);
        check("--listen-tls 127.0.0.1:1 --listen-tls [::1]:2", addresses(&["127.0.0.1:1", "[::1]:2"]));
        check("--listen-tls 127.0.0.1:1,[::1]:2", addresses(&["127.0.0.1:1", "[::1]:2"]));
        for bad in ["--listen-tls 443", "--listen-tls off,127.0.0.1:1", "--tls-certificate a", "--tls-key a"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn limits_and_their_bounds() {
        let defaults = parse("").unwrap();
        assert_eq!(
            (defaults.header_timeout, defaults.idle_timeout, defaults.handshake_timeout, defaults.write_timeout),
            (HEADER_TIMEOUT, IDLE_TIMEOUT, HANDSHAKE_TIMEOUT, WRITE_TIMEOUT)
        );
        let set = parse("--header-timeout 1ms --idle-timeout 1h --handshake-timeout 2s").unwrap();
        assert_eq!((set.header_timeout, set.idle_timeout), (Duration::from_millis(1), Duration::from_secs(3600)));
        let per_client = |line: &str| {
            let limits = parse(line).unwrap().limits(7);
            (limits.client_connections_max, limits.client_share)
        };
        assert_eq!(per_client(""), (None, true));
        assert_eq!(per_client("--connections-per-client fair"), (None, true));
        assert_eq!(per_client("--connections-per-client off"), (None, false));
        assert_eq!(per_client("--connections-per-client 1"), (Some(1), false));
        assert_eq!(per_client("--connections-per-client 4294967295"), (Some(u32::MAX), false));
        for bad in [
            "--header-timeout 0s",
            "--idle-timeout 3601s",
            "--handshake-timeout 2",
            "--write-timeout 0ms",
            "--connections-per-client 0",
            "--connections-per-client 4294967296",
            "--connections-per-client Fair",
            "--proxy-protocol 10.0.0.1/8",
            "--proxy-protocol x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let proxies = parse("--proxy-protocol 10.0.0.0/8,192.0.2.1 --proxy-protocol 2001:db8::/32").unwrap().proxies;
        assert_eq!(
            proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]
        );
    }
}
