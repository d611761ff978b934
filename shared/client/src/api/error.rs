//! Why api did not do what it was asked.

use std::time::Duration;

use reqwest::{Response, header::RETRY_AFTER};
use serde::Deserialize;

use crate::token::TokenSourceError;

/// Longest part of an answer that nobody expected that is kept.
const UNEXPECTED_MAX_CHARS: usize = 200;

/// An operation of [`Api`](super::Api) that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    #[error("{0:?} is no address of an api; expected http://host:port")]
    Url(String),
    #[error(transparent)]
    Token(#[from] TokenSourceError),
    /// It was answered, and not done.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// Nobody knows whether it was done, unless it was never `sent`.
    #[error("no answer from {url}: {reason}")]
    Unanswered { url: String, reason: String, sent: bool },
    #[error("an answer that can't be read: {0}")]
    Malformed(String),
}

/// An error as api says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Of HTTP.
    pub status: u16,
    /// The kind of error, for programs.
    pub code: String,
    /// Which field is meant.
    pub field: Option<String>,
    /// Which limit was passed.
    pub limit: Option<String>,
    /// For people.
    pub message: String,
    /// Until when it holds (milliseconds since 1970): a mute.
    pub until: Option<u64>,
    pub retry_after: Option<Duration>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}", self.message, self.code)?;
        let until = self.until.map(|until| until.to_string());
        let named = [("field", &self.field), ("limit", &self.limit), ("until", &until)];
        for (name, value) in named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            write!(f, ", {name} {value}")?;
        }
        if let Some(after) = self.retry_after {
            write!(f, ", again in {after:?}")?;
        }
        f.write_str(")")
    }
}

impl ApiError {
    /// Saying the very same again may help.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unanswered { .. } => true,
            // Of api, or of what stands in front of it.
            Self::Refused(refusal) => matches!(refusal.status, 408 | 502..=504),
            Self::Token(_) => true,
            Self::Url(_) | Self::Malformed(_) => false,
        }
    }

    /// When to say it again, if api said that.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Body {
    error: String,
    #[serde(default)]
    field: Option<String>,
    #[serde(default)]
    limit: Option<serde_json::Value>,
    #[serde(default)]
    message: String,
    #[serde(default)]
    until: Option<u64>,
}

impl Refusal {
    pub(super) async fn of(response: Response) -> Self {
        let status = response.status().as_u16();
        let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let retry_after = seconds.map(Duration::from_secs);
        let text = response.text().await.unwrap_or_default();
        let Ok(body) = serde_json::from_str::<Body>(&text) else {
            // Not from api, but from what stands between.
            let start: String = text.chars().take(UNEXPECTED_MAX_CHARS).collect();
            let (code, message) = (format!("http_{status}"), format!("status {status}: {start}"));
            return Self { status, code, field: None, limit: None, message, until: None, retry_after };
        };
        let limit = body.limit.map(|limit| limit.as_str().map_or_else(|| limit.to_string(), str::to_owned));
        let message = if body.message.is_empty() { body.error.clone() } else { body.message };
        Self { status, code: body.error, field: body.field, limit, message, until: body.until, retry_after }
    }
}
