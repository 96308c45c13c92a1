//! Who is asked, and who next: a site's shields and origins as one [`Upstream`].

use std::{fmt, sync::Arc};

use perigee_protocol::{
    id::PopId,
    model::{Shield, Site},
    proof::FleetSecret,
};

use crate::{BoxFuture, FetchError, FetchErrorKind, FetchRequest, FetchResponse, Metrics, Resolve, Upstream};

/// Milliseconds since the Unix epoch. Circuit breakers and proofs read it; time-outs run on tokio's clock.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What all fleets of a node share.
#[derive(Clone)]
pub struct FleetContext {
    /// Without it, no internal field is sent or believed.
    pub secret: Option<FleetSecret>,
    /// Names of upstreams.
    pub resolver: Arc<dyn Resolve>,
    /// See [`Clock`].
    pub clock: Clock,
    /// The node's.
    pub metrics: Metrics,
}

impl fmt::Debug for FleetContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetContext").field("secret", &self.secret).field("resolver", &self.resolver).finish_non_exhaustive()
    }
}

/// A site's upstreams: shields first, then the origins themselves.
#[derive(Debug)]
pub struct Fleet {}

impl Fleet {
    /// The upstreams of `site`. At an edge, `shields` are the document's and `pop` is the edge's own, so that the shields
    /// that list it come first; at a shield, `shields` is empty. Opens nothing.
    pub fn for_site(site: &Site, shields: &[Shield], pop: Option<&PopId>, context: &FleetContext) -> Self {
        let _unused = (site, shields, pop, context);
        Self {}
    }
}

impl Upstream for Fleet {
    fn fetch(&self, _request: FetchRequest) -> BoxFuture<'_, Result<FetchResponse, FetchError>> {
        Box::pin(std::future::ready(Err(FetchError::new(FetchErrorKind::NoUpstream))))
    }
}
