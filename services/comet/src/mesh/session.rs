//! Sessions in the bucket `sess`: written when a connection begins, and when it ends.

use std::{sync::Arc, time::Duration};

use pushmesh_bus::{Kv, KvError};
use pushmesh_protocol::{
    Instance,
    message::{LoginAnswer, LoginReport, Millis, OfflineCause, ReportedEvent, Session},
    name::Key,
    wire,
};
use tokio::sync::{Semaphore, mpsc};

use super::report::Reporter;
use crate::shard::outlet::{Ending, EndingKind, SessionNote};

/// Ends written at once.
const AT_ONCE: u32 = 256;
/// Between tries over an outage: doubles from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

#[derive(Clone)]
pub struct SessionWriter {
    pub sessions: Kv,
    pub instance: Instance,
}

impl SessionWriter {
    /// Puts the session, whatever the key held. Returns its revision.
    pub async fn put(&self, note: &SessionNote) -> Result<u64, KvError> {
        self.sessions.put(&key(note), self.value(note, None)).await
    }

    /// Puts many, in order and pipelined; one revision each.
    pub async fn put_all(&self, notes: &[SessionNote]) -> Vec<Result<u64, KvError>> {
        self.sessions.put_all(notes.iter().map(|note| (key(note), self.value(note, None))).collect()).await
    }

    /// Notes that its socket broke. Tried until it is done, or until the key turns out to be somebody else's.
    pub async fn left(&self, note: &SessionNote, at: Millis) {
        let mut pause = PAUSES.0;
        loop {
            match self.sessions.update(&key(note), self.value(note, Some(at)), note.revision).await {
                Ok(_) | Err(KvError::WrongRevision) => return,
                Err(error) => tracing::debug!(%error, "a session's end is not written yet"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn value(&self, note: &SessionNote, left: Option<Millis>) -> bytes::Bytes {
        let session = Session {
            login_id: note.login_id.clone(),
            device: note.device.clone(),
            comet: self.instance.clone(),
            comet_epoch: note.comet_epoch,
            since: note.since,
            left,
        };
        wire::encode(&session).into()
    }
}

fn key(note: &SessionNote) -> Key {
    Key::session(note.partition, &note.user, &note.address.conn_id())
}

/// Writes the ends of sessions until the queue closes and the last one is written.
pub async fn run(writer: SessionWriter, reporter: Reporter, mut endings: mpsc::Receiver<Ending>) {
    let places = Arc::new(Semaphore::new(AT_ONCE as usize));
    while let Some(ending) = endings.recv().await {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let (writer, reporter) = (writer.clone(), reporter.clone());
        tokio::spawn(async move {
            let Ending { session, at, how, seat } = ending;
            match how {
                EndingKind::Left => writer.left(&session, at).await,
                EndingKind::Logout => log_out(&writer, &reporter, &session, at).await,
            }
            // Only now may somebody else have the place.
            drop(seat);
            drop(place);
        });
    }
    let _all = places.acquire_many(AT_ONCE).await;
}

// The key goes once the `offline` is stored: until then it is what ack-retry would know the login by.
async fn log_out(writer: &SessionWriter, reporter: &Reporter, session: &SessionNote, at: Millis) {
    let report = LoginReport {
        user: session.user.clone(),
        device: Some(session.device.clone()),
        login_id: Some(session.login_id.clone()),
        event: ReportedEvent::Offline(OfflineCause::Logout),
        at,
        trace: None,
    };
    let mut pause = PAUSES.0;
    loop {
        match reporter.report(report.clone()).await {
            LoginAnswer::Accepted { .. } => break,
            LoginAnswer::Refused { field, reason } => {
                tracing::warn!(field, reason, "a logout was refused");
                break;
            }
            LoginAnswer::Unknown { reason, .. } => tracing::debug!(reason, "a logout is not stored yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
    while let Err(error) = writer.sessions.purge(&key(session)).await {
        tracing::debug!(%error, "a session that logged out is not purged yet");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}
