//! The contract all tiers share: identifiers, the CDN document, and the headers tiers send each other. No IO, no clock.
//!
//! [`document::load`] turns the text of a `perigee.toml` into a validated [`model::Document`] or into every mistake in
//! it. Engines take the model; nothing behind it checks again. Absent on purpose: whatever opens files, and serde, which stops
//! at the first mistake.

#![warn(missing_docs)]

pub mod document;
pub mod headers;
pub mod id;
pub mod model;
pub mod prefix_file;
pub mod proof;
pub mod rdata;
pub mod zone_file;
