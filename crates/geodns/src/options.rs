//! What one nameserver is told.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use perigee_node::{flags::AccessLogTarget, page::PageOptions};
use perigee_protocol::model::Document;

use crate::dnstap::TapOptions;

/// The port of DNS (RFC 1035 §4.2).
pub const DNS_PORT: u16 = 53;

/// Where the document comes from.
#[derive(Clone, Debug)]
pub enum DocumentSource {
    /// Read now and followed: a changed file is swapped in, a bad one is refused and the old one goes on.
    File(PathBuf),
    /// Given, for good. Files that it names are relative to `folder`.
    Given {
        /// The validated document.
        document: Arc<Document>,
        /// Where its databases are.
        folder: PathBuf,
    },
}

/// What one nameserver is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// For logs, metrics and status. None: the first label of the nameserver of the document that has one of the
    /// addresses, else `geodns`.
    pub name: Option<String>,
    /// The fleet.
    pub document: DocumentSource,
    /// UDP and TCP addresses to answer on; port 0 takes a free one, the same for both. An address of all (`0.0.0.0`,
    /// `[::]`) stands for each that an interface has now, so that every reply comes from the address asked.
    pub listen: Vec<SocketAddr>,
    /// Where DNS is spoken over TLS, HTTPS and QUIC.
    pub encrypted: EncryptedListen,
    /// Where `/metrics`, `/healthz`, `/readyz` and `/v1/status` are; None: nowhere.
    pub admin: Option<SocketAddr>,
    /// What the admin API's page shows beside this node.
    pub page: PageOptions,
    /// Where one JSON line of each query goes.
    pub query_log: AccessLogTarget,
    /// Of how many queries one gets its line.
    pub query_log_one_in: NonZeroU32,
    /// What of the queries goes where as dnstap.
    pub dnstap: TapOptions,
    /// Where the probes of an address go instead of to the address and its health port, for edges that this machine
    /// reaches by another way than clients do.
    pub probe_at: BTreeMap<IpAddr, SocketAddr>,
    /// Where what operators say of PoPs is kept; made if it is not there. None: it lasts as long as the process.
    pub state: Option<PathBuf>,
    /// How often the folder of DNSSEC keys is looked at: [`KEYS_LOOK`].
    pub keys_look: Duration,
}

/// How often the folder of DNSSEC keys is looked at.
pub const KEYS_LOOK: Duration = Duration::from_secs(30);

/// Where DNS is spoken over TLS (RFC 7858), HTTPS (RFC 8484) and QUIC (RFC 9250), with the certificate of `[cdn.dns_tls]`.
/// Nowhere by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncryptedListen {
    /// TCP addresses of DNS over TLS; its standard port is 853.
    pub tls: ListenAt,
    /// TCP addresses of DNS over HTTPS, path `/dns-query`; its standard port is 443.
    pub https: ListenAt,
    /// UDP addresses of DNS over QUIC; its standard port is 853.
    pub quic: ListenAt,
}

/// Where one of them listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListenAt {
    /// Nowhere, whatever the document offers.
    #[default]
    Off,
    /// At the standard port of [`Options::listen`]'s addresses, if the document offers it.
    Offered,
    /// There, whether the document offers it or not; port 0 takes a free one.
    At(Vec<SocketAddr>),
}
