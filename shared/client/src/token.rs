//! Where a client's token comes from.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

type Answer = Pin<Box<dyn Future<Output = Result<String, TokenSourceError>> + Send>>;

/// Gives the JWT to log in with: asked at the first connection, and again when a token was refused or expired.
///
/// A source that gives the same token again has no other: the client ends then.
#[derive(Clone)]
pub struct TokenSource(Source);

#[derive(Clone)]
enum Source {
    Fixed(Arc<str>),
    Asked(Arc<dyn Fn() -> Answer + Send + Sync>),
}

/// Why there is no token now; the client asks again after a while.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no token: {0}")]
pub struct TokenSourceError(pub String);

impl TokenSource {
    /// One token for the client's whole life.
    pub fn fixed(token: impl Into<Arc<str>>) -> Self {
        Self(Source::Fixed(token.into()))
    }

    /// Asks for a token, for example a backend of the application's.
    pub fn asked<F, A>(ask: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<String, TokenSourceError>> + Send + 'static,
    {
        Self(Source::Asked(Arc::new(move || Box::pin(ask()))))
    }

    pub(crate) async fn token(&self) -> Result<Arc<str>, TokenSourceError> {
        match &self.0 {
            Source::Fixed(token) => Ok(token.clone()),
            Source::Asked(ask) => ask().await.map(Arc::from),
        }
    }
}

impl From<String> for TokenSource {
    fn from(token: String) -> Self {
        Self::fixed(token)
    }
}

impl From<&str> for TokenSource {
    fn from(token: &str) -> Self {
        Self::fixed(token)
    }
}

impl fmt::Debug for TokenSource {
    // A token is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSource")
    }
}
