//! Who may see how a request is keyed: `key` in Cache-Status (RFC 9211 §2.8) tells what a site is made of, so it is only for
//! those who prove that they may read.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use http::HeaderMap;
use perigee_protocol::headers::DEBUG;

use crate::engine::Engine;

type MayRead = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// Says whether a token may see it.
pub(crate) struct Debuggers(OnceLock<MayRead>);

impl Debuggers {
    pub(crate) const fn none() -> Self {
        Self(OnceLock::new())
    }
}

impl fmt::Debug for Debuggers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Debuggers").field(&self.0.get().is_some()).finish()
    }
}

impl Engine {
    /// Shows the cache key to requests whose `Perigee-Debug` is a token that `may_read` knows. Only the first call counts;
    /// without one, nobody sees it.
    pub fn show_keys_to(&self, may_read: impl Fn(&[u8]) -> bool + Send + Sync + 'static) {
        let _first = self.debuggers.0.set(Arc::new(may_read));
    }

    /// Whether the request may see its key. Nearly none asks, so that nothing is compared.
    pub(crate) fn may_debug(&self, headers: &HeaderMap) -> bool {
        let Some(token) = headers.get(&DEBUG) else { return false };
        self.debuggers.0.get().is_some_and(|may_read| may_read(token.as_bytes()))
    }
}
