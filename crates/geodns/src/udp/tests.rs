//! Batches over loopback.
