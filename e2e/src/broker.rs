//! The nats-server of a mesh, or three of them.

use pushmesh_testkit::{Cluster, Nats};

pub enum Broker {
    Alone(Box<Nats>),
    /// Every stream and bucket has three copies.
    Cluster(Cluster),
}

impl Broker {
    pub async fn start(servers: usize) -> Broker {
        match servers {
            1 => Broker::Alone(Box::new(Nats::start().await)),
            _ => Broker::Cluster(Cluster::start(servers).await),
        }
    }

    /// All servers, separated by commas.
    pub fn url(&self) -> String {
        match self {
            Broker::Alone(nats) => nats.url(),
            Broker::Cluster(cluster) => cluster.url(),
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self, index: usize) {
        match self {
            Broker::Alone(nats) => nats.kill(),
            Broker::Cluster(cluster) => cluster.node(index).kill(),
        }
    }

    /// Returns when it serves again.
    pub async fn restart(&mut self, index: usize) {
        match self {
            Broker::Alone(nats) => nats.restart().await,
            Broker::Cluster(cluster) => cluster.restart(index).await,
        }
    }
}
