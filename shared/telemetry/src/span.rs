//! Spans of a message's way. Whether a trace is recorded is decided once, at its root; whoever follows knows by the context
//! that came along, and without one makes no span at all.
//!
//! Names are templates, `process pm.v1.login.record.{p}.{user}`, never ids: an id goes into an attribute by [`set`].

use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
    sync::OnceLock,
};

use opentelemetry::{
    Context, Value,
    trace::{SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use pushmesh_protocol::TraceContext;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The target of every span of ours: what the OTLP layer takes, and the log does not.
pub(crate) const TARGET: &str = "pushmesh_span";

/// What a span stands for towards its message (OpenTelemetry's span kind).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Sends a message, and puts its context on.
    Producer,
    /// Processes a message: child of the sender's span, and linked to it.
    Consumer,
    /// Asks and awaits the answer.
    Client,
    /// Answers.
    Server,
    Internal,
}

pub(crate) struct Tracing {
    pub ratio: f64,
    pub service: String,
}

/// Set where spans are exported; unset, every span is [`Span::none`].
pub(crate) static TRACING: OnceLock<Tracing> = OnceLock::new();

/// A span under `parent`; without one, the root of a new trace, or none: the sample ratio decides.
#[track_caller]
pub fn root_or_child(name: &'static str, role: Role, parent: Option<TraceContext>) -> Span {
    match (TRACING.get(), parent) {
        (None, _) => Span::none(),
        (Some(_), Some(_)) => child(name, role, parent),
        (Some(tracing), None) if draw() < tracing.ratio => open(name, role, tracing),
        (Some(_), None) => Span::none(),
    }
}

/// A span under `parent`; without one none.
#[track_caller]
pub fn child(name: &'static str, role: Role, parent: Option<TraceContext>) -> Span {
    let (Some(tracing), Some(parent)) = (TRACING.get(), parent) else { return Span::none() };
    let span = open(name, role, tracing);
    let remote = remote(parent);
    if role == Role::Consumer {
        // The conventions want a link to the creation context; the same context is also the parent, so that one trace
        // tells a message's whole way.
        span.add_link(remote.clone());
    }
    // Fails only where no layer takes the span: then there is nothing to be a parent of.
    let _ = span.set_parent(Context::new().with_remote_span_context(remote));
    span
}

/// What goes along with a message that `span` sends; `None` if it is not recorded.
pub fn context(span: &Span) -> Option<TraceContext> {
    if span.is_none() {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    (context.is_valid() && context.is_sampled()).then(|| TraceContext {
        trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(context.span_id().to_bytes()),
    })
}

/// An attribute of a recorded span. No secret, no body; at most 256 bytes of text, the rest is cut.
pub fn set(span: &Span, key: &'static str, value: impl Into<Value>) {
    if span.is_none() {
        return;
    }
    let value = match value.into() {
        Value::String(text) if text.as_str().len() > 256 => {
            let text = text.as_str();
            let end = (0..=256).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            Value::from(text[..end].to_owned())
        }
        value => value,
    };
    span.set_attribute(key, value);
}

/// A span that also stands for other messages than its parent's: a batch.
pub fn link(span: &Span, to: TraceContext) {
    if !span.is_none() {
        span.add_link(remote(to));
    }
}

/// What the span stands for has failed.
pub fn fail(span: &Span, error: &dyn std::fmt::Display) {
    if !span.is_none() {
        span.set_status(Status::error(error.to_string()));
    }
}

// Where several services share a process, the caller's file tells which one it was.
#[track_caller]
fn open(name: &'static str, role: Role, tracing: &Tracing) -> Span {
    let caller = std::panic::Location::caller();
    let kind = match role {
        Role::Producer => "producer",
        Role::Consumer => "consumer",
        Role::Client => "client",
        Role::Server => "server",
        Role::Internal => "internal",
    };
    let span = tracing::info_span!(
        target: TARGET,
        parent: None,
        "hop",
        otel.name = name,
        otel.kind = kind,
        pushmesh.service = tracing.service.as_str(),
        code.file.path = caller.file(),
        code.line.number = caller.line(),
    );
    if let Some((operation, destination)) = name.split_once(' ').filter(|(_, to)| to.starts_with("pm.")) {
        span.set_attribute("messaging.system", "nats");
        span.set_attribute("messaging.operation.name", operation);
        span.set_attribute("messaging.destination.template", destination);
    }
    span
}

fn remote(context: TraceContext) -> SpanContext {
    let (trace, span) = (TraceId::from(context.trace_id), SpanId::from(context.span_id));
    SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::default())
}

// Uniform in 0..1: SplitMix64 by thread, seeded by the process's hash keys. Good enough to sample, and lock-free.
fn draw() -> f64 {
    thread_local!(static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(std::thread::current().id())));
    STATE.with(|state| {
        let seed = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(seed);
        let mut z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    })
}
