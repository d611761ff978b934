//! Logs, traces over OTLP and Prometheus metrics
