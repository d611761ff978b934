//! Why a token is refused. No variant holds the token, its signature or its payload.

use axum::http::StatusCode;

use crate::{claims::TOKEN_MAX_BYTES, scope::Scope};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("token is missing; expected the header authorization: Bearer <token>")]
    Missing,
    #[error("token has {bytes} bytes; the limit is {TOKEN_MAX_BYTES}")]
    TooLong { bytes: usize },
    #[error("token is malformed: {part}")]
    Malformed { part: &'static str },
    #[error("alg is not the algorithm of the token's key")]
    Algorithm,
    #[error("crit names extensions; none is understood")]
    Critical,
    #[error("kid is missing; there are several keys")]
    KeyUnnamed,
    #[error("kid names no known key")]
    UnknownKey,
    #[error("no key to check tokens with is configured")]
    NoKeys,
    #[error("signature is wrong")]
    Signature,
    #[error("{claim} {reason}")]
    Claim { claim: &'static str, reason: String },
    #[error("scope lacks {needed}")]
    Scope { needed: Scope },
}

impl AuthError {
    pub(crate) fn claim(claim: &'static str, reason: impl Into<String>) -> Self {
        Self::Claim { claim, reason: reason.into() }
    }

    /// One of a fixed set, for a metric's label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::TooLong { .. } => "too_long",
            Self::Malformed { .. } | Self::Critical => "malformed",
            Self::Algorithm => "algorithm",
            Self::KeyUnnamed | Self::UnknownKey | Self::NoKeys => "key",
            Self::Signature => "signature",
            Self::Claim { claim, .. } => claim,
            Self::Scope { .. } => "scope",
        }
    }

    /// 403 where the token is good and its scope is not, else 401.
    pub fn http_status(&self) -> StatusCode {
        if matches!(self, Self::Scope { .. }) { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED }
    }
}

impl From<AuthError> for tonic::Status {
    fn from(error: AuthError) -> Self {
        let text = error.to_string();
        if matches!(error, AuthError::Scope { .. }) {
            Self::permission_denied(text)
        } else {
            Self::unauthenticated(text)
        }
    }
}
