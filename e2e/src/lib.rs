//! Stories against real processes and a real nats-server; the tidy test
