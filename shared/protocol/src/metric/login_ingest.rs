//! Metrics of `login_ingest`.
