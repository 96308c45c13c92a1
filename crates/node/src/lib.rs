//! What every process needs: runtimes, listeners, admin API, metrics, logs, reload, drain, signals, probes.
