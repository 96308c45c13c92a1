//! What one tier is told.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, sync::Arc, time::Duration};

use perigee_node::{flags::AccessLogTarget, page::PageOptions, sizes::DiskSpec};
use perigee_protocol::{
    id::PopId,
    model::{CachePolicy, Document, Url},
};

use crate::{assemble::Role, doors::DoorOptions, trace::TraceOptions};

/// Memory of a tier that is not told otherwise, in bytes.
pub(crate) const MEMORY_BYTES_DEFAULT: u64 = 256 << 20;

/// What is served.
#[derive(Clone, Debug)]
pub enum Source {
    /// A document, read now and followed: a changed file is swapped in, a bad one is refused and the old one goes on.
    File {
        /// The document.
        path: PathBuf,
        /// Which place of the fleet this is.
        role: Role,
    },
    /// A document, given for good. Files that it names are relative to `folder`.
    Given {
        /// The validated document.
        document: Arc<Document>,
        /// Where its files are.
        folder: PathBuf,
        /// Which place of the fleet this is.
        role: Role,
    },
    /// One site for every host, without a document.
    Quick {
        /// At least one.
        origins: Vec<Url>,
        /// `[site.cache]`
        cache: CachePolicy,
    },
}

impl Source {
    /// Of an edge with a document.
    pub(crate) fn pop(&self) -> Option<PopId> {
        match self {
            Self::File { role: Role::Edge(pop), .. } | Self::Given { role: Role::Edge(pop), .. } => Some(pop.clone()),
            _ => None,
        }
    }
}

/// What one tier is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is served.
    pub source: Source,
    /// In Cache-Status, Via, logs and status; none: the PoP's or shield's id, `perigee` without a document.
    pub name: Option<String>,
    /// Addresses to serve on; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Where `/metrics`, `/healthz`, `/readyz` and `/v1/status` are; None: nowhere.
    pub admin: Option<SocketAddr>,
    /// What the admin API's page shows beside this node.
    pub page: PageOptions,
    /// Of everything the tier keeps in memory, in bytes.
    pub memory_bytes: u64,
    /// Where it caches on disk.
    pub disk: Option<DiskSpec>,
    /// Where each request's line goes.
    pub access_log: AccessLogTarget,
    /// Of how many requests one gets its line.
    pub access_log_one_in: NonZeroU32,
    /// Connections served at once.
    pub connections_max: usize,
    /// TLS, the PROXY protocol, time-outs.
    pub doors: DoorOptions,
    /// Where traces go; None: nowhere.
    pub traces: Option<TraceOptions>,
    /// How long a drain serves on while the health path says that it is about to end; zero: not at all.
    pub drain_notice: Duration,
}

impl Options {
    /// A tier without disk, admin API and access log.
    pub fn new(source: Source, listen: Vec<SocketAddr>) -> Self {
        Self {
            source,
            name: None,
            listen,
            admin: None,
            page: PageOptions::default(),
            memory_bytes: MEMORY_BYTES_DEFAULT,
            disk: None,
            access_log: AccessLogTarget::Off,
            access_log_one_in: NonZeroU32::MIN,
            connections_max: 10_000,
            doors: DoorOptions::default(),
            traces: None,
            drain_notice: Duration::ZERO,
        }
    }
}
