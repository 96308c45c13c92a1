//! The demo's nodes: started together on one set of runtimes, watched, drained in the order of the requests' way.

use std::{
    error::Error as _,
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, anyhow};
use futures_util::future::{join_all, try_join_all};
use perigee_node::{
    admin::AdminError, flags::AccessLogTarget, listen::ListenError, page::Feed, runtimes::Runtimes, sizes::DiskSpec,
};
use perigee_tier::{Role, Source, TierStats};

use super::{
    layout::{DOCUMENT_FILE, Edge, Layout, Server},
    options::DemoArgs,
    refusal::{Refusal, gather},
};
use crate::{
    distance::{Relay, Road, Stand, place},
    origin::Origin,
};

/// How long requests in flight may go on after Ctrl-C.
const DRAIN_BOUND: Duration = Duration::from_secs(10);

/// Every node of the demo.
#[derive(Debug)]
pub(crate) struct Fleet {
    origin: Origin,
    shields: Vec<(Server, perigee_tier::Running)>,
    edges: Vec<EdgeNode>,
    nameservers: Vec<perigee_geodns::Running>,
    /// Where the document lies.
    folder: String,
    /// What holds back everything that goes to shields, origin and nameservers.
    _relays: Vec<Relay>,
}

#[derive(Debug)]
struct EdgeNode {
    edge: Edge,
    /// What holds back everything that goes to it; ends when the edge does, so that its port is closed.
    relay: Mutex<Option<Relay>>,
    /// None once it was drained through its admin API.
    running: Mutex<Option<perigee_tier::Running>>,
    last: Mutex<TierStats>,
}

/// What an edge is doing for its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Up,
    /// The nameservers' probes fail.
    Down,
    /// Asked to end through its admin API.
    Drained,
}

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Drained => "drained",
        }
    }
}

/// One edge at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct EdgeView {
    pub(crate) edge: Edge,
    /// Answers of the nameservers that named it first.
    pub(crate) answers: u64,
    pub(crate) stats: TierStats,
    pub(crate) state: State,
}

/// The fleet at a moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    pub(crate) edges: Vec<EdgeView>,
    /// By id.
    pub(crate) shields: Vec<(String, TierStats)>,
    pub(crate) origin_requests: u64,
    /// Of the document as its file is now.
    pub(crate) refusals: Vec<Refusal>,
}

/// A relay at a node's address, where there is distance; `flag` moves the address.
async fn relay(
    layout: &Layout,
    name: &str,
    listen: SocketAddr,
    flag: &str,
    runtimes: &Runtimes,
) -> anyhow::Result<Option<Relay>> {
    let Some(road) = road(layout, listen, Stand::At(place(name))) else { return Ok(None) };
    let relay = Relay::connections(listen, road, &runtimes.control).await;
    relay.map(Some).map_err(|error| cannot_relay(name, flag, listen, &error))
}

/// As [`relay`], and one for questions in datagrams.
async fn dns_relays(layout: &Layout, server: &Server, runtimes: &Runtimes) -> anyhow::Result<Vec<Relay>> {
    let Some(road) = road(layout, server.listen, Stand::Nearest) else { return Ok(Vec::new()) };
    let explain = |error| cannot_relay(&server.id, "--dns-port", server.listen, &error);
    let datagrams = Relay::datagrams(server.listen, road, &runtimes.control).await.map_err(explain)?;
    let connections = Relay::connections(server.listen, road, &runtimes.control).await.map_err(explain)?;
    Ok(vec![datagrams, connections])
}

fn road(layout: &Layout, listen: SocketAddr, stand: Stand) -> Option<Road> {
    let own = layout.own(listen);
    (own != listen).then(|| Road::in_demo(own, stand))
}

fn cannot_relay(name: &str, flag: &str, listen: SocketAddr, error: &io::Error) -> anyhow::Error {
    let remedy = match error.kind() {
        io::ErrorKind::AddrNotAvailable => "--one-address".to_owned(),
        io::ErrorKind::AddrInUse => {
            format!("another {flag}, or end what has the port (another demo? `ss -lntup` names it)")
        }
        _ => format!("another {flag}"),
    };
    anyhow!("{name} cannot start; try {remedy}: cannot listen at {listen}: {error}")
}

