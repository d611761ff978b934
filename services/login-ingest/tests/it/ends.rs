//! How streams end that their callers did not end: at a drain, when the token's time is over, when nobody reads.

use std::time::Duration;

use pushmesh_auth::Scope;
use pushmesh_proto::v1::{ReportResponse, login_ingest_client::LoginIngestClient, report_response::Answer};
use pushmesh_testkit::wait_for;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpSocket,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::ingest::{Ingest, LONG, authorized, online};

/// A token's life: long enough to begin with it, even where everything takes its time.
const TOKEN: Duration = Duration::from_secs(5);

/// Reports without end, numbered from 0, until nobody takes them any more.
fn endless() -> (ReceiverStream<pushmesh_proto::v1::ReportRequest>, JoinHandle<()>) {
    let (reports, requests) = mpsc::channel(16);
    let sender = tokio::spawn(async move {
        let mut n = 0;
        while reports.send(online(n, &format!("u{}", n % 50), &format!("l{n}"))).await.is_ok() {
            n += 1;
        }
    });
    (ReceiverStream::new(requests), sender)
}

/// Reads answers to the end: all accepted, those of the first records and of no other. How many, and the end.
async fn to_the_end(answers: &mut Streaming<ReportResponse>, mut each: impl FnMut(u64)) -> (u64, Status) {
    let mut accepted = 0;
    loop {
        match answers.message().await {
            Ok(Some(ReportResponse { r#ref, answer: Some(Answer::Accepted(_)) })) => {
                // One batch is stored at a time, and a batch is answered in its order.
                assert_eq!(r#ref, accepted);
                accepted += 1;
                each(accepted);
            }
            Ok(other) => panic!("after {accepted}: {other:?}"),
            Err(status) => return (accepted, status),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_answers_all_that_it_read() {
    let mut ingest = Ingest::start().await;
    let (requests, sender) = endless();
    let mut client = ingest.grpc().await;
    let mut answers = client.report(ingest.authorized(requests)).await.unwrap().into_inner();
    let process = &mut ingest.process;
    let (accepted, status) = to_the_end(&mut answers, |count| {
        if count == 1000 {
            process.term();
        }
    })
    .await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("send it again"), "{status:?}");
    ingest.process.expect_exit(0, LONG).await;
    assert_eq!(ingest.stored_count().await, accepted, "what is stored is answered");
    ingest.stored(accepted as usize).await;
    drop(answers);
    tokio::time::timeout(LONG, sender).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_without_nats_answers_too() {
    let mut ingest = Ingest::start_with(&["shutdown.grace=8s"], |_| {}).await;
    let (reports, requests) = mpsc::channel(16);
    let request = ingest.authorized(ReceiverStream::new(requests));
    let mut client = ingest.grpc().await;
    let mut answers = client.report(request).await.unwrap().into_inner();
    ingest.nats.kill();
    for n in 0..3 {
        reports.send(online(n, "alice", &format!("l{n}"))).await.unwrap();
    }
    wait_for("the records to be read", LONG, async || {
        let (waiting, storing) = (ingest.metric("waiting_records").await, ingest.metric("batch_records_sum").await);
        if waiting + storing == 3.0 { Ok(()) } else { Err(format!("{waiting} wait, {storing} are being stored")) }
    })
    .await;
    ingest.process.term();
    let mut unknown = 0;
    let status = loop {
        match answers.message().await {
            Ok(Some(ReportResponse { answer: Some(Answer::Unknown(_)), .. })) => unknown += 1,
            Ok(other) => panic!("{other:?}"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert_eq!(unknown, 3, "{status:?}");
    ingest.process.expect_exit(69, LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token() {
    let ingest = Ingest::start_with(&["auth.leeway=0s"], |_| {}).await;
    let token = || ingest.token(&[Scope::LoginWrite], TOKEN);
    let (busy, sender) = endless();
    let (silent, quiet) = mpsc::channel(1);
    let mut client = ingest.grpc().await;
    let mut busy = client.report(authorized(busy, &token())).await.unwrap().into_inner();
    let mut quiet = client.report(authorized(ReceiverStream::new(quiet), &token())).await.unwrap().into_inner();
    let ((accepted, busy), (none, quiet)) =
        tokio::time::timeout(LONG, async { tokio::join!(to_the_end(&mut busy, drop), to_the_end(&mut quiet, drop)) })
            .await
            .unwrap();
    for status in [busy, quiet] {
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        assert!(status.message().contains("exp"), "{status:?}");
    }
    assert!(accepted > 0);
    assert_eq!(ingest.stored_count().await, accepted + none, "what is stored is answered");
    drop(silent);
    tokio::time::timeout(LONG, sender).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_ends_with_its_token() {
    let ingest = Ingest::start_with(&["auth.leeway=0s"], |_| {}).await;
    let token = || ingest.token(&[Scope::LoginWrite], TOKEN);
    let (mut reading, mut writing) = posting(&ingest, &token()).await;
    writing.write_all(chunk(0..1).as_bytes()).await.unwrap();
    let mut answer = String::new();
    reading.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let told = lines(&answer);
    assert_eq!(told[0]["accepted"]["login_id"], "l0");
    assert_eq!(told[1]["stopped"]["after_line"], 1);
    assert!(told[1]["stopped"]["reason"].as_str().unwrap().contains("exp"), "{told:?}");

    let (mut reading, _writing) = posting(&ingest, &token()).await;
    let mut answer = String::new();
    reading.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
}

/// The lines of a raw answer, without head and chunks' lengths.
fn lines(text: &str) -> Vec<Value> {
    text.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// An HTTP request whose head is sent, over a socket that takes few answers unread.
async fn posting(ingest: &Ingest, token: &str) -> (OwnedReadHalf, OwnedWriteHalf) {
    let address = ingest.process.door("grpc");
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let (reading, mut writing) = socket.connect(address).await.unwrap().into_split();
    let head = format!(
        "POST /v1/logins HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    );
    writing.write_all(head.as_bytes()).await.unwrap();
    (reading, writing)
}

/// A chunk of a body with one record for each number.
fn chunk(numbers: std::ops::Range<u64>) -> String {
    let record = |n| format!("{{\"user\":\"u{}\",\"event\":\"online\",\"login_id\":\"l{n}\"}}\n", n % 50);
    let records: String = numbers.map(record).collect();
    format!("{:x}\r\n{records}\r\n", records.len())
}

/// A client whose buffers are small: a few answers fill them.
async fn narrow(ingest: &Ingest) -> LoginIngestClient<Channel> {
    let endpoint = Channel::from_shared(format!("http://{}", ingest.process.door("grpc"))).unwrap();
    let channel = endpoint.initial_stream_window_size(16 * 1024).initial_connection_window_size(64 * 1024);
    LoginIngestClient::new(channel.connect().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_answers_nobody_reads_ends_and_says_so() {
    let ingest = Ingest::start_with(&["service.unread_max=8s"], |_| {}).await;
    let (requests, sender) = endless();
    let mut answers = narrow(&ingest).await.report(ingest.authorized(requests)).await.unwrap().into_inner();
    ingest.logged("nothing more is taken").await;
    let (accepted, status) = to_the_end(&mut answers, drop).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("none was read for 8s"), "{status:?}");
    assert!(accepted >= 2000, "{accepted}");
    assert_eq!(ingest.stored_count().await, accepted, "what is stored is answered");
    drop(answers);
    tokio::time::timeout(LONG, sender).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_reads_is_cut_off_and_holds_nothing_up() {
    let mut ingest = Ingest::start_with(&["service.unread_max=1s"], |_| {}).await;
    let (requests, sender) = endless();
    let mut answers = narrow(&ingest).await.report(ingest.authorized(requests)).await.unwrap().into_inner();
    let (unread, writer) = post_endlessly(&ingest).await;
    tokio::time::timeout(LONG, writer).await.expect("the connection is closed").unwrap();
    tokio::time::timeout(LONG, sender).await.expect("the connection is closed").unwrap();
    let (accepted, status) = to_the_end(&mut answers, drop).await;
    assert!(accepted > 0, "{status:?}");
    drop((answers, unread));
    ingest.process.expect_drained(LONG).await;
}

/// NDJSON without end and without reading.
async fn post_endlessly(ingest: &Ingest) -> (OwnedReadHalf, JoinHandle<()>) {
    let (reading, mut writing) = posting(ingest, &ingest.good_token()).await;
    let writer = tokio::spawn(async move {
        let mut n = 0;
        while writing.write_all(chunk(n..n + 100).as_bytes()).await.is_ok() {
            n += 100;
        }
    });
    (reading, writer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_whose_answers_nobody_reads_ends_and_says_so() {
    let ingest = Ingest::start_with(&["service.unread_max=8s"], |_| {}).await;
    let (mut reading, writer) = post_endlessly(&ingest).await;
    ingest.logged("nothing more is taken").await;
    let mut answer = String::new();
    reading.read_to_string(&mut answer).await.unwrap();
    // Without the chunks' lengths.
    let lines: Vec<Value> = answer
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let (last, answers) = lines.split_last().unwrap();
    let stopped = &last["stopped"];
    assert!(stopped["reason"].as_str().unwrap().contains("none was read for 8s"), "{last}");
    assert_eq!(stopped["after_line"], answers.len() as u64);
    assert!(answers.iter().all(|answer| answer["accepted"].is_object()));
    assert_eq!(ingest.stored_count().await, answers.len() as u64, "what is stored is answered");
    tokio::time::timeout(LONG, writer).await.unwrap().unwrap();
}
