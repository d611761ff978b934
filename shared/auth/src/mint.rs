//! Tokens made here: for tests, for the command line, for a laptop's mesh.

use std::{
    fs::OpenOptions,
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use pushmesh_protocol::{DeviceId, Token, UserId, message::Millis};
use serde_json::{Map, Value, json};

use crate::{
    config::Config,
    keys::{LoadError, read_jwks},
    scope::Scope,
    verifier,
};

/// Signs tokens with HS256.
#[derive(Clone)]
pub struct Minter {
    key: EncodingKey,
    kid: Option<String>,
    config: Config,
    /// `None`: the clock's.
    now: Option<Millis>,
}

impl Minter {
    /// With the first symmetric key of a key file, and the names of [`Config::default`].
    pub fn from_jwks(path: &Path) -> Result<Self, LoadError> {
        let wrong = |reason: &str| LoadError::Malformed { path: path.to_path_buf(), reason: reason.to_owned() };
        let jwk = read_jwks(path)?
            .into_iter()
            .find(|jwk| jwk.kty == "oct")
            .ok_or_else(|| wrong("it has no key of type oct to sign with"))?;
        let secret = URL_SAFE_NO_PAD.decode(jwk.k.unwrap_or_default()).map_err(|_| wrong("its k is not base64url"))?;
        Ok(Self { key: EncodingKey::from_secret(&secret), kid: jwk.kid, config: Config::default(), now: None })
    }

    /// With a secret of at least 32 bytes, no `kid`, and the names of [`Config::default`].
    pub fn hs256(secret: &[u8]) -> Self {
        Self { key: EncodingKey::from_secret(secret), kid: None, config: Config::default(), now: None }
    }

    /// For the issuer and audiences of `config`.
    #[must_use]
    pub fn named(mut self, config: &Config) -> Self {
        self.config = config.clone();
        self
    }

    /// As if it were `now`: tokens that are over, or not good yet.
    #[must_use]
    pub fn at(mut self, now: Millis) -> Self {
        self.now = Some(now);
        self
    }

    /// A client's token, good for `lifetime` from now.
    pub fn client(&self, user: &UserId, sid: Option<&Token>, lifetime: Duration) -> String {
        self.sign(&self.client_claims(user, sid, lifetime))
    }

    /// A client's token that is good for one device alone.
    pub fn client_of_device(
        &self,
        user: &UserId,
        device: &DeviceId,
        sid: Option<&Token>,
        lifetime: Duration,
    ) -> String {
        let mut claims = self.client_claims(user, sid, lifetime);
        claims.insert("device".into(), device.as_str().into());
        self.sign(&claims)
    }

    /// A backend's token with `scopes`, good for `lifetime` from now. `name` must be a [`Token`] to be admitted.
    pub fn backend(&self, name: impl AsRef<str>, scopes: &[Scope], lifetime: Duration) -> String {
        let mut claims = self.claims(name.as_ref(), &self.config.backend_audience, lifetime);
        let scopes: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
        claims.insert("scope".into(), scopes.join(" ").into());
        self.sign(&claims)
    }

    fn client_claims(&self, user: &UserId, sid: Option<&Token>, lifetime: Duration) -> Map<String, Value> {
        let mut claims = self.claims(user.as_str(), &self.config.client_audience, lifetime);
        if let Some(sid) = sid {
            claims.insert("sid".into(), sid.as_str().into());
        }
        claims
    }

    fn claims(&self, subject: &str, audience: &str, lifetime: Duration) -> Map<String, Value> {
        let now = self.now.unwrap_or_else(verifier::now) / 1000;
        let claims = json!({
            "iss": self.config.issuer, "aud": audience, "sub": subject, "iat": now, "exp": now + lifetime.as_secs(),
        });
        match claims {
            Value::Object(claims) => claims,
            _ => unreachable!("the literal above is an object"),
        }
    }

    fn sign(&self, claims: &Map<String, Value>) -> String {
        let header = Header { kid: self.kid.clone(), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, claims, &self.key)
            .expect("claims of texts and numbers can be signed with a secret")
    }
}

/// Writes a new file with one fresh HS256 key, readable by its owner alone. Fails if the file exists.
pub fn generate_jwks(path: &Path) -> std::io::Result<()> {
    let mut secret = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut secret)?;
    let mut name = [0; 6];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut name)?;
    let key = json!({
        "kty": "oct", "use": "sig", "alg": "HS256",
        "kid": URL_SAFE_NO_PAD.encode(name), "k": URL_SAFE_NO_PAD.encode(secret),
    });
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", json!({ "keys": [key] }))?;
    file.sync_all()
}
