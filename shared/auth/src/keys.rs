//! The key set: each key with the one algorithm it may be used for.

use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use crate::{
    claims::{Payload, TOKEN_MAX_BYTES},
    error::AuthError,
};

/// Most keys a file may have.
pub const KEYS_MAX: usize = 64;
/// Largest file, in bytes.
const FILE_MAX_BYTES: u64 = 256 * 1024;
/// Shortest secret of HS256, in bytes: the length of its hash.
const SECRET_MIN_BYTES: usize = 32;
/// Shortest modulus of RS256, in bytes.
const MODULUS_MIN_BYTES: usize = 256;

/// Why a key file can't be used. Names the key, never its material.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{path} can't be read")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} has more than {FILE_MAX_BYTES} bytes")]
    TooLarge { path: PathBuf },
    #[error("{path} is no JSON Web Key Set: {reason}")]
    Malformed { path: PathBuf, reason: String },
    #[error("{path} has {found} keys to check signatures with; expected 1 to {KEYS_MAX}")]
    Count { path: PathBuf, found: usize },
    #[error("{path}: key {key} {reason}")]
    Key { path: PathBuf, key: String, reason: String },
}

pub(crate) struct KeySet(Vec<Key>);

struct Key {
    kid: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

/// A key as it stands in a file; what is not read here (certificates, URLs) is ignored.
#[derive(Deserialize)]
pub(crate) struct Jwk {
    pub kty: String,
    pub kid: Option<String>,
    pub alg: Option<String>,
    #[serde(rename = "use")]
    pub usage: Option<String>,
    pub crv: Option<String>,
    pub k: Option<String>,
    pub n: Option<String>,
    pub e: Option<String>,
    pub x: Option<String>,
    pub y: Option<String>,
}

/// All that is read of a token's header: `jku`, `jwk`, `x5u` and their like stand in it in vain.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

pub(crate) fn read_jwks(path: &Path) -> Result<Vec<Jwk>, LoadError> {
    let named = || path.to_path_buf();
    let meta = std::fs::metadata(path).map_err(|source| LoadError::Read { path: named(), source })?;
    if meta.len() > FILE_MAX_BYTES {
        return Err(LoadError::TooLarge { path: named() });
    }
    let bytes = std::fs::read(path).map_err(|source| LoadError::Read { path: named(), source })?;
    // serde's message may quote the file, and with it a secret: only the place is told.
    let malformed = |error: serde_json::Error| LoadError::Malformed {
        path: named(),
        reason: format!("{:?} error at line {}, column {}", error.classify(), error.line(), error.column()),
    };
    Ok(serde_json::from_slice::<JwkSet>(&bytes).map_err(malformed)?.keys)
}

impl KeySet {
    pub(crate) fn empty() -> Self {
        Self(vec![])
    }

