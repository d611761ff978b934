//! After this comet was unheard for so long that its logins may have ended, its sessions are put again.
//!
//! What counts is whether its heartbeats were heard, and that it knows by hearing them itself: the connection that
//! carries everything else may have been well all the time.

use std::time::{Duration, Instant};

use pushmesh_membership::{Heard, Membership};
use pushmesh_protocol::metric::comet as names;
use pushmesh_telemetry::metric::counter;
use tokio::sync::{Notify, oneshot};

use super::session::SessionWriter;
use crate::shard::{
    command::{Queues, Renewal, Urgent},
    outlet::SessionNote,
    wall,
};

/// Sessions put in one go, and the pause between two goes.
const SLICE: usize = 500;
const SLICE_EVERY: Duration = Duration::from_millis(50);
/// Before those are put again that could not be.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

pub struct Reput {
    pub membership: Membership,
    pub writer: SessionWriter,
    pub shards: Vec<Queues>,
    /// Unheard for so long: put all.
    pub after: Duration,
}

impl Reput {
    /// Watches and puts, until membership ends.
    pub async fn run(self) {
        // A silence that ends while sessions are being put is not missed: all are put once more.
        let over = Notify::new();
        let listen = async {
            let mut echoes = self.membership.echoes();
            let mut silence = Silence::new(*echoes.borrow_and_update(), self.after);
            while echoes.changed().await.is_ok() {
                if silence.ends(*echoes.borrow_and_update()) {
                    over.notify_one();
                }
            }
        };
        let put = async {
            loop {
                over.notified().await;
                self.put_all().await;
            }
        };
        tokio::select! {
            () = listen => {}
            () = put => {}
        }
    }

    async fn put_all(&self) {
        let mut count = 0;
        for queues in &self.shards {
            let (answer, answered) = oneshot::channel();
            if queues.urgent.send(Urgent::Sessions(answer)).await.is_err() {
                return;
            }
            let Ok(mut notes) = answered.await else { return };
            count += notes.len();
            while !notes.is_empty() {
                let rest = notes.split_off(notes.len().min(SLICE));
                let failed = self.put(queues, notes).await;
                tokio::time::sleep(if failed.is_empty() { SLICE_EVERY } else { AGAIN_AFTER }).await;
                notes = failed;
                notes.extend(rest);
            }
        }
        counter(&names::SESSIONS_REPUT).increment(count as u64);
        tracing::info!(sessions = count, "sessions put again after this comet was unheard");
    }

    /// Returns those that could not be put.
    async fn put(&self, queues: &Queues, mut notes: Vec<SessionNote>) -> Vec<SessionNote> {
        let comet_epoch = self.membership.epoch();
        notes.iter_mut().for_each(|note| note.comet_epoch = comet_epoch);
        let outcomes = self.writer.put_all(&notes).await;
        let (mut renewed, mut failed) = (Vec::with_capacity(notes.len()), Vec::new());
        for (mut note, outcome) in notes.into_iter().zip(outcomes) {
            match outcome {
                Ok(revision) => {
                    note.revision = revision;
                    renewed.push((note, Renewal { revision, comet_epoch }));
                }
                Err(error) => {
                    tracing::debug!(%error, "a session could not be put again yet");
                    failed.push(note);
                }
            }
        }
        let (gone, told) = oneshot::channel();
        let pairs = renewed.iter().map(|(note, renewal)| (note.address, *renewal)).collect();
        if queues.urgent.send(Urgent::Renewed(pairs, gone)).await.is_err() {
            return Vec::new();
        }
        // Those that left meanwhile wrote their end under the old revision, in vain: it is written for them.
        for address in told.await.unwrap_or_default() {
            if let Some((note, _)) = renewed.iter().find(|(note, _)| note.address == address) {
                self.writer.left(note, wall()).await;
            }
        }
        failed
    }
}

/// What others may not have heard of us: the time from the sending of a heartbeat that came back to the return of the next.
/// Its return would say less: a process that stands still reads late what the others heard in time.
struct Silence {
    /// When it began at the earliest: when the last heartbeat that came back was sent, or when the last silence ended, after
    /// which everything was put again.
    since: Instant,
    after: Duration,
}

impl Silence {
    fn new(heard: Heard, after: Duration) -> Self {
        Self { since: heard.sent, after }
    }

    /// Whether the heartbeat that came back `now` ends a silence that may have been too long.
    fn ends(&mut self, now: Heard) -> bool {
        let is_over = now.back.saturating_duration_since(self.since) >= self.after;
        self.since = self.since.max(if is_over { now.back } else { now.sent });
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends<const N: usize>(heartbeats: [(u32, u32); N]) -> [bool; N] {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut silence = Silence::new(Heard { sent: start, back: start }, 60 * second);
        heartbeats.map(|(sent, back)| silence.ends(Heard { sent: start + sent * second, back: start + back * second }))
    }

    #[test]
    fn only_a_long_silence_counts_and_it_counts_once() {
        let at_once = [0, 1, 60, 121, 122, 181, 241].map(|at| (at, at));
        assert_eq!(ends(at_once), [false, false, false, true, false, false, true]);
    }

    #[test]
    fn a_heartbeat_that_was_read_late_hides_no_silence() {
        assert_eq!(ends([(1, 40), (65, 65)]), [false, true]);
    }

    #[test]
    fn heartbeats_that_were_held_up_on_their_way_end_a_silence() {
        assert_eq!(ends([(1, 70), (30, 70), (69, 70), (71, 71)]), [true, false, false, false]);
    }
}
