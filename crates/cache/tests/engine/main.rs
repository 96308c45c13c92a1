//! Scenarios: the engine over a scripted upstream and a clock of the test's own.

mod dialogue;
mod scenarios;
mod streaming;
mod world;
