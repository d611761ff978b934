//! A process that traces, seen from outside: its spans at a collector, its lines on stderr, its metrics.
//!
//! Telemetry is set up once a process, so each story runs in a child: this same binary, told by `PM_STORY` what to do.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::{Command, Output},
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span as Exported, span::SpanKind},
};
use pushmesh_protocol::{
    TraceContext,
    metric::{Counter, Histogram},
};
use pushmesh_telemetry::{
    Config, metric, propagate,
    span::{self, Role},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, metadata::MetadataMap};
use tracing::Span;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start() -> (Self, SocketAddr) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let collector = Self::default();
        let service = TraceServiceServer::new(collector.clone());
        let incoming = TcpListenerStream::new(listener);
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        (collector, address)
    }

    fn spans(&self) -> BTreeMap<String, Exported> {
        let requests = self.0.lock().unwrap();
        let all = requests.iter().flat_map(|request| &request.resource_spans);
        let all = all.flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans);
        all.map(|span| (span.name.clone(), span.clone())).collect()
    }

    fn resource(&self) -> BTreeMap<String, String> {
        let requests = self.0.lock().unwrap();
        texts(&requests[0].resource_spans[0].resource.as_ref().unwrap().attributes)
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some((pair.key.clone(), text.clone())),
        other => Some((pair.key.clone(), format!("{other:?}"))),
    };
    attributes.iter().filter_map(text).collect()
}

async fn play(story: &'static str, collector: SocketAddr) -> Output {
    let output = tokio::task::spawn_blocking(move || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "story", "--nocapture"])
            .env("PM_STORY", story)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"))
            .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
            .env_remove("RUST_LOG")
            .output()
            .unwrap()
    });
    let output = output.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// What a child does.
#[tokio::test(flavor = "multi_thread")]
async fn story() {
    let config = match std::env::var("PM_STORY").as_deref() {
        Ok("sampled") => Config { sample_ratio: 1.0, ..Config::default() },
        Ok("unsampled") => Config { sample_ratio: 0.0, ..Config::default() },
        _ => return,
    };
    // Before init everything is a no-op.
    assert!(span::root_or_child("too early", Role::Server, Some(PARENT.parse().unwrap())).is_none());
    let telemetry = pushmesh_telemetry::init(&config, "tester", "tester-1").unwrap();
    assert!(pushmesh_telemetry::init(&config, "tester", "tester-2").is_err(), "once a process");

    a_message_goes_by(config.sample_ratio > 0.5);

    tracing::debug!("too quiet to be logged");
    telemetry.set_log_level("debug").unwrap();
    tracing::debug!(message = "quiet but logged", level = "a field", count = 3, ok = true, error = "x");
    let refused = telemetry.set_log_level("a=b=c").unwrap_err().to_string();
    assert!(refused.contains("\"a=b=c\" is no filter"), "{refused}");

    let counter = Counter { name: "pushmesh_test_things_total", help: "Things that happened." };
    metric::counter_with(&counter, &[("outcome", "good")]).increment(2);
    let seconds = Histogram { name: "pushmesh_test_took_seconds", help: "How long things took." };
    metric::histogram(&seconds).record(0.003);
    telemetry.upkeep();
    println!("METRICS\n{}", telemetry.prometheus());
    tokio::task::spawn_blocking(move || telemetry.shutdown()).await.unwrap();
}

// A report comes in, its record is published, and somebody processes it in another process, knowing the context alone.
fn a_message_goes_by(recorded: bool) {
    let report = span::root_or_child("report", Role::Server, None);
    assert_eq!(report.is_none(), !recorded);
    let came_with = span::context(&report);
    let publish = span::child("publish pm.v1.login.record.{p}.{user}", Role::Producer, came_with);
    let sent = span::context(&publish);
    assert_eq!(sent.is_some(), recorded, "an unrecorded message carries nothing");

    let mut metadata = MetadataMap::new();
    propagate::to_metadata(sent, &mut metadata);
    assert_eq!(metadata.contains_key("traceparent"), recorded);
    let received = propagate::from_metadata(&metadata);
    assert_eq!(received, sent);

    let process = span::child("process pm.v1.login.record.{p}.{user}", Role::Consumer, received);
    process.in_scope(|| tracing::info!(user = "somebody", "processed"));
    span::set(&process, "pushmesh.partition", 7);
    span::set(&process, "pushmesh.long", "ü".repeat(200));
    span::link(&process, PARENT.parse().unwrap());
    span::fail(&process, &"it broke");
    drop((publish, process, report));

    // A sampled trace from outside is followed whatever our own ratio.
    let foreign = span::root_or_child("foreign", Role::Server, Some(PARENT.parse().unwrap()));
    let followed: TraceContext = PARENT.parse().unwrap();
    assert_eq!(span::context(&foreign).unwrap().trace_id, followed.trace_id);
    assert_eq!(span::context(&Span::none()), None);
}

