//! Metrics of `bus`.
