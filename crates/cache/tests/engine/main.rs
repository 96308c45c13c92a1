//! Scenarios: the engine over a scripted upstream and a clock of the test's own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod dialogue;
mod document_rules;
mod explain;
mod fragments;
mod partial;
mod partial_laws;
mod purge;
mod ranged;
mod responses;
mod rules;
mod scenarios;
mod semantics;
mod streaming;
mod waiting;
mod world;
