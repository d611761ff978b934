//! A backend's way in: a token with a scope, or, on loopback and only if asked for, none.

use std::net::SocketAddr;

use axum::http::HeaderMap;
use pushmesh_protocol::Token;
use tonic::metadata::MetadataMap;

use crate::{
    claims::{Backend, Identity},
    error::AuthError,
    scope::Scope,
    verifier::Verifier,
};

/// Checks who calls. Cheap to clone.
#[derive(Clone)]
pub struct Door {
    verifier: Verifier,
    insecure_local: bool,
}

/// A door that would be open to strangers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("insecure_local opens a door without tokens: it must listen on loopback, not on {listen}")]
pub struct DoorError {
    listen: SocketAddr,
}

impl Door {
    /// With `insecure_local`, who comes without a token may do everything, and `listen` must be a loopback address; a token
    /// that is shown is checked all the same.
    pub fn new(verifier: Verifier, listen: SocketAddr, insecure_local: bool) -> Result<Self, DoorError> {
        if insecure_local && !listen.ip().is_loopback() {
            return Err(DoorError { listen });
        }
        Ok(Self { verifier, insecure_local })
    }

    /// By gRPC metadata: `UNAUTHENTICATED`, or `PERMISSION_DENIED` where the token is good and its scope is not.
    pub fn check(&self, metadata: &MetadataMap, scope: Scope) -> Result<Backend, tonic::Status> {
        let header = metadata.get("authorization").map(|value| value.to_str().unwrap_or_default());
        Ok(self.admit(header, scope)?)
    }

    /// By HTTP headers; [`AuthError::http_status`] says 401 or 403.
    pub fn check_http(&self, headers: &HeaderMap, scope: Scope) -> Result<Backend, AuthError> {
        self.admit(headers.get("authorization").map(|value| value.to_str().unwrap_or_default()), scope)
    }

    /// Whoever it is, client or backend, by gRPC metadata; what he may do is the caller's to check.
    pub fn who(&self, metadata: &MetadataMap) -> Result<Identity, AuthError> {
        self.identity(metadata.get("authorization").map(|value| value.to_str().unwrap_or_default()))
    }

    /// Whoever it is, client or backend, by HTTP headers; what he may do is the caller's to check.
    pub fn who_http(&self, headers: &HeaderMap) -> Result<Identity, AuthError> {
        self.identity(headers.get("authorization").map(|value| value.to_str().unwrap_or_default()))
    }

    fn identity(&self, header: Option<&str>) -> Result<Identity, AuthError> {
        match header {
            None if self.insecure_local => Ok(Identity::Backend(anybody())),
            header => self.verifier.identity(bearer(header)?),
        }
    }

    fn admit(&self, header: Option<&str>, scope: Scope) -> Result<Backend, AuthError> {
        match header {
            None if self.insecure_local => Ok(anybody()),
            header => self.verifier.backend(bearer(header)?, scope),
        }
    }
}

fn bearer(header: Option<&str>) -> Result<&str, AuthError> {
    let (scheme, token) = header.and_then(|header| header.trim().split_once(' ')).ok_or(AuthError::Missing)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(AuthError::Missing) }
}

fn anybody() -> Backend {
    Backend {
        name: Token::new("insecure-local").expect("made of token characters"),
        scopes: Scope::ALL.to_vec(),
        expires: u64::MAX,
    }
}
