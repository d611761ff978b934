//! The bus against a real nats-server.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod away;
mod consume;
mod core;
mod follow;
mod history;
mod kv;
mod overload;
mod provision;
mod scripted;
mod store;
mod unique;
mod watch;

use std::time::Duration;

use bytes::Bytes;
use pushmesh_bus::{Bus, Config, Outgoing};
use pushmesh_protocol::{
    LoginId, Partition, Partitions, Token, UserId,
    name::{MessageId, Subject},
    topology::{Topology, TopologyConfig, topology},
};
use pushmesh_testkit::Nats;

/// More than anything takes on a machine that is busy with other things.
const SOON: Duration = Duration::from_secs(60);

fn partitions() -> Partitions {
    Partitions::new(8).unwrap()
}

/// Whoever waited for an ack wait would wait longer than a test does.
fn small_topology() -> Topology {
    let mut topology = topology(&TopologyConfig { partitions: partitions(), ..TopologyConfig::default() });
    for consumer in &mut topology.consumers {
        consumer.ack_wait = 10 * SOON;
    }
    topology
}

fn token(text: &str) -> Token {
    Token::new(text).unwrap()
}

async fn connect(nats: &Nats) -> Bus {
    connect_as(nats, "tester", |_| {}).await
}

/// Patient, but for what `change` makes of it.
async fn connect_as(nats: &Nats, service: &str, change: impl FnOnce(&mut Config)) -> Bus {
    let mut config = Config::to(nats.url());
    (config.connect_wait, config.outage_hold, config.kv_timeout, config.publish_wait) = (SOON, SOON, SOON, SOON);
    change(&mut config);
    Bus::connect(&config, &token(service), &token("t1").as_str().parse().unwrap()).await.unwrap()
}

/// A server with everything provisioned, and a connection to it.
async fn mesh() -> (Nats, Bus) {
    let nats = Nats::start().await;
    let bus = connect(&nats).await;
    let report = pushmesh_bus::provision(&bus, &small_topology()).await.unwrap();
    assert_eq!(report.differs, []);
    (nats, bus)
}

fn user(number: usize) -> UserId {
    UserId::new(&format!("u{number}")).unwrap()
}

/// A message for the stream LOGIN that says its number.
fn numbered(number: usize) -> Outgoing {
    in_partition(Partition((number % 8) as u16), number)
}

fn in_partition(partition: Partition, number: usize) -> Outgoing {
    Outgoing {
        subject: Subject::login_record(partition, &user(number)),
        payload: Bytes::from(number.to_string()),
        id: MessageId::online(&UserId::new("ann").unwrap(), &LoginId::new(&format!("l{number}")).unwrap()),
        trace: None,
    }
}

fn number(payload: &[u8]) -> usize {
    std::str::from_utf8(payload).unwrap().parse().unwrap()
}
