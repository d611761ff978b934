//! Configuration in layers: defaults, then a TOML file, then `PUSHMESH_…__…`, then `--set a.b=c`; secrets by path.
//!
//! It consumes a file, the environment and flags; produces a typed, checked value or an error that names the key, where it
//! stands and what was expected. It owns nothing.
//!
//! Guarantees: a later layer wins key by key; arrays are replaced as a whole; a key that nobody knows is an error, never
//! ignored, as long as the types say `#[serde(default, deny_unknown_fields)]` ([`lenient_tables`] finds those that don't).
//! A variable of the environment counts only if it has a `__`: `PUSHMESH_NATS__URL` is `nats.url`, `PUSHMESH_HOME` is not ours.
//!
//! Deliberately not here: watching for changes (a service is restarted), profiles, interpolation, secrets in the file itself.
//!
//! Start reading at [`Layers`].

pub mod duration;
mod error;
mod layers;
mod print;
mod secret;
pub mod size;

pub use duration::DurationText;
pub use error::{ConfigError, FieldError, Problem};
pub use layers::{ENV_PREFIX, Layers};
pub use print::{lenient_tables, redacted, schema, to_toml};
pub use secret::{SECRET_MAX_BYTES, Secret, SecretError};
pub use size::SizeText;
