//! The kit against real servers.

use std::time::Duration;

use pushmesh_testkit::{Cluster, Nats, Port, Process, ProcessOptions, wait_for};

/// More than anything takes on a machine that is busy with other things.
const SOON: Duration = Duration::from_secs(60);

async fn greeting(port: u16, within: Duration) -> Result<String, String> {
    use tokio::io::{AsyncBufReadExt, BufReader};
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| error.to_string())?;
    let mut line = String::new();
    let mut reader = BufReader::new(stream);
    let read = reader.read_line(&mut line);
    tokio::time::timeout(within, read)
        .await
        .map_err(|_| "no greeting".to_owned())?
        .map_err(|error| error.to_string())?;
    line.starts_with("INFO ").then_some(line.clone()).ok_or(line)
}

#[tokio::test]
async fn a_server_is_killed_and_comes_back_on_its_port() {
    let mut nats = Nats::start().await;
    let (port, dir) = (nats.port(), nats.server().store_dir().to_owned());
    assert!(greeting(port, SOON).await.unwrap().contains("\"jetstream\":true"));

    nats.pause();
    assert!(greeting(port, Duration::from_millis(300)).await.is_err(), "a paused server greets nobody");
    nats.resume();
    wait_for("the server to answer again", SOON, || greeting(port, SOON)).await;

    nats.kill();
    assert!(greeting(port, SOON).await.is_err());
    nats.restart().await;
    assert_eq!(nats.port(), port);
    greeting(port, SOON).await.unwrap();
    nats.stop().await;
    nats.restart().await;

    drop(nats);
    assert!(greeting(port, SOON).await.is_err());
    assert!(!dir.exists(), "nothing is left");
}

#[tokio::test]
async fn a_ports_holder_keeps_it_while_nobody_listens_and_beside_a_server() {
    let port = Port::take();
    let address = ("127.0.0.1", port.number());
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens");
    let mut nats = Nats::start_with(|options| options.monitor_port = Some(port.number())).await;
    for _ in 0..2 {
        tokio::net::TcpStream::connect(address).await.unwrap();
        nats.kill();
        assert!(tokio::net::TcpStream::connect(address).await.is_err(), "it is kept for the server");
        nats.restart().await;
    }
}

#[tokio::test]
async fn three_servers_are_a_cluster() {
    let cluster = Cluster::start(3).await;
    assert_eq!(cluster.url().split(',').count(), 3);
    for url in cluster.url().split(',') {
        let port = url.rsplit(':').next().unwrap().parse().unwrap();
        assert!(greeting(port, SOON).await.unwrap().contains("\"cluster\":\"pushmesh\""));
    }
}

#[tokio::test]
async fn a_bad_configuration_is_told_with_the_servers_own_words() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = pushmesh_testkit::broker::Options::new(dir.path());
    options.extra = "no_such_option: 1\n".to_owned();
    let error = pushmesh_testkit::broker::Server::start(options).await.unwrap_err().to_string();
    assert!(error.contains("no_such_option"), "{error}");
}

#[tokio::test]
async fn a_process_tells_its_doors_and_its_end() {
    // With `--ready-file <path>` as the last two arguments.
    let script = r#"trap 'exit 7' TERM; echo hello >&2; echo '{"http":"127.0.0.1:4711"}' > "$2.tmp"; mv "$2.tmp" "$2"
        while :; do read -t 0.05 <> <(:); done"#;
    let options = ProcessOptions::new("bash").args(["-c", script, "script"]);
    let mut process = Process::start("script", options).await;
    assert_eq!(process.door("http").port(), 4711);
    assert!(process.is_running());
    assert_eq!(process.stderr(), "hello\n");
    process.term();
    process.expect_exit(7, SOON).await;
}

#[tokio::test]
#[should_panic(expected = "last reason: not yet")]
async fn wait_for_ends_with_the_last_reason() {
    wait_for("what never happens", Duration::from_millis(20), async || Err::<(), _>("not yet")).await;
}

#[tokio::test]
async fn the_otlp_stub_hands_over_what_was_exported() {
    use opentelemetry_proto::tonic::{
        collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
        common::v1::{AnyValue, KeyValue, any_value::Value},
        trace::v1::{ResourceSpans, ScopeSpans, Span},
    };
    let stub = pushmesh_testkit::OtlpStub::start().await;
    let mut client = TraceServiceClient::connect(stub.endpoint()).await.unwrap();
    let value = AnyValue { value: Some(Value::StringValue("group-push".to_owned())) };
    let span = Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        name: "process online".to_owned(),
        kind: 5,
        attributes: vec![KeyValue { key: "pushmesh.service".to_owned(), value: Some(value), ..KeyValue::default() }],
        ..Span::default()
    };
    let scope = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
    let resource = ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() };
    client.export(ExportTraceServiceRequest { resource_spans: vec![resource] }).await.unwrap();
    let spans = stub.trace(&"01".repeat(16));
    assert_eq!(spans.len(), 1);
    assert_eq!((&*spans[0].name, &*spans[0].attributes["pushmesh.service"]), ("process online", "group-push"));
}
