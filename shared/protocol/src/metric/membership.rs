//! Metrics of `membership`.
