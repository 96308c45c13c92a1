//! Who watches a fetch from outside: for traces. Costs nothing where nobody does.

use std::fmt;

use http::{HeaderMap, StatusCode, Version};
use perigee_protocol::model::Url;

use crate::{FetchErrorKind, FetchRequest, Peer};

/// Hears of the attempts of one fetch. Must not block.
pub trait Observer: Send + Sync + fmt::Debug {
    /// An attempt at `request` begins, at `peer`, which is reached at `url`. What is returned is dropped when the attempt has ended, and with
    /// it the body of its response.
    fn attempt(&self, request: &FetchRequest, peer: &Peer, url: &Url) -> Box<dyn Attempt>;
}

/// One attempt under way. Dropped before it was answered or failed, it was abandoned.
pub trait Attempt: Send + Sync + fmt::Debug {
    /// Adds fields to the request, after those of the client and of ours.
    fn fields(&self, headers: &mut HeaderMap);
    /// The head of a final response is there; its body streams.
    fn answered(&mut self, status: StatusCode, version: Version, connect_reused: bool);
    /// There is no response, or its body broke off.
    fn failed(&mut self, kind: FetchErrorKind);
    /// The trace that it is part of, for log lines; None: of none.
    fn trace_id(&self) -> Option<&dyn fmt::Display> {
        None
    }
}
