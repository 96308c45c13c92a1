//! What every process needs and no engine should know: runtimes, listeners, HTTP connections, admin API, metrics, logs,
//! reload, drain, signals, probes.
//!
//! A binary's `main` composes these: [`flags`] → [`limits`] → [`log`] → [`runtimes`] → [`document`] → engines →
//! [`listen`] and [`http`] → [`admin`] → [`signals`] → drain.
//!
//! Deliberately absent: caching, steering and anything that reads the meaning of a request; globals (twelve nodes of a
//! `demo` share one process, so registries, logs and states are values that are handed in); TLS and HTTP/2, which come
//! as other doors to the same [`http::HttpService`].

pub mod access_log;
pub mod admin;
pub mod authorize;
pub mod clock;
mod connections;
mod cut;
pub mod document;
pub mod flags;
pub mod http;
mod interim;
pub mod limits;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod mmap;
pub mod probe;
mod process;
pub mod program;
pub mod report;
pub mod runtimes;
pub mod secret;
pub mod signals;
pub mod sizes;
pub mod state;
pub mod watch;
