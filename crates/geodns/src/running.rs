//! One nameserver, from start to drain.

use std::{collections::BTreeMap, net::SocketAddr};

use perigee_node::runtimes::Runtimes;

use crate::Options;

/// A nameserver that answers until it is drained.
#[derive(Debug)]
pub struct Running {
    listen: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
}

/// What a nameserver has done since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Queries answered, over both transports.
    pub queries: u64,
    /// Messages that deserved no answer.
    pub dropped: u64,
    /// Steered answers by the PoP that came first in them.
    pub answers_by_pop: BTreeMap<String, u64>,
    /// Addresses that are down by this nameserver's probes.
    pub addresses_down: Vec<std::net::IpAddr>,
    /// Of the document in use, from 1.
    pub document_generation: u64,
}

/// Starts a nameserver: reads document and database, binds every address, begins to probe and to answer.
///
/// Fails, naming the cause, when the document has mistakes or says what this version cannot do, when the database is
/// missing or damaged, and when an address is taken.
pub async fn start(options: Options, runtimes: &Runtimes) -> anyhow::Result<Running> {
    let _ = runtimes;
    anyhow::bail!("{}: cannot answer yet", options.name)
}

impl Running {
    /// The addresses bound, in the order of [`Options::listen`].
    pub fn listen_addrs(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// Where the admin API is.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// What it has done until now.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Stops reading, answers what is queued, and closes.
    pub async fn drain(self) {}
}
