//! Whole-system tests against the real binaries; see `tests/`.
