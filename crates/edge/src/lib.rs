//! The caching HTTP edge node.
