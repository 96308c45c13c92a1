//! Sockets brought to the cores that serve them.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
};

use anyhow::Context;
use perigee_dns::{Limiter, Memory, Transport, dnssec::Signatures};
use perigee_node::{
    door_metrics::DoorMetrics,
    http::{self, Doors, Serving},
    listen::Listeners,
    metrics::NodeMetrics,
    quic,
    runtimes::Runtimes,
    state::NodeState,
    tls::Certificates,
};
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};

use crate::{
    answerer::{Answerer, Shared},
    doh::{self, Doh},
    doq,
    encrypted::{ALPN_QUIC, ALPN_TLS, Sockets},
    listen::Bound,
    room::Room,
    tcp::{self, Door, Greeting},
    udp, world,
};

/// Serves sockets on their cores.
pub(crate) struct Spawner<'a> {
    runtimes: &'a Runtimes,
    state: &'a Arc<NodeState>,
    /// By core.
    doors: Vec<Door>,
}

impl<'a> Spawner<'a> {
    pub(crate) fn new(
        runtimes: &'a Runtimes,
        shared: &Arc<Shared>,
        node_metrics: &Arc<NodeMetrics>,
        state: &'a Arc<NodeState>,
        drain: &watch::Receiver<bool>,
    ) -> Self {
        let (room, metrics) =
            (Arc::new(node_metrics.register(Room::register)), node_metrics.register(DoorMetrics::register));
        let door = |_| Door {
            shared: Arc::clone(shared),
            node_metrics: Arc::clone(node_metrics),
            metrics: metrics.clone(),
            room: Arc::clone(&room),
            signatures: Signatures::new(world::random_key()),
            drain: drain.clone(),
        };
        Self { runtimes, state, doors: runtimes.cores.iter().map(door).collect() }
    }

    fn cores(&self) -> impl Iterator<Item = (&Handle, &Door)> + Clone {
        self.runtimes.cores.iter().zip(&self.doors)
    }

    fn guard(&self, address: SocketAddr) -> Served {
        Served { state: Arc::clone(self.state), address }
    }

    /// UDP and TCP.
    pub(crate) fn plain(&self, bound: Vec<Bound>) -> anyhow::Result<Vec<JoinHandle<()>>> {
        let mut tasks = Vec::new();
        for bound in bound {
            for ((core, door), (udp, tcp)) in self.cores().zip(bound.udp.into_iter().zip(bound.tcp)) {
                let limiter = Limiter::new(world::random_key(), self.doors.len());
                let memory = Memory::new(limiter, door.signatures.clone());
                let mut answerer = Answerer::new(Arc::clone(&door.shared), Transport::Udp, memory);
                answerer.at(|| Some(bound.address));
                let served = udp::start(udp, answerer, door.drain.clone(), self.runtimes.pulses.add())
                    .context("no thread can be started")?;
                tasks.push(core.spawn(self.guard(bound.address).until(served)));
                let served = tcp::serve(tcp, Greeting::Plain, door.clone());
                tasks.push(core.spawn(self.guard(bound.address).until(served)));
            }
        }
        Ok(tasks)
    }

    /// TLS, HTTPS and QUIC; returns where they are.
    pub(crate) fn encrypted(
        &self,
        sockets: Sockets,
        certificates: &Arc<Certificates>,
        tasks: &mut Vec<JoinHandle<()>>,
    ) -> anyhow::Result<(Vec<SocketAddr>, Option<Serving>, Vec<SocketAddr>)> {
        let Sockets { tls, https, quic } = sockets;
        let tls_addrs = tls.as_ref().map_or_else(Vec::new, |tls| tls.local_addrs().to_vec());
        if let Some(listeners) = tls {
            let config = certificates.server_config_of(&[ALPN_TLS])?;
            for ((core, door), row) in self.cores().zip(listeners.into_cores()) {
                let greeting = Greeting::tls(Arc::clone(&config));
                for (listener, address) in row.into_iter().zip(&tls_addrs) {
                    let served = tcp::serve(listener, greeting.clone(), door.clone());
                    tasks.push(core.spawn(self.guard(*address).until(served)));
                }
            }
        }
        let https = https.map(|listeners| self.https(listeners, certificates)).transpose()?;
        let quic_addrs = self.quic(quic, certificates, tasks)?;
        Ok((tls_addrs, https, quic_addrs))
    }

    /// An address is one core's: the packets of a connection must all meet it, wherever its client moves to.
    fn quic(
        &self,
        sockets: Vec<(SocketAddr, UdpSocket)>,
        certificates: &Arc<Certificates>,
        tasks: &mut Vec<JoinHandle<()>>,
    ) -> anyhow::Result<Vec<SocketAddr>> {
        if sockets.is_empty() {
            return Ok(Vec::new());
        }
        let config = quic::server_config(certificates.server_config_of(&[ALPN_QUIC])?, doq::LIMITS)?;
        let mut addresses = Vec::new();
        for ((address, socket), (core, door)) in sockets.into_iter().zip(self.cores().cycle()) {
            let served = doq::serve(socket, config.clone(), door.clone());
            tasks.push(core.spawn(self.guard(address).until(served)));
            addresses.push(address);
        }
        Ok(addresses)
    }

    fn https(&self, listeners: Listeners, certificates: &Arc<Certificates>) -> anyhow::Result<Serving> {
        let Some(door) = self.doors.first() else { anyhow::bail!("there is no core to serve on") };
        let doors = Doors {
            plain: Listeners::bind(&[], self.doors.len())?,
            tls: Some((listeners, certificates.server_config()?)),
            proxies: Vec::new(),
            metrics: door.metrics.clone(),
        };
        let service = Doh::new(self.doors.iter().map(|door| door.answerer(Transport::Https)));
        let metrics = door.node_metrics.connections.clone();
        Ok(http::serve(self.runtimes, doors, Arc::new(service), &doh::limits(), metrics))
    }
}

/// Tells when a socket ends, by an error or a panic, though nobody asked for it: the node is not ready then.
#[derive(Debug)]
struct Served {
    state: Arc<NodeState>,
    address: SocketAddr,
}

impl Served {
    async fn until(self, served: impl Future<Output = ()>) {
        served.await;
        drop(self);
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if !self.state.is_draining() {
            tracing::error!(node = self.state.id(), address = %self.address, "a socket is not served any more");
            self.state.set_not_ready("sockets", format!("{} is not served any more", self.address));
        }
    }
}
