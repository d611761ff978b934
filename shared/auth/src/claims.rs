//! What a token says, checked claim by claim. Pure: the time is an argument.

use pushmesh_protocol::{DeviceId, Token, UserId, message::Millis};
use serde::Deserialize;
use serde_json::Value;

use crate::{config::Config, error::AuthError, scope::Scope};

/// Longest token, in bytes: one LOGIN frame holds it.
pub const TOKEN_MAX_BYTES: usize = 3 * 1024;
/// The end of the year 9999, in seconds: no date lies beyond.
const DATE_MAX: f64 = 253_402_300_799.0;

/// A client whose token is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Claim `sub`.
    pub user: UserId,
    /// Claim `sid`: the login's id at the token's first use.
    pub sid: Option<Token>,
    /// Claim `device`: set, the token is good for this device alone.
    pub device: Option<DeviceId>,
    /// Claim `exp`.
    pub expires: Millis,
}

/// A backend whose token is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Claim `sub`.
    pub name: Token,
    /// Claim `scope`, those that are known.
    pub scopes: Vec<Scope>,
    /// Claim `exp`.
    pub expires: Millis,
}

/// Whom a good token speaks for, where a door takes both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    Client(Client),
    Backend(Backend),
}

/// A token's payload before it is checked. A claim that stands twice is refused by serde.
#[derive(Deserialize)]
pub(crate) struct Payload {
    iss: Option<Value>,
    aud: Option<Value>,
    sub: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    sid: Option<Value>,
    device: Option<Value>,
    scope: Option<Value>,
}

impl Payload {
    pub(crate) fn client(&self, config: &Config, now: Millis) -> Result<Client, AuthError> {
        let expires = self.common(config, &config.client_audience, now)?;
        Ok(Client {
            user: token("sub", required("sub", &self.sub)?)?.into(),
            sid: self.sid.as_ref().map(|sid| token("sid", sid)).transpose()?,
            device: self.device.as_ref().map(|device| token("device", device)).transpose()?.map(DeviceId::from),
            expires,
        })
    }

    /// The audience tells. A token for both is a client's: the lesser right.
    pub(crate) fn identity(&self, config: &Config, now: Millis) -> Result<Identity, AuthError> {
        let is_for = |audience: &String| match &self.aud {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(all)) => all.iter().any(|one| one == audience),
            _ => false,
        };
        if !is_for(&config.client_audience) && is_for(&config.backend_audience) {
            Ok(Identity::Backend(self.any_backend(config, now)?))
        } else {
            Ok(Identity::Client(self.client(config, now)?))
        }
    }

    pub(crate) fn backend(&self, config: &Config, needed: Scope, now: Millis) -> Result<Backend, AuthError> {
        let backend = self.any_backend(config, now)?;
        if backend.scopes.contains(&needed) { Ok(backend) } else { Err(AuthError::Scope { needed }) }
    }

    fn any_backend(&self, config: &Config, now: Millis) -> Result<Backend, AuthError> {
        let expires = self.common(config, &config.backend_audience, now)?;
        let name = token("sub", required("sub", &self.sub)?)?;
        let scopes: Vec<_> = match &self.scope {
            None => vec![],
            Some(scope) => {
                text("scope", scope)?.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
            }
        };
        Ok(Backend { name, scopes, expires })
    }

    fn common(&self, config: &Config, audience: &str, now: Millis) -> Result<Millis, AuthError> {
        if text("iss", required("iss", &self.iss)?)? != config.issuer {
            return Err(AuthError::claim("iss", format!("is wrong; expected {:?}", config.issuer)));
        }
        let for_us = match required("aud", &self.aud)? {
            Value::String(one) => one == audience,
            Value::Array(all) if all.iter().all(Value::is_string) => all.iter().any(|one| one == audience),
            _ => return Err(AuthError::claim("aud", "must be a text or a list of texts")),
        };
        if !for_us {
            return Err(AuthError::claim("aud", format!("is wrong; expected {audience:?}")));
        }
        let leeway = u64::try_from(config.leeway.as_millis()).unwrap_or(u64::MAX);
        let expires = date("exp", required("exp", &self.exp)?)?;
        if now >= expires.saturating_add(leeway) {
            return Err(AuthError::claim("exp", "has passed"));
        }
        match &self.nbf {
            Some(nbf) if date("nbf", nbf)? > now.saturating_add(leeway) => {
                Err(AuthError::claim("nbf", "is still to come"))
            }
            _ => Ok(expires),
        }
    }
}

fn required<'a>(claim: &'static str, value: &'a Option<Value>) -> Result<&'a Value, AuthError> {
    value.as_ref().ok_or_else(|| AuthError::claim(claim, "is missing"))
}

fn text<'a>(claim: &'static str, value: &'a Value) -> Result<&'a str, AuthError> {
    value.as_str().ok_or_else(|| AuthError::claim(claim, "must be a text"))
}

fn token(claim: &'static str, value: &Value) -> Result<Token, AuthError> {
    Token::new(text(claim, value)?).map_err(|error| AuthError::claim(claim, error.to_string()))
}

// Seconds since 1970, perhaps with a fraction (RFC 7519, NumericDate).
fn date(claim: &'static str, value: &Value) -> Result<Millis, AuthError> {
    let seconds = value.as_f64().ok_or_else(|| AuthError::claim(claim, "must be a number of seconds since 1970"))?;
    if (0.0..=DATE_MAX).contains(&seconds) {
        Ok((seconds * 1000.0) as Millis)
    } else {
        Err(AuthError::claim(claim, "must be a number of seconds between 1970 and 9999"))
    }
}
