//! Metrics of `push`.
