//! The table `[telemetry]` of every service.

use std::{env, time::Duration};

use pushmesh_config::FieldError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a process logs and traces. What OpenTelemetry's own variables (`OTEL_…`) say holds where nothing is set here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which events are logged, in the syntax of `RUST_LOG`, which wins if set: `info`, `warn,comet=debug`. Default
    /// `info,async_nats=warn`.
    pub log: String,
    /// Default `auto`: text if stderr is a terminal, else JSON.
    pub log_format: LogFormat,
    /// Where spans go: `http://host:4317`. Default none: `OTEL_EXPORTER_OTLP_ENDPOINT`, and without it no tracing.
    pub otlp_endpoint: Option<String>,
    /// The share of new traces that is recorded, 0 to 1; a trace that comes in is followed as its sender decided.
    /// Default 0.01.
    pub sample_ratio: f64,
    /// How long a finished span waits at most for its batch: 10ms to 60s. Default "1s".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub export_interval: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Auto,
    Json,
    Text,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log: "info,async_nats=warn".to_owned(),
            log_format: LogFormat::Auto,
            otlp_endpoint: None,
            sample_ratio: 0.01,
            export_interval: Duration::from_secs(1),
        }
    }
}

impl Config {
    pub fn validate(&self) -> Result<(), FieldError> {
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err(FieldError::new("sample_ratio", format!("is {}; must be 0 to 1", self.sample_ratio)));
        }
        if !(Duration::from_millis(10)..=Duration::from_secs(60)).contains(&self.export_interval) {
            return Err(FieldError::new("export_interval", "must be 10ms to 60s"));
        }
        if let Some(endpoint) = self.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.starts_with("http://")) {
            let reason =
                format!("is {endpoint:?}; must begin with http:// (TLS towards a collector ends in a local agent)");
            return Err(FieldError::new("otlp_endpoint", reason));
        }
        tracing_subscriber::EnvFilter::try_new(&self.log)
            .map(drop)
            .map_err(|error| FieldError::new("log", format!("is no filter like info,comet=debug: {error}")))
    }

    /// Where spans go, or `None` if nothing is traced.
    pub(crate) fn endpoint(&self) -> Option<String> {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || variable("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none")
        {
            return None;
        }
        self.otlp_endpoint
            .clone()
            .filter(|endpoint| !endpoint.is_empty())
            .or_else(|| variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
            .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"))
    }

    /// The share of new traces: what `OTEL_TRACES_SAMPLER` and its argument say, else [`Config::sample_ratio`].
    pub(crate) fn ratio(&self) -> f64 {
        let argument = || env::var("OTEL_TRACES_SAMPLER_ARG").ok()?.parse().ok();
        match env::var("OTEL_TRACES_SAMPLER").as_deref() {
            Ok("always_on" | "parentbased_always_on") => 1.0,
            Ok("always_off" | "parentbased_always_off") => 0.0,
            Ok("traceidratio" | "parentbased_traceidratio") => argument().unwrap_or(self.sample_ratio),
            _ => self.sample_ratio,
        }
    }
}
