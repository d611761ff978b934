//! Finds, installs and runs a nats-server as a child process
