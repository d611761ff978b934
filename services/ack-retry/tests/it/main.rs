//! ack-retry against a real nats-server. Comets are played by the test, over the bus, as comets speak.

mod config;
mod doors;
mod mesh;
mod owners;
mod sessions;
mod stories;
