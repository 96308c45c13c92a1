//! Address to ranked PoPs: databases of places and of autonomous systems over bytes, prefix overrides, great-circle
//! distance, the chain of steering filters, and the truthful ECS scope (RFC 7871) of what it decides. Also the way back:
//! CSV to database.
//!
//! Deliberately absent: files and mapping (the caller brings anything that is `AsRef<[u8]>`), clocks, threads, DNS wire
//! format, and the probing of health, which arrives here as data ([`health::HealthView`]).

pub mod asn;
pub mod build;
pub mod country;
pub mod database;
pub mod distance;
pub mod health;
mod overrides;
pub mod place;
pub mod shed;
pub mod steer;
mod verify;
pub mod world;
