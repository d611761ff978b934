//! A tiny service (`examples/tiny.rs`) as its operator sees it: flags, doors, signals, exit codes; and several in one process.
#![allow(clippy::unwrap_used)]

mod ends;
mod flags;
mod inside;
mod life;
mod reload;

use std::{path::PathBuf, time::Duration};

use pushmesh_bus::{Bus, Config, provision};
use pushmesh_protocol::{
    Instance, Partitions, Token,
    topology::{TopologyConfig, topology},
};
use pushmesh_testkit::{Nats, Process, ProcessOptions};
use tonic::transport::{Channel, Endpoint};

/// More than anything takes on a machine that is busy with other things.
pub const SOON: Duration = Duration::from_secs(60);

/// The example beside this test's binary.
pub fn tiny() -> ProcessOptions {
    let test = std::env::current_exe().unwrap();
    let path: PathBuf = test.parent().unwrap().parent().unwrap().join("examples/tiny");
    assert!(path.is_file(), "no {}: run the tests of the whole package, which build its examples", path.display());
    ProcessOptions::new(path).args(["--set", "admin.listen=127.0.0.1:0"])
}

pub fn set(options: ProcessOptions, assignment: &str) -> ProcessOptions {
    options.args(["--set", assignment])
}

/// A server with a provisioned mesh of 8 partitions.
pub async fn mesh() -> Nats {
    let nats = Nats::start().await;
    provision_mesh(&Config::to(nats.url())).await;
    nats
}

pub async fn provision_mesh(nats: &Config) {
    let me = (Token::new("provisioner").unwrap(), Instance::new("p").unwrap());
    let bus = Bus::connect(nats, &me.0, &me.1).await.unwrap();
    let config = TopologyConfig { partitions: Partitions::new(8).unwrap(), ..TopologyConfig::default() };
    provision(&bus, &topology(&config)).await.unwrap();
    bus.drain().await;
}

pub async fn start(nats: &Nats) -> Process {
    Process::start("tiny", set(tiny(), &format!("nats.url={}", nats.url()))).await
}

pub async fn channel(process: &Process, door: &str) -> Channel {
    Endpoint::from_shared(format!("http://{}", process.door(door))).unwrap().connect().await.unwrap()
}

pub async fn get(process: &Process, door: &str, path: &str) -> (u16, String) {
    let answer = reqwest::get(format!("http://{}{path}", process.door(door))).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

pub async fn post(process: &Process, path: &str) -> (u16, String) {
    let url = format!("http://{}{path}", process.door("grpc"));
    let answer = reqwest::Client::new().post(url).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// The reasons of /readyz; empty if ready.
pub async fn reasons(process: &Process) -> Vec<String> {
    let (status, text) = get(process, "admin", "/readyz").await;
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status == 200, status == 503), (answer["ready"] == true, answer["ready"] == false), "{text}");
    serde_json::from_value(answer["reasons"].clone()).unwrap()
}
