//! Metrics of `distributor`.
