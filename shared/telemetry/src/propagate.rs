//! The trace context in gRPC metadata and HTTP headers: `traceparent`, of sampled spans only.

use pushmesh_protocol::TraceContext;
use tonic::{codegen::http::HeaderMap, metadata::MetadataMap};

/// W3C's header name.
pub const TRACEPARENT: &str = "traceparent";

/// The sampled context that came with a request; a malformed one counts as none.
pub fn from_metadata(metadata: &MetadataMap) -> Option<TraceContext> {
    metadata.get(TRACEPARENT)?.to_str().ok()?.parse().ok()
}

pub fn to_metadata(context: Option<TraceContext>, metadata: &mut MetadataMap) {
    if let Some(context) = context {
        metadata.insert(TRACEPARENT, context.to_string().parse().expect("a traceparent is visible ASCII"));
    }
}

/// The sampled context that came with a request; a malformed one counts as none.
pub fn from_headers(headers: &HeaderMap) -> Option<TraceContext> {
    headers.get(TRACEPARENT)?.to_str().ok()?.parse().ok()
}

pub fn to_headers(context: Option<TraceContext>, headers: &mut HeaderMap) {
    if let Some(context) = context {
        headers.insert(TRACEPARENT, context.to_string().parse().expect("a traceparent is visible ASCII"));
    }
}
