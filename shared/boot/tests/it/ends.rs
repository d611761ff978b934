//! Ends that somebody else could hold up or spoil: callers who keep streams open, write on or don't read; NATS away.

use pushmesh_testkit::{Process, wait_for};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic_reflection::pb::{v1, v1alpha};

use crate::{SOON, channel, get, mesh, set, start, tiny};

/// A POST whose head is sent, as HTTP/1.
async fn posting(process: &Process, path: &str, body_bytes: usize) -> TcpStream {
    let address = process.door("grpc");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {body_bytes}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn open_streams_of_reflection_do_not_hold_up_a_drain() {
    let nats = mesh().await;
    for door in ["grpc", "admin"] {
        let mut process = start(&nats).await;
        let (asking, questions) = mpsc::channel(1);
        let mut client = v1::server_reflection_client::ServerReflectionClient::new(channel(&process, door).await);
        let list = v1::server_reflection_request::MessageRequest::ListServices(String::new());
        let list = v1::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
        asking.send(list).await.unwrap();
        let mut answers = client.server_reflection_info(ReceiverStream::new(questions)).await.unwrap().into_inner();
        assert!(answers.message().await.unwrap().is_some());

        let (silent, questions) = mpsc::channel(1);
        let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel(&process, door).await);
        let mut unasked = client.server_reflection_info(ReceiverStream::new(questions)).await.unwrap().into_inner();

        process.expect_drained(SOON).await;
        if door == "grpc" {
            assert!(answers.message().await.unwrap().is_none(), "ended in order");
            assert!(unasked.message().await.unwrap().is_none(), "ended in order");
        }
        drop((asking, silent));
    }
}

#[tokio::test]
async fn who_writes_on_after_his_answer_can_read_it() {
    let nats = mesh().await;
    let process = start(&nats).await;
    let body = vec![b'x'; 16 << 20];
    let mut caller = posting(&process, "/early", 2 * body.len()).await;
    // More than all buffers hold: a socket that is closed meanwhile says so here.
    caller.write_all(&body).await.unwrap();
    let mut answer = String::new();
    caller.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("no need to go on"), "{answer}");
}

#[tokio::test]
async fn who_reads_nothing_does_not_hold_up_a_drain() {
    let nats = mesh().await;
    let quick = set(set(tiny(), &format!("nats.url={}", nats.url())), "shutdown.grace=8s");
    let mut process = Process::start("tiny", quick).await;
    let mut caller = posting(&process, "/endless", 0).await;
    let mut begun = [0; 4];
    caller.read_exact(&mut begun).await.unwrap();
    process.expect_drained(SOON).await;
    assert!(process.stderr().contains("their connections are cut"), "{}", process.stderr());
}

#[tokio::test]
async fn without_nats_a_drain_ends_soon_and_with_69() {
    for own in [false, true] {
        let mut nats = mesh().await;
        let options = set(set(tiny(), &format!("nats.url={}", nats.url())), &format!("service.own={own}"));
        let mut process = Process::start("tiny", options).await;
        let held = format!("pushmesh_membership_partitions_held{{service=\"tiny\"}} {}", if own { 8 } else { 0 });
        wait_for(&held, SOON, async || {
            let (_, metrics) = get(&process, "admin", "/metrics").await;
            if metrics.contains(&held) || !own { Ok(()) } else { Err("not yet") }
        })
        .await;
        nats.kill();
        process.term();
        process.expect_exit(69, SOON).await;
        let log = process.stderr();
        assert!(log.contains("others take over as after a crash"), "{log}");
    }
}

#[tokio::test]
async fn nats_that_comes_back_in_time_is_told() {
    let mut nats = mesh().await;
    let slow = set(set(tiny(), &format!("nats.url={}", nats.url())), "service.drain_takes=10s");
    let mut process = Process::start("tiny", slow).await;
    nats.kill();
    process.term();
    nats.restart().await;
    process.expect_exit(0, SOON).await;
}