#[tokio::test]
async fn a_message_is_one_trace_with_parents_links_and_attributes() {
    let (collector, address) = Collector::start().await;
    let output = play("sampled", address).await;
    let spans = collector.spans();
    let names: Vec<_> = spans.keys().map(String::as_str).collect();
    let (publish, process) = ("publish pm.v1.login.record.{p}.{user}", "process pm.v1.login.record.{p}.{user}");
    assert_eq!(names, ["foreign", process, publish, "report"], "nothing but our own spans");
    let (report, publish, process) = (&spans["report"], &spans[publish], &spans[process]);

    assert!(report.parent_span_id.is_empty());
    assert_eq!(publish.parent_span_id, report.span_id);
    assert_eq!(process.parent_span_id, publish.span_id);
    assert!([publish, process].iter().all(|span| span.trace_id == report.trace_id));
    assert_eq!((report.kind(), publish.kind()), (SpanKind::Server, SpanKind::Producer));
    assert_eq!(process.kind(), SpanKind::Consumer);
    assert_eq!(process.links[0].span_id, publish.span_id, "a consumer also links to the creation context");
    assert_eq!(process.links.len(), 2);
    assert_eq!(process.status.as_ref().unwrap().message, "it broke");

    let attributes = texts(&process.attributes);
    assert_eq!(attributes["messaging.system"], "nats");
    assert_eq!(attributes["messaging.operation.name"], "process");
    assert_eq!(attributes["messaging.destination.template"], "pm.v1.login.record.{p}.{user}");
    assert_eq!(attributes["pushmesh.service"], "tester");
    assert_eq!(attributes["pushmesh.long"].len(), 256);
    assert!(attributes["code.file.path"].ends_with("shared/telemetry/tests/it.rs"), "{attributes:?}");
    let resource = collector.resource();
    assert_eq!(resource["service.name"], "tester");
    assert_eq!(resource["service.instance.id"], "tester-1");
    assert_eq!(resource["deployment.environment.name"], "test", "OTEL_RESOURCE_ATTRIBUTES counts");

    let foreign = &spans["foreign"];
    assert_eq!(foreign.parent_span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    let lines = lines(&output);
    let processed = lines.iter().find(|line| line["message"] == "processed").unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(processed["trace_id"], hex(&process.trace_id));
    assert_eq!(processed["span_id"], hex(&process.span_id));
    assert_eq!(processed["user"], "somebody");
    assert_eq!((&processed["service"], &processed["instance"]), (&"tester".into(), &"tester-1".into()));
}

#[tokio::test]
async fn an_unsampled_message_makes_no_span_and_no_header() {
    let (collector, address) = Collector::start().await;
    let output = play("unsampled", address).await;
    let spans = collector.spans();
    assert_eq!(spans.keys().collect::<Vec<_>>(), ["foreign"]);
    let lines = lines(&output);
    let processed = lines.iter().find(|line| line["message"] == "processed").unwrap();
    assert!(processed.get("trace_id").is_none());

    assert!(!lines.iter().any(|line| line["message"] == "too quiet to be logged"));
    let quiet = lines.iter().find(|line| line["message"] == "quiet but logged").unwrap();
    assert_eq!((&quiet["level"], &quiet["field_level"]), (&"DEBUG".into(), &"a field".into()));
    assert_eq!((&quiet["count"], &quiet["ok"]), (&3.into(), &true.into()));

    let text = String::from_utf8(output.stdout).unwrap();
    for expected in [
        "# HELP pushmesh_test_things_total Things that happened.",
        "# TYPE pushmesh_test_things_total counter",
        "pushmesh_test_things_total{outcome=\"good\"} 2",
        "pushmesh_test_took_seconds_bucket{le=\"0.005\"} 1",
        "pushmesh_test_took_seconds_bucket{le=\"0.0025\"} 0",
        "process_resident_memory_bytes ",
        "process_open_fds ",
        "process_cpu_seconds_total ",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in {text}");
    }
}

fn lines(output: &Output) -> Vec<serde_json::Value> {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn settings_have_limits() {
    let wrong = |config: Config| config.validate().unwrap_err().to_string();
    assert_eq!(wrong(Config { sample_ratio: 1.5, ..Config::default() }), "sample_ratio is 1.5; must be 0 to 1");
    assert!(wrong(Config { sample_ratio: f64::NAN, ..Config::default() }).starts_with("sample_ratio"));
    assert!(wrong(Config { log: "a=b=c".into(), ..Config::default() }).starts_with("log is no filter"));
    let https = Config { otlp_endpoint: Some("https://collector:4317".into()), ..Config::default() };
    assert!(wrong(https).starts_with("otlp_endpoint"));
    assert!(Config::default().validate().is_ok());
    assert_eq!(pushmesh_config::lenient_tables(&pushmesh_config::schema::<Config>()), Vec::<String>::new());
}
