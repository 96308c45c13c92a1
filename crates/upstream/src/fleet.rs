//! Who is asked, and who next: a site's shields and origins as one [`Upstream`].

use std::{
    fmt,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

use perigee_protocol::{
    id::PopId,
    model::{Scheme, Shield, ShieldProtocol, Site, Url},
    proof::FleetSecret,
};

use crate::{
    BoxFuture, FetchError, FetchErrorKind, FetchRequest, FetchResponse, Metrics, Peer, Resolve, Trust, Upstream,
    breaker::Breaker,
    budget::Budget,
    connect::{Connector, Speech},
    pool::{IDLE_MAX, Pool},
    select::{self, Candidate, Tier},
    server::{Failure, Retry, Server},
};

/// Before the same servers are asked once more, times the number of rounds so far.
const ROUND_PAUSE: Duration = Duration::from_millis(50);

/// Milliseconds since the Unix epoch. Circuit breakers and proofs read it; time-outs run on tokio's clock.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What all fleets of a node share.
#[derive(Clone)]
pub struct FleetContext {
    /// Without it, no internal field is sent or believed.
    pub secret: Option<FleetSecret>,
    /// The certificate files that the document names; what it does not name is judged by the public authorities.
    pub trust: Trust,
    /// Names of upstreams.
    pub resolver: Arc<dyn Resolve>,
    /// See [`Clock`].
    pub clock: Clock,
    /// The node's.
    pub metrics: Metrics,
}

impl fmt::Debug for FleetContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetContext")
            .field("secret", &self.secret)
            .field("resolver", &self.resolver)
            .finish_non_exhaustive()
    }
}

/// A site's upstreams: shields first, then the origins themselves. Connections, health and the retry budget are its own,
/// and go with it.
#[derive(Debug)]
pub struct Fleet {
    candidates: Vec<Candidate>,
    /// As many as candidates, in their order.
    servers: Vec<Server>,
    retries: u32,
    budget: Budget,
}

impl Fleet {
    /// The upstreams of `site`. At an edge, `shields` are the document's and `pop` is the edge's own, so that the shields
    /// that list it come first; at a shield, `shields` is empty. Opens nothing.
    ///
    /// A server whose `ca` is not among [`FleetContext::trust`] fails every connection.
    pub fn for_site(site: &Site, shields: &[Shield], pop: Option<&PopId>, context: &FleetContext) -> Self {
        let mut fleet = Self {
            candidates: Vec::new(),
            servers: Vec::new(),
            retries: site.upstream.retries,
            budget: Budget::default(),
        };
        for shield in shields {
            let home = pop.is_some_and(|pop| shield.pops.contains(pop));
            let tier = if home { Tier::HomeShield } else { Tier::Shield };
            let candidate = Candidate::new(tier, shield.id.as_str(), 1);
            let speech = Speech { tls: shield.tls.clone(), h2: shield.protocol == ShieldProtocol::Http2 };
            fleet.add(candidate, Peer::Shield(shield.id.clone()), &shield.url, &speech, site, context);
        }
        for origin in &site.origins {
            let tier = if origin.backup { Tier::Backup } else { Tier::Origin };
            let name = origin.url.to_string();
            let candidate = Candidate::new(tier, &name, origin.weight);
            let speech = Speech { tls: site.upstream.tls.clone(), h2: false };
            fleet.add(candidate, Peer::Origin(name.into()), &origin.url, &speech, site, context);
        }
        fleet
    }

    fn add(
        &mut self,
        candidate: Candidate,
        peer: Peer,
        url: &Url,
        speech: &Speech,
        site: &Site,
        context: &FleetContext,
    ) {
        let metrics = context.metrics.server(site.id.as_str(), &peer);
        self.candidates.push(candidate);
        self.servers.push(Server {
            peer,
            policy: site.upstream.clone(),
            connector: Connector::new(url.clone(), Arc::clone(&context.resolver), Arc::clone(&context.clock))
                .speaking(speech, &context.trust),
            pool: Pool::new(site.upstream.connections_max, IDLE_MAX, metrics.clone()),
            speaks_h2: speech.h2,
            scheme: if url.scheme == Scheme::Https { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP },
            clock: Arc::clone(&context.clock),
            secret: context.secret.clone(),
            breaker: Mutex::new(Breaker::default()),
            hung_up: AtomicBool::new(false),
            metrics,
        });
    }

    async fn run(&self, mut request: FetchRequest) -> Result<FetchResponse, FetchError> {
        self.budget.deposit();
        let mut round = select::order(&self.candidates, request.key_hash);
        let (mut rounds, mut retries_left) = (0, self.retries);
        // After a connection that was refused, the first round goes on for free: nothing was sent, so no load is added, and
        // `retries = 0` must not mean that a dead shield hides a living origin.
        let mut free = true;
        let mut last = None;
        let mut desperate = false;
        loop {
            let mut again = Vec::new();
            for &index in &round {
                let Some(server) = self.servers.get(index) else { continue };
                let asked = server.admits() || desperate && server.is_last_resort();
                if !asked {
                    continue;
                }
                if last.is_some() {
                    if !free {
                        if retries_left == 0 || !self.budget.withdraw() {
                            return Err(last.unwrap_or_else(nobody));
                        }
                        retries_left -= 1;
                    }
                    server.metrics.retries.inc();
                }
                let Failure { error, retry } = match server.attempt(&mut request).await {
                    Ok(response) => return Ok(response),
                    Err(failure) => failure,
                };
                match retry {
                    Retry::Never => return Err(error),
                    Retry::Elsewhere => {}
                    Retry::Anywhere => again.push(index),
                }
                free = rounds == 0 && error.kind() == FetchErrorKind::Connect;
                last = Some(error);
            }
            if last.is_none() && !desperate {
                desperate = true;
                continue;
            }
            if again.is_empty() || retries_left == 0 {
                return Err(last.unwrap_or_else(nobody));
            }
            round = again;
            rounds += 1;
            free = false;
            tokio::time::sleep(ROUND_PAUSE * rounds).await;
        }
    }
}

fn nobody() -> FetchError {
    FetchError::new(FetchErrorKind::NoUpstream)
}

impl Upstream for Fleet {
    fn fetch(&self, request: FetchRequest) -> BoxFuture<'_, Result<FetchResponse, FetchError>> {
        Box::pin(self.run(request))
    }

    fn order(&self, key_hash: u64) -> Vec<Peer> {
        let order = select::order(&self.candidates, key_hash);
        order.into_iter().filter_map(|index| Some(self.servers.get(index)?.peer.clone())).collect()
    }
}
