//! Tokens good and bad, the key file and its changes, and doors.
#![allow(clippy::unwrap_used)]

mod door;
mod file;
mod token;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use pushmesh_auth::{Config, Verifier};
use serde_json::{Value, json};

/// One key of each kind; made for these tests alone.
pub const JWKS: &str = include_str!("keys/jwks.json");
pub const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
/// Seconds since 1970: when these tests take place.
pub const NOW: u64 = 1_800_000_000;

pub struct Keys {
    _dir: tempfile::TempDir,
    pub config: Config,
}

impl Keys {
    pub fn new(jwks: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jwks.json");
        std::fs::write(&path, jwks).unwrap();
        Self { _dir: dir, config: Config { jwks_file: Some(path), ..Config::default() } }
    }

    pub fn verifier(&self) -> Verifier {
        Verifier::load(&self.config).unwrap()
    }

    pub fn replace(&self, jwks: &str) {
        std::fs::write(self.config.jwks_file.as_ref().unwrap(), jwks).unwrap();
    }
}

pub fn key(algorithm: Algorithm) -> EncodingKey {
    match algorithm {
        Algorithm::HS256 => EncodingKey::from_secret(SECRET),
        Algorithm::RS256 => EncodingKey::from_rsa_pem(include_bytes!("keys/rsa.pem")).unwrap(),
        Algorithm::ES256 => EncodingKey::from_ec_pem(include_bytes!("keys/ec.pem")).unwrap(),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(include_bytes!("keys/ed.pem")).unwrap(),
        other => panic!("no key for {other:?}"),
    }
}

pub fn encoded(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

pub fn signed(header: &Value, payload: &Value, algorithm: Algorithm, key: &EncodingKey) -> String {
    let message = format!("{}.{}", encoded(header), encoded(payload));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

pub fn client_claims() -> Value {
    json!({"iss": "pushmesh", "aud": "pushmesh-client", "sub": "alice", "exp": NOW + 60, "sid": "s-1"})
}

pub fn hs_token(payload: &Value) -> String {
    signed(&json!({"alg": "HS256", "kid": "hs"}), payload, Algorithm::HS256, &key(Algorithm::HS256))
}
