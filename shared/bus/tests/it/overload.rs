//! What a server that answers late is asked, and what stays behind on it.

use std::time::Instant;

use futures_util::future::join_all;
use pushmesh_bus::{KvEvent, KvWatch};
use pushmesh_protocol::name::{Bucket, KeyFilter};
use pushmesh_testkit::wait_for;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// How many consumers the server has, and how many API requests it has counted.
async fn consumers_and_requests(url: &str) -> (u64, u64) {
    let mut stream = tokio::net::TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    stream.write_all(b"GET /jsz HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    (body["consumers"].as_u64().unwrap(), body["api"]["total"].as_u64().unwrap())
}

/// With the address of its monitoring.
async fn monitored_mesh() -> (Nats, String, Bus) {
    let mut nats = Nats::start_with(|options| options.monitor_port = Some(0)).await;
    let bus = connect(&nats).await;
    pushmesh_bus::provision(&bus, &small_topology()).await.unwrap();
    let url = nats.server().monitor_url().unwrap();
    (nats, url, bus)
}

/// Its entries up to the end of the snapshot.
async fn snapshot(watch: &mut KvWatch) -> usize {
    let mut entries = 0;
    loop {
        match tokio::time::timeout(SOON, watch.next()).await.unwrap().unwrap() {
            KvEvent::Put(_) => entries += 1,
            KvEvent::Current => return entries,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_watch_that_the_server_was_slow_to_make_is_made_once() {
    let (nats, url, bus) = monitored_mesh().await;
    let kv = bus.bucket(&Bucket::SESSIONS).await.unwrap();
    let (before, asked) = consumers_and_requests(&url).await;
    nats.pause();
    let begun = Instant::now();
    let watching = tokio::spawn(async move { kv.watch(KeyFilter::all()).await });
    wait_for("a second try", SOON, async || match begun.elapsed() {
        waited if waited > Duration::from_secs(6) => Ok(()),
        waited => Err(format!("{waited:?}")),
    })
    .await;
    nats.resume();
    let mut watch = watching.await.unwrap().unwrap();
    assert_eq!(snapshot(&mut watch).await, 0);
    let (consumers, requests) = consumers_and_requests(&url).await;
    assert!(requests >= asked + 2, "it was asked again");
    assert_eq!(consumers, before + 1);
}

#[tokio::test]
async fn watches_that_nobody_waits_for_any_more_leave_nothing_behind() {
    let (nats, url, bus) = monitored_mesh().await;
    let kv = bus.bucket(&Bucket::SESSIONS).await.unwrap();
    let (before, asked) = consumers_and_requests(&url).await;
    nats.pause();
    let all = join_all((0..64).map(|_| kv.watch(KeyFilter::all())));
    assert!(tokio::time::timeout(Duration::from_millis(500), all).await.is_err(), "nobody answers");
    nats.resume();
    // What is asked next waits behind nothing.
    let mut watch = kv.watch(KeyFilter::all()).await.unwrap();
    assert_eq!(snapshot(&mut watch).await, 0);
    let requests = wait_for("one watch to be left", SOON, async || match consumers_and_requests(&url).await {
        (consumers, requests) if consumers == before + 1 => Ok(requests),
        (consumers, _) => Err(format!("{consumers} consumers instead of {}", before + 1)),
    })
    .await;
    assert!(requests <= asked + 20, "of 64 only those whose turn it was were asked for: {} requests", requests - asked);
}
