//! The two stages of an end.

use tokio_util::sync::CancellationToken;

/// First `drain`: take nothing new, finish what is begun. Then, if that takes too long, `stop`: drop everything.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Cancelled by the first signal, or by a fatal error.
    pub drain: CancellationToken,
    /// Cancelled by the second signal, or at the end of the grace period.
    pub stop: CancellationToken,
}

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// What one more signal means.
    pub fn signal(&self) {
        if self.drain.is_cancelled() { self.stop.cancel() } else { self.drain.cancel() }
    }
}