impl Fleet {
    /// Starts everything; `folder` holds the document and what it names.
    pub(crate) async fn start(
        layout: &Layout,
        folder: &Path,
        args: &DemoArgs,
        runtimes: &Runtimes,
    ) -> anyhow::Result<Self> {
        let document = folder.join(DOCUMENT_FILE);
        let own = |listen| layout.own(listen);
        let mut relays = Vec::new();
        relays.extend(relay(layout, "origin", layout.origin, "--origin-port", runtimes).await?);
        for server in &layout.shields {
            relays.extend(relay(layout, &server.id, server.listen, "--shield-port", runtimes).await?);
        }
        for server in &layout.nameservers {
            relays.extend(dns_relays(layout, server, runtimes).await?);
        }
        let origin = Origin::start(&[own(layout.origin)], runtimes)
            .map_err(|error| explain("the origin", "--origin-port", error.into()))?;
        let tier = |id: &str, role: Role, listen, admin| {
            let source = Source::File { path: document.clone(), role };
            let mut options = perigee_tier::Options::new(source, vec![own(listen)]);
            options.admin = Some(admin);
            options.memory_bytes = args.memory.0;
            options.traces = args.otlp.clone().map(perigee_tier::TraceOptions::new);
            options.disk = args.disk.map(|size| DiskSpec { folder: folder.join("cache").join(id), size });
            perigee_tier::start(options, runtimes)
        };
        let shields = try_join_all(layout.shields.iter().map(async |server| {
            let role = Role::Shield(server.id.parse().context("a shield's id")?);
            let running = tier(&server.id, role, server.listen, server.admin).await;
            Ok::<_, anyhow::Error>((
                server.clone(),
                running.map_err(|error| explain(&server.id, "--shield-port", error))?,
            ))
        }));
        let edges = try_join_all(layout.edges.iter().map(async |edge| {
            let id = edge.city.id;
            let relay = relay(layout, id, edge.listen, "--edge-port", runtimes).await?;
            let running = tier(id, Role::Edge(id.parse().context("a PoP's id")?), edge.listen, edge.admin).await;
            let running = running.map_err(|error| explain(&format!("edge {id}"), "--edge-port", error))?;
            let (last, relay, running) = (Mutex::default(), Mutex::new(relay), Mutex::new(Some(running)));
            Ok::<_, anyhow::Error>(EdgeNode { edge: *edge, relay, last, running })
        }));
        let (shields, edges) = (shields.await?, edges.await?);
        let nameservers = try_join_all(layout.nameservers.iter().map(async |server| {
            let options = perigee_geodns::Options {
                name: Some(server.id.clone()),
                document: perigee_geodns::DocumentSource::File(document.clone()),
                listen: vec![own(server.listen)],
                admin: Some(server.admin),
                page: Default::default(),
                query_log: AccessLogTarget::Off,
                query_log_one_in: std::num::NonZeroU32::MIN,
                dnstap: Default::default(),
                encrypted: perigee_geodns::EncryptedListen::default(),
                probe_at: layout.probe_at(),
                state: None,
                keys_look: perigee_geodns::KEYS_LOOK,
            };
            perigee_geodns::start(options, runtimes).await.map_err(|error| explain(&server.id, "--dns-port", error))
        }));
        Ok(Self {
            origin,
            shields,
            edges,
            nameservers: nameservers.await?,
            folder: folder.display().to_string(),
            _relays: relays,
        })
    }

    /// What each node tells a page, by its name.
    pub(crate) fn feeds(&self) -> Vec<(String, Arc<Feed>)> {
        let of = |id: &str, running: &perigee_tier::Running| (id.to_owned(), Arc::clone(running.feed()));
        let mut feeds: Vec<_> = self.shields.iter().map(|(server, running)| of(&server.id, running)).collect();
        for node in &self.edges {
            let running = node.running.lock().unwrap_or_else(PoisonError::into_inner);
            feeds.extend(running.as_ref().map(|running| of(node.edge.city.id, running)));
        }
        feeds.extend(self.nameservers.iter().map(|server| (server.name().to_owned(), Arc::clone(server.feed()))));
        feeds
    }

