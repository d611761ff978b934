//! Holds the clients' long connections over WebSocket and TCP
