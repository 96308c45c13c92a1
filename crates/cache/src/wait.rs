//! Waiting for somebody else's fetch, and not for ever: a leader may hang where a second fetch would not.

use std::sync::Arc;

use perigee_semantics::{key::CacheKey, reuse};
use tokio::sync::oneshot;

use crate::{
    ask::Ask,
    drive::Located,
    engine::Engine,
    error::Failure,
    fill::Fetching,
    flight::{Joined, Phase, Reader},
};

impl Engine {
    /// What the flight that `reader` follows comes to.
    ///
    /// Where its leader is slow, that is a failure for whom something stale may be served; the others begin a second flight
    /// together, and have whichever answers first: `reader` is that one's then. A leader that is slow lets nobody else join,
    /// so those who come meanwhile are on the second flight too.
    pub(crate) async fn follow(
        self: &Arc<Self>,
        ask: &Arc<Ask>,
        key: &CacheKey,
        located: Option<&Located>,
        reader: &mut Reader,
    ) -> Phase {
        if let Some(phase) = reader.soon().await {
            return phase;
        }
        let stale = self.still_there(ask, located.cloned());
        if stale.is_some_and(|Located { object, .. }| {
            reuse::serve_on_error(&object.head, &ask.policy_for(object.head.status), ask.now)
        }) {
            return Phase::Failed(Failure::SlowLeader);
        }
        let second = match self.board(ask, key) {
            Joined::Leader(leader, second) => {
                // A response for its requester alone is dropped: this one then asks for himself, as all the others.
                let (private, _) = oneshot::channel();
                tokio::spawn(Fetching::new(self, ask, located.cloned(), private).lead(leader));
                second
            }
            Joined::Follower(second) => second,
            Joined::Missed | Joined::Bypass => return reader.phase().await,
        };
        let (phase, is_second) = first_of(reader, &second).await;
        if is_second {
            *reader = second;
        }
        phase
    }
}

/// What comes first of two flights, and whether it is the second's. A failure only when both have failed.
async fn first_of(first: &Reader, second: &Reader) -> (Phase, bool) {
    let (one, two) = (first.phase(), second.phase());
    tokio::pin!(one, two);
    tokio::select! {
        phase = &mut one => match phase {
            Phase::Failed(_) => (two.await, true),
            phase => (phase, false),
        },
        phase = &mut two => match phase {
            Phase::Failed(_) => (one.await, false),
            phase => (phase, true),
        },
    }
}
