//! Why a request was not done, the same at both doors.

use std::{borrow::Cow, time::Duration};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use pushmesh_auth::AuthError;
use pushmesh_bus::{KvError, StoreError};
use pushmesh_protocol::message::Millis;
use serde::Serialize;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use utoipa::ToSchema;

/// What a caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: Code,
    /// At fault, as the request names it.
    pub field: Option<Cow<'static, str>>,
    /// That was passed, as the configuration names it.
    pub limit: Option<&'static str>,
    pub message: String,
    /// Saying it again makes sense after this.
    pub retry_after: Option<Duration>,
    /// It holds until then.
    pub until: Option<Millis>,
}

/// What kind of a refusal it is: what programs go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    Invalid,
    Unauthenticated,
    Forbidden,
    Muted,
    RoomBanned,
    RoomClosed,
    KeyUsed,
    KeyTooOld,
    NotFound,
    MethodNotAllowed,
    TooSlow,
    TooLarge,
    RateLimited,
    Internal,
    Unavailable,
}

/// A refusal over HTTP.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// What kind it is: invalid, unauthenticated, forbidden, muted, room_banned, room_closed, key_used, key_too_old, not_found,
    /// method_not_allowed, too_slow, too_large, rate_limited, internal, unavailable.
    #[schema(example = "rate_limited")]
    pub error: &'static str,
    /// The field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The limit that was passed, as the configuration names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "chat_per_user")]
    pub limit: Option<&'static str>,
    /// For people.
    pub message: String,
    /// Milliseconds since 1970: it holds until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

impl Code {
    pub const ALL: [Self; 15] = [
        Self::Invalid,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::Muted,
        Self::RoomBanned,
        Self::RoomClosed,
        Self::KeyUsed,
        Self::KeyTooOld,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::TooSlow,
        Self::TooLarge,
        Self::RateLimited,
        Self::Internal,
        Self::Unavailable,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Muted => "muted",
            Self::RoomBanned => "room_banned",
            Self::RoomClosed => "room_closed",
            Self::KeyUsed => "key_used",
            Self::KeyTooOld => "key_too_old",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TooSlow => "too_slow",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
        }
    }

    pub fn http(self) -> StatusCode {
        match self {
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::Muted | Self::RoomBanned => StatusCode::FORBIDDEN,
            Self::RoomClosed | Self::KeyUsed => StatusCode::CONFLICT,
            Self::KeyTooOld => StatusCode::GONE,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub fn grpc(self) -> tonic::Code {
        match self {
            Self::Invalid | Self::TooLarge => tonic::Code::InvalidArgument,
            Self::Unauthenticated => tonic::Code::Unauthenticated,
            Self::Forbidden => tonic::Code::PermissionDenied,
            Self::Muted | Self::RoomBanned | Self::RoomClosed | Self::KeyTooOld => tonic::Code::FailedPrecondition,
            Self::KeyUsed => tonic::Code::AlreadyExists,
            Self::NotFound => tonic::Code::NotFound,
            Self::MethodNotAllowed => tonic::Code::Unimplemented,
            Self::TooSlow => tonic::Code::DeadlineExceeded,
            Self::RateLimited => tonic::Code::ResourceExhausted,
            Self::Internal => tonic::Code::Internal,
            Self::Unavailable => tonic::Code::Unavailable,
        }
    }
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, field: None, limit: None, message: message.into(), retry_after: None, until: None }
    }

    /// A field that is wrong; `reason` goes on behind its name: "is empty".
    pub fn invalid(field: impl Into<Cow<'static, str>>, reason: impl std::fmt::Display) -> Self {
        let field = field.into();
        Self { message: format!("{field} {reason}"), field: Some(field), ..Self::new(Code::Invalid, "") }
    }

    /// A field beyond a limit.
    pub fn beyond(field: &'static str, limit: &'static str, reason: impl std::fmt::Display) -> Self {
        Self { limit: Some(limit), ..Self::invalid(field, reason) }
    }

    /// Too many bytes of a field.
    pub fn too_large(field: &'static str, limit: &'static str, bytes: usize, most: usize) -> Self {
        let reason = format!("has {bytes} bytes; the limit is {most}");
        Self { code: Code::TooLarge, ..Self::beyond(field, limit, reason) }
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(Code::Forbidden, message)
    }

    /// Too often.
    pub fn limited(limit: &'static str, message: impl Into<String>, wait: Duration) -> Self {
        Self { limit: Some(limit), retry_after: Some(wait), ..Self::new(Code::RateLimited, message) }
    }

    /// Not the caller's fault.
    pub fn unavailable(message: impl Into<String>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(Code::Unavailable, message) }
    }

    /// Something of ours is wrong, and saying it again will not help.
    pub fn internal(what: &str) -> Self {
        Self::new(Code::Internal, format!("{what}: why stands in the log of this instance"))
    }

    /// Something that waits in a bounded queue found it full.
    pub fn busy(limit: &'static str, retry_after: Duration) -> Self {
        Self::full(limit, "too much waits to be stored at this instance", retry_after)
    }

    /// This instance is at one of its limits, which is not the caller's fault.
    pub fn full(limit: &'static str, what: &str, retry_after: Duration) -> Self {
        Self { limit: Some(limit), ..Self::unavailable(format!("{what}; nothing was stored"), retry_after) }
    }

    pub fn unstored(error: &StoreError, retry_after: Duration) -> Self {
        match error {
            StoreError::Outage { .. } => {
                let message = "the broker is away; it may have been stored: say it again as it is";
                Self::unavailable(message, retry_after)
            }
            StoreError::HoldFull { .. } => {
                Self::unavailable("the broker is away, and no more can be held for it; nothing was stored", retry_after)
            }
            StoreError::Full { .. } => {
                Self::unavailable("the mesh is full: its stream is at its limit; nothing was stored", retry_after)
            }
            StoreError::TooLarge { .. } => Self::new(Code::TooLarge, error.to_string()),
            StoreError::Rejected(reason) => {
                tracing::error!(reason, "the broker refused a message of ours");
                Self::internal("the broker refused it")
            }
        }
    }

    pub fn unkept(error: &KvError, retry_after: Duration) -> Self {
        match error {
            KvError::Outage(_) => {
                Self::unavailable("the broker is away; it may have been done: say it again", retry_after)
            }
            KvError::Exists | KvError::WrongRevision => {
                Self::unavailable("others change it all the time; it was not done", retry_after)
            }
            KvError::Full(_) => Self::unavailable("the mesh is full; it was not done", retry_after),
            KvError::NoBucket(_) | KvError::TooLarge { .. } | KvError::Rejected(_) => {
                tracing::error!(%error, "a bucket refused us");
                Self::internal("the broker refused it")
            }
        }
    }
}

impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        let code = if error.http_status() == StatusCode::FORBIDDEN { Code::Forbidden } else { Code::Unauthenticated };
        Self::new(code, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut headers = axum::http::HeaderMap::new();
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds(wait)));
        }
        if self.code == Code::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, challenge(&self.message));
        }
        let body = ErrorBody {
            error: self.code.name(),
            field: self.field.map(Cow::into_owned),
            limit: self.limit,
            message: self.message,
            until: self.until,
        };
        let mut response = (self.code.http(), headers, Json(body)).into_response();
        response.extensions_mut().insert(self.code);
        response
    }
}

impl From<Refusal> for tonic::Status {
    /// `field`, `limit`, `until-ms` and `retry-after-ms` stand in the metadata.
    fn from(refusal: Refusal) -> Self {
        let mut metadata = MetadataMap::new();
        let mut put = |name: &'static str, value: Option<String>| {
            if let Some(value) = value.and_then(|value| value.parse::<MetadataValue<Ascii>>().ok()) {
                metadata.insert(name, value);
            }
        };
        put("error", Some(refusal.code.name().to_owned()));
        put("field", refusal.field.map(Cow::into_owned));
        put("limit", refusal.limit.map(str::to_owned));
        put("until-ms", refusal.until.map(|until| until.to_string()));
        put("retry-after-ms", refusal.retry_after.map(|wait| wait.as_millis().to_string()));
        Self::with_metadata(refusal.code.grpc(), refusal.message, metadata)
    }
}

/// At least one: a client that comes again at once would be refused again.
fn seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// RFC 6750. A description has no quotes, and only what a header may have.
fn challenge(reason: &str) -> HeaderValue {
    let plain = |c: char| match c {
        '"' | '\\' => '\'',
        ' '..='~' => c,
        _ => '?',
    };
    let reason: String = reason.chars().map(plain).collect();
    let value = format!("Bearer realm=\"pushmesh\", error=\"invalid_token\", error_description=\"{reason}\"");
    HeaderValue::from_str(&value).expect("printable ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_says_why_and_stays_a_header() {
        let value = challenge("aud is wrong; expected \"x\"\r\nSet-Cookie: é");
        let text = value.to_str().unwrap();
        assert!(text.ends_with("error_description=\"aud is wrong; expected 'x'??Set-Cookie: ?\""), "{text}");
    }

    #[test]
    fn who_waits_waits_a_second_at_least() {
        assert_eq!(seconds(Duration::from_millis(3)), 1);
        assert_eq!(seconds(Duration::from_millis(1_001)), 2);
    }

    #[test]
    fn a_refusal_says_the_same_at_both_doors() {
        let refusal = Refusal::too_large("data", "data_max_bytes", 5000, 4096);
        let status = tonic::Status::from(refusal.clone());
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert_eq!(status.message(), "data has 5000 bytes; the limit is 4096");
        assert_eq!(status.metadata().get("limit").unwrap(), "data_max_bytes");
        assert_eq!(refusal.into_response().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