    pub(crate) fn read(path: &Path) -> Result<Self, LoadError> {
        let keys: Vec<_> = read_jwks(path)?
            .into_iter()
            .filter(|key| key.usage.as_deref().is_none_or(|usage| usage == "sig"))
            .collect();
        if keys.is_empty() || keys.len() > KEYS_MAX {
            return Err(LoadError::Count { path: path.to_path_buf(), found: keys.len() });
        }
        let mut set: Vec<Key> = Vec::with_capacity(keys.len());
        for (index, jwk) in keys.into_iter().enumerate() {
            let name = jwk.kid.clone().unwrap_or_else(|| format!("#{index}"));
            let wrong = |reason: &str| LoadError::Key {
                path: path.to_path_buf(),
                key: name.clone(),
                reason: reason.to_owned(),
            };
            if set.iter().any(|known| known.kid == jwk.kid) {
                return Err(wrong("has the kid of another"));
            }
            let (algorithm, key) = jwk.decode().map_err(&wrong)?;
            set.push(Key { kid: jwk.kid, algorithm, key });
        }
        Ok(Self(set))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The payload of a token whose signature is good.
    pub(crate) fn open(&self, token: &str) -> Result<Payload, AuthError> {
        let malformed = |part| AuthError::Malformed { part };
        if token.len() > TOKEN_MAX_BYTES {
            return Err(AuthError::TooLong { bytes: token.len() });
        }
        let (message, signature) = token.rsplit_once('.').ok_or(malformed("expected three parts"))?;
        let (header, payload) = message.split_once('.').ok_or(malformed("expected three parts"))?;
        if payload.contains('.') {
            return Err(malformed("expected three parts"));
        }
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| malformed("the header is not base64url"))?;
        let header: Header =
            serde_json::from_slice(&header).map_err(|_| malformed("the header is no JSON object with alg"))?;
        if header.crit.is_some() {
            return Err(AuthError::Critical);
        }
        let key = self.find(header.kid.as_deref())?;
        if header.alg != name(key.algorithm) {
            return Err(AuthError::Algorithm);
        }
        let good = jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.key, key.algorithm);
        if !good.unwrap_or(false) {
            return Err(AuthError::Signature);
        }
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| malformed("the payload is not base64url"))?;
        serde_json::from_slice(&payload).map_err(|_| malformed("the payload is no JSON object, or has a claim twice"))
    }

    fn find(&self, kid: Option<&str>) -> Result<&Key, AuthError> {
        match (kid, self.0.as_slice()) {
            (_, []) => Err(AuthError::NoKeys),
            (None, [only]) => Ok(only),
            (None, _) => Err(AuthError::KeyUnnamed),
            (Some(kid), keys) => keys.iter().find(|key| key.kid.as_deref() == Some(kid)).ok_or(AuthError::UnknownKey),
        }
    }
}

fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HS256 => "HS256",
        Algorithm::RS256 => "RS256",
        Algorithm::ES256 => "ES256",
        Algorithm::EdDSA => "EdDSA",
        _ => "unsupported",
    }
}

impl Jwk {
    /// The key's one algorithm follows from its type; `alg` may only agree.
    fn decode(&self) -> Result<(Algorithm, DecodingKey), &'static str> {
        let bytes = |field: &Option<String>| {
            let text = field.as_deref().ok_or("lacks a field of its type")?;
            URL_SAFE_NO_PAD.decode(text).map_err(|_| "has a field that is not base64url")
        };
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let (algorithm, key) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("oct", _) => {
                let secret = bytes(&self.k)?;
                if secret.len() < SECRET_MIN_BYTES {
                    return Err("is too short; HS256 needs at least 32 bytes");
                }
                (Algorithm::HS256, Ok(DecodingKey::from_secret(&secret)))
            }
            ("RSA", _) => {
                bytes(&self.e)?;
                if bytes(&self.n)?.iter().skip_while(|byte| **byte == 0).count() < MODULUS_MIN_BYTES {
                    return Err("is too short; RS256 needs at least 2048 bits");
                }
                (Algorithm::RS256, DecodingKey::from_rsa_components(&text(&self.n), &text(&self.e)))
            }
            ("EC", Some("P-256")) => {
                if bytes(&self.x)?.len() != 32 || bytes(&self.y)?.len() != 32 {
                    return Err("has coordinates that are not 32 bytes");
                }
                (Algorithm::ES256, DecodingKey::from_ec_components(&text(&self.x), &text(&self.y)))
            }
            ("OKP", Some("Ed25519")) => {
                if bytes(&self.x)?.len() != 32 {
                    return Err("has a point that is not 32 bytes");
                }
                (Algorithm::EdDSA, DecodingKey::from_ed_components(&text(&self.x)))
            }
            _ => return Err("has an unsupported type; expected oct, RSA, EC with P-256 or OKP with Ed25519"),
        };
        if self.alg.as_deref().is_some_and(|alg| alg != name(algorithm)) {
            return Err("has an alg that its type does not allow; expected HS256, RS256, ES256 or EdDSA");
        }
        key.map(|key| (algorithm, key)).map_err(|_| "can't be read")
    }
}
