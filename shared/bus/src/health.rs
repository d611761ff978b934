//! What a connection knows of itself.

/// State of a connection; watch it with [`Bus::health`](crate::Bus::health).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    pub connected: bool,
    /// Connections made since the start: 1 is the first.
    pub connections: u64,
    /// Publishes and subscriptions that the server refused.
    pub permission_violations: u64,
    /// What it refused last, in the server's words.
    pub last_violation: Option<String>,
    /// Events of subscriptions that were full.
    pub slow_consumer_events: u64,
    /// Reconnects because the server did not answer JetStream requests.
    pub forced_reconnects: u64,
    /// The connection was drained or given up for good.
    pub closed: bool,
}
