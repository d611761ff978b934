//! Metrics of `comet`.
