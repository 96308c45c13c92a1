//! HTTP caching as pure functions: key, freshness, reuse, storability, Vary, validation, ranges, Cache-Status. No IO, no clock.
