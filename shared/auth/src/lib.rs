//! Who somebody is: tokens of clients and backends, checked against a JWKS file; tokens for tests and people, minted.
//!
//! It consumes a JSON Web Key Set (RFC 7517) from a file, read again when it changes, and JWTs; produces a [`Client`], a
//! [`Backend`] or an [`AuthError`] that names the claim and never the token. It owns nothing but the keys in memory.
//!
//! Guarantees: each key has one fixed algorithm (HS256, RS256, ES256 or EdDSA), and no token can choose another; of a
//! token's header only `alg` and `kid` are read, `kid` only as a name to look up; `exp`, `aud`, `iss` and `sub` are
//! required; the leeway is at most 30 s, a token at most 3 KiB. A new key file that is bad is logged, and the old keys go on.
//!
//! Deliberately not here: keys from the network, revocation, sessions.
//!
//! Start reading at [`Verifier`].

mod claims;
mod config;
mod door;
mod error;
mod keys;
mod mint;
mod scope;
mod verifier;

pub use claims::{Backend, Client, Identity, TOKEN_MAX_BYTES};
pub use config::{Config, LEEWAY_MAX};
pub use door::{Door, DoorError};
pub use error::AuthError;
pub use keys::{KEYS_MAX, LoadError};
pub use mint::{Minter, generate_jwks};
pub use scope::Scope;
pub use verifier::Verifier;
