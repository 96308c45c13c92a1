//! What every process needs and no engine should know: runtimes, listeners, HTTP connections, admin API, metrics, logs,
//! reload, drain, signals, probes.
//!
//! A binary's `main` composes these: [`flags`] → [`limits`] → [`log`] → [`runtimes`] → [`document`] → engines →
//! [`listen`] and [`http`] → [`admin`] → [`signals`] → drain.
//!
//! Deliberately absent: caching, steering and anything that reads the meaning of a request; globals (twelve nodes of a
//! `demo` share one process, so registries, logs and states are values that are handed in); HTTP/3, which
//! comes as another door to the same [`http::HttpService`].

mod accept;
pub mod access_log;
pub mod admin;
mod answer;
pub mod authorize;
mod client_cap;
pub mod clock;
mod connections;
mod content;
mod cut;
mod direct;
pub mod document;
mod door;
pub mod door_metrics;
mod drive;
pub mod flags;
mod giving_way;
pub mod http;
mod interim;
pub mod limits;
mod linger;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod mmap;
mod paced;
pub mod page;
pub mod probe;
mod process;
pub mod program;
pub mod proxy_protocol;
pub mod pulse;
pub mod quic;
pub mod regular;
pub mod report;
mod room;
pub mod runtimes;
pub mod secret;
pub mod signals;
pub mod sizes;
mod stalled;
pub mod state;
mod stream;
mod supervisor;
mod timing;
pub mod tls;
mod turn;
pub mod watch;
