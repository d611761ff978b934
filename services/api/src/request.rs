//! One request at one of the doors: who asks, when, and under which span.

use std::time::{SystemTime, UNIX_EPOCH};

use pushmesh_protocol::{TraceContext, message::Millis};
use pushmesh_telemetry::span::{self, Role};
use tracing::Span;

use crate::caller::Caller;

/// What an operation knows of its request, whichever door it came through.
#[derive(Clone)]
pub struct Call {
    pub caller: Caller,
    pub now: Millis,
    pub trail: Trail,
}

/// Where a request is in its trace.
#[derive(Clone)]
pub struct Trail {
    pub span: Span,
    /// Whence it came: goes on also where nothing is traced here.
    pub parent: Option<TraceContext>,
}

/// A message on its way to its stream: the span is open until this is dropped.
pub struct Publishing {
    pub trace: Option<TraceContext>,
    span: Span,
}

impl Trail {
    /// A server's span of this name, a child of what came along or the root of a new trace.
    pub fn begin(name: &'static str, parent: Option<TraceContext>) -> Self {
        Self { span: span::root_or_child(name, Role::Server, parent), parent }
    }
}

impl Call {
    pub fn publishing(&self, name: &'static str) -> Publishing {
        let span = span::child(name, Role::Producer, span::context(&self.trail.span));
        Publishing { trace: span::context(&span).or(self.trail.parent), span }
    }
}

impl Publishing {
    pub fn failed(&self, error: &dyn std::fmt::Display) {
        span::fail(&self.span, error);
    }
}

/// Milliseconds since 1970.
pub fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
