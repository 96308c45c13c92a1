//! The request engine: lookup, judge, coalesce, fetch, store and stream, respond. `flow` decides, `drive` performs.
//!
//! [`Engine::handle`] takes a request and gives its response; edge and shield are this engine with another upstream and
//! another [`perigee_semantics::policy::Tier`]. Deliberately absent: sockets and HTTP framing (`node`), caching rules
//! (`semantics`), where bytes are kept (`store`), whom to ask (`upstream`), and the clock (an argument).

mod answer;
mod ask;
mod body;
mod carve;
mod debug;
mod drive;
mod engine;
mod error;
mod explain;
mod fill;
mod flight;
mod flow;
mod fragment;
mod inflight;
mod line;
mod metrics;
mod partial;
mod partial_fill;
mod purge;
mod record;
mod segments;
mod serve;
mod snapshot;
mod tally;
mod trace;
mod wait;

pub use body::{Body, BodyError};
pub use engine::{Clock, Config, Engine, HEALTH_PATH, Report};
pub use explain::{Explanation, PurgeSaid, RuleSaid, Stored, Verdict};
pub use metrics::{Metrics, Totals};
pub use record::{NoRecorder, Record, Recorder};
pub use snapshot::{CountryOf, Site, Snapshot, host_of};
pub use trace::{Arrival, Begun, FetchSpan, Trace, Tracer};