    /// Tells how many requests have reached the origin.
    pub(crate) fn origin_counter(&self) -> impl Fn() -> u64 + Send + use<> {
        self.origin.counter()
    }

    /// The figures of this moment.
    pub(crate) fn view(&self) -> View {
        let nameservers: Vec<_> = self.nameservers.iter().map(perigee_geodns::Running::stats).collect();
        let down = |address: IpAddr| nameservers.iter().any(|stats| stats.addresses_down.contains(&address));
        let answers = |id: &str| nameservers.iter().filter_map(|stats| stats.answers_by_pop.get(id)).sum();
        let edges = self.edges.iter().map(|node| {
            let (stats, running) = node.stats();
            let state = match (running, down(node.edge.advertised)) {
                (false, _) => State::Drained,
                (true, true) => State::Down,
                (true, false) => State::Up,
            };
            EdgeView { edge: node.edge, answers: answers(node.edge.city.id), stats, state }
        });
        View {
            edges: edges.collect(),
            shields: self.shields.iter().map(|(server, running)| (server.id.clone(), running.stats())).collect(),
            origin_requests: self.origin.requests(),
            refusals: self.refusals(),
        }
    }

    fn refusals(&self) -> Vec<Refusal> {
        let shields = self.shields.iter().map(|(server, running)| (server.id.as_str(), running.document_refusal()));
        let edges = self.edges.iter().filter_map(|node| {
            let running = node.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.as_ref().map(|running| (node.edge.city.id, running.document_refusal()))
        });
        let nameservers = self.nameservers.iter().map(|running| (running.name(), running.document_refusal()));
        gather(shields.chain(edges).chain(nameservers), &self.folder)
    }

    /// Ends the edges that were asked to end through their admin API, so that their ports are closed too.
    pub(crate) async fn end_drained(&self) {
        join_all(self.edges.iter().map(|node| async {
            if let Some(running) = node.take_if_draining() {
                drop(node.relay.lock().unwrap_or_else(PoisonError::into_inner).take());
                running.drain(DRAIN_BOUND).await;
            }
        }))
        .await;
    }

    /// Ends everything: names first, then the edges, their shields, the origin.
    pub(crate) async fn drain(self) {
        join_all(self.nameservers.into_iter().map(perigee_geodns::Running::drain)).await;
        join_all(self.edges.iter().filter_map(EdgeNode::take).map(|running| running.drain(DRAIN_BOUND))).await;
        join_all(self.shields.into_iter().map(|(_, running)| running.drain(DRAIN_BOUND))).await;
        self.origin.drain(DRAIN_BOUND).await;
    }
}

impl EdgeNode {
    /// Its figures, the last ones where it has ended, and whether it runs.
    fn stats(&self) -> (TierStats, bool) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running.as_ref() {
            *last = running.stats();
        }
        let ending = running.as_ref().is_none_or(|running| running.state().is_draining());
        (*last, !ending)
    }

    fn take(&self) -> Option<perigee_tier::Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn take_if_draining(&self) -> Option<perigee_tier::Running> {
        self.stats();
        self.running.lock().unwrap_or_else(PoisonError::into_inner).take_if(|running| running.state().is_draining())
    }
}

/// Says which node cannot start, and for an address which of the demo's flags moves it.
fn explain(node: &str, flag: &str, error: anyhow::Error) -> anyhow::Error {
    if let Some(admin) = error.downcast_ref::<AdminError>() {
        // Its own advice is for a server's flags; the cause alone is told.
        let cause = admin.source().map_or_else(|| admin.to_string(), ToString::to_string);
        return anyhow!("{node} cannot start; try another --admin-port: {cause}");
    }
    let what = match error.downcast_ref::<ListenError>() {
        Some(ListenError::NotHere { .. }) => format!("{node} cannot start; try --one-address"),
        Some(_) => format!("{node} cannot start; try another {flag}"),
        None => format!("{node} cannot start"),
    };
    error.context(what)
}
