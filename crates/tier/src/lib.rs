//! An HTTP tier assembled: document to sites, store, upstreams, engine and listeners. What edge and shield share.
