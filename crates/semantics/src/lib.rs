//! HTTP caching as pure functions: key, freshness, reuse, storability, Vary, validation, ranges, Cache-Status.
//!
//! RFC 9110, 9111, 5861, 7239, 8246, 8586, 9211, 9213 and 9875, each cited beside the lines that obey it. Time is an argument
//! ([`time::Timestamp`]), policy is an argument ([`policy::Policy`]). Deliberately absent: sockets, clocks, threads,
//! storage, bodies; who performs what is decided here is `perigee-cache`.

#![warn(missing_docs)]

mod clause;
mod codec;
pub mod directives;
mod fields;
pub mod freshness;
pub mod head;
pub mod headers;
pub mod invalidate;
pub mod key;
pub mod partial;
pub mod policy;
pub mod purge;
pub mod ranges;
pub mod request;
pub mod reuse;
pub mod rules;
pub mod status;
pub mod storable;
pub mod tags;
pub mod time;
pub mod trace;
pub mod validate;
pub mod vary;

#[cfg(test)]
mod testing;
