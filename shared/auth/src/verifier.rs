//! Tokens in, identities out.

use std::{
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use arc_swap::ArcSwap;
use pushmesh_protocol::message::Millis;

use crate::{
    claims::{Backend, Client, Identity},
    config::Config,
    error::AuthError,
    keys::{KeySet, LoadError},
    scope::Scope,
};

/// How often the key file is looked at, at most, in milliseconds.
const LOOK_EVERY: u64 = 1_000;

/// Checks tokens. Cloning is a reference count.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    config: Config,
    keys: ArcSwap<KeySet>,
    started: Instant,
    /// Milliseconds since `started`: who moves it on looks at the file.
    next_look: AtomicU64,
    seen: std::sync::Mutex<Option<Stamp>>,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        Some(Self { inode: meta.ino(), bytes: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) })
    }
}

impl Verifier {
    /// Reads the key file. Without one, every token is refused.
    pub fn load(config: &Config) -> Result<Self, LoadError> {
        // The stamp first: a change while the file is read is seen at the next look.
        let seen = config.jwks_file.as_deref().and_then(Stamp::of);
        let keys = config.jwks_file.as_deref().map_or_else(|| Ok(KeySet::empty()), KeySet::read)?;
        Ok(Self(Arc::new(Inner {
            config: config.clone(),
            keys: ArcSwap::from_pointee(keys),
            started: Instant::now(),
            next_look: AtomicU64::new(LOOK_EVERY),
            seen: std::sync::Mutex::new(seen),
        })))
    }

    /// A client's token.
    pub fn client(&self, token: &str) -> Result<Client, AuthError> {
        self.client_at(token, now())
    }

    /// A backend's token that has the scope `needed`.
    pub fn backend(&self, token: &str, needed: Scope) -> Result<Backend, AuthError> {
        self.backend_at(token, needed, now())
    }

    /// A client's token, or a backend's with whatever scopes.
    pub fn identity(&self, token: &str) -> Result<Identity, AuthError> {
        self.look();
        self.0.keys.load().open(token)?.identity(&self.0.config, now())
    }

    /// [`Verifier::client`] at the time `now`.
    pub fn client_at(&self, token: &str, now: Millis) -> Result<Client, AuthError> {
        self.look();
        self.0.keys.load().open(token)?.client(&self.0.config, now)
    }

    /// [`Verifier::backend`] at the time `now`.
    pub fn backend_at(&self, token: &str, needed: Scope, now: Millis) -> Result<Backend, AuthError> {
        self.look();
        self.0.keys.load().open(token)?.backend(&self.0.config, needed, now)
    }

    /// Reads the key file again if it changed; keeps the old keys if the new file is bad. Happens by itself, at most once
    /// a second, when a token is checked.
    pub fn refresh(&self) -> Result<(), LoadError> {
        let Some(path) = self.0.config.jwks_file.as_deref() else { return Ok(()) };
        let stamp = Stamp::of(path);
        {
            let mut seen = self.0.seen.lock().expect("nothing panics while it holds this");
            if *seen == stamp {
                return Ok(());
            }
            *seen = stamp;
        }
        let keys = KeySet::read(path)?;
        tracing::info!(file = %path.display(), keys = keys.len(), "key file changed: new keys in use");
        self.0.keys.store(Arc::new(keys));
        Ok(())
    }

    // One caller a second pays for a stat; the others pass by.
    fn look(&self) {
        let now = self.0.started.elapsed().as_millis() as u64;
        let due = self.0.next_look.load(Ordering::Relaxed);
        let next = now + LOOK_EVERY;
        if now >= due
            && self.0.next_look.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            && let Err(error) = self.refresh()
        {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "key file changed and is bad: the old keys stay in use"
            );
        }
    }
}

pub(crate) fn now() -> Millis {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as Millis)
}
