//! Fetching from a shield or an origin over hyper's client connections: pools, selection, retries, time-outs.
