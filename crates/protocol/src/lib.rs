//! The contract all tiers share: identifiers, the CDN document, and the headers tiers send each other. No IO, no clock.
//!
//! [`document::load`] turns the text of a `perigee.toml` into a validated [`model::Document`] or into every mistake in
//! it. Engines take the model; nothing behind it checks again.

pub mod document;
pub mod headers;
pub mod id;
pub mod model;
pub mod proof;
pub mod rdata;
