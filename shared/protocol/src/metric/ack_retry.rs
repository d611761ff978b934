//! Metrics of `ack_retry`.
