//! The process's one subscriber, tracer provider and recorder.

use std::{env, io::IsTerminal, sync::Arc, time::Duration};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider},
};
use tracing::Level;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::Targets,
    layer::SubscriberExt,
    reload,
    util::{SubscriberInitExt, TryInitError},
};

use crate::{
    config::{Config, LogFormat},
    log::JsonLines,
    metric::{BYTES_BUCKETS, COUNT_BUCKETS, SECONDS_BUCKETS},
    process, span,
};

/// Longest wait for the last spans to leave.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error("the log filter is malformed")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("the OTLP exporter can't be made")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error("the metrics recorder can't be made")]
    Recorder(#[from] BuildError),
    #[error("telemetry is already set up in this process")]
    Twice(#[from] TryInitError),
}

/// A log level that can't be set.
#[derive(Debug, thiserror::Error)]
#[error("{given:?} is no filter like info or warn,comet=debug: {reason}")]
pub struct LogLevelError {
    given: String,
    reason: String,
}

/// The handle on what [`init`] set up. Cheap to clone.
#[derive(Clone)]
pub struct Telemetry(Arc<Inner>);

struct Inner {
    filter: reload::Handle<EnvFilter, Registry>,
    provider: Option<SdkTracerProvider>,
    recorder: PrometheusHandle,
}

/// Sets up logs, spans and metrics, once a process and within a tokio runtime, which the exporter's connection lives on.
///
/// `service` and `instance` name the process in every log line and in the spans' resource.
pub fn init(config: &Config, service: &str, instance: &str) -> Result<Telemetry, InitError> {
    let directives = env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.is_empty());
    let filter = EnvFilter::try_new(directives.as_deref().unwrap_or(&config.log))?;
    let (filter, filter_handle) = reload::Layer::new(filter);
    let json = match config.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !std::io::stderr().is_terminal(),
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let log = if json {
        let format = JsonLines { service: service.to_owned(), instance: instance.to_owned() };
        lines.event_format(format).with_filter(filter).boxed()
    } else {
        lines.with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed()
    };

    let provider = config.endpoint().map(|endpoint| provider(config, endpoint, service, instance)).transpose()?;
    let spans = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("pushmesh"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_target(span::TARGET, Level::INFO))
    });
    tracing_subscriber::registry().with(log).with(spans).try_init()?;
    if provider.is_some() {
        let tracing = span::Tracing { ratio: config.ratio(), service: service.to_owned() };
        // A second init has failed above.
        let _ = span::TRACING.set(tracing);
    }

    let recorder = PrometheusBuilder::new()
        .set_buckets(&COUNT_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES_BUCKETS)?
        .install_recorder()?;
    Ok(Telemetry(Arc::new(Inner { filter: filter_handle, provider, recorder })))
}

fn provider(config: &Config, endpoint: String, service: &str, instance: &str) -> Result<SdkTracerProvider, InitError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
    // Reads OTEL_BSP_…; the queue holds 2,048 spans, then new ones are dropped and counted by the SDK.
    let mut batch = BatchConfigBuilder::default();
    if env::var_os("OTEL_BSP_SCHEDULE_DELAY").is_none() {
        batch = batch.with_scheduled_delay(config.export_interval);
    }
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batch.build()).build();
    let mut resource = Resource::builder().with_attributes([
        KeyValue::new("service.namespace", "pushmesh"),
        KeyValue::new("service.instance.id", instance.to_owned()),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ]);
    if env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(service.to_owned());
    }
    Ok(SdkTracerProvider::builder()
        .with_span_processor(processor)
        // Only spans that are to be recorded are made at all.
        .with_sampler(Sampler::AlwaysOn)
        .with_resource(resource.build())
        .build())
}

impl Telemetry {
    /// Replaces the log filter: `debug`, `info,comet=trace`.
    pub fn set_log_level(&self, filter: &str) -> Result<(), LogLevelError> {
        let wrong = |reason: String| LogLevelError { given: filter.chars().take(128).collect(), reason };
        let parsed = EnvFilter::try_new(filter.trim()).map_err(|error| wrong(error.to_string()))?;
        self.0.filter.reload(parsed).map_err(|error| wrong(error.to_string()))
    }

    /// All metrics in Prometheus' text format.
    pub fn prometheus(&self) -> String {
        let mut text = self.0.recorder.render();
        process::render(&mut text);
        text
    }

    /// To be called every few seconds, so that histograms that nobody scrapes stay small.
    pub fn upkeep(&self) {
        self.0.recorder.run_upkeep();
    }

    /// Sends the last spans. Blocks for up to 5 s while the runtime must go on: call it by `spawn_blocking`.
    pub fn shutdown(&self) {
        if let Some(provider) = &self.0.provider
            && let Err(error) = provider.shutdown_with_timeout(SHUTDOWN_WAIT)
        {
            tracing::warn!(%error, "the last spans may be lost");
        }
    }
}
