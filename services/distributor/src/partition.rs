//! One partition, for as long as its lease is ours: its consumers, read into the gatherer.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use pushmesh_bus::{Bus, Delivered, PartitionConsumer, Verdict};
use pushmesh_membership::{Lease, PartitionWork};
use pushmesh_protocol::{Kind, Partitions, Token, message::DeadReason, name::Stream};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    gatherer::{Input, Notice},
    handlers::{Handle, Malformed, late_record, login_record},
    machine::{Event, KindIndex, LateStart},
    metrics::Metrics,
};

/// Between two tries to take a consumer.
const TAKE_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What membership runs for each partition that is ours.
pub struct Work {
    pub bus: Bus,
    pub kinds: Vec<Kind>,
    pub partitions: Partitions,
    pub service: Token,
    pub config: Config,
    pub metrics: Arc<Metrics>,
    pub gatherer: mpsc::Sender<Input>,
}

/// Which stream a consumer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Login,
    Late(KindIndex),
}

enum End {
    Released,
    Lost,
    Fenced,
}

impl PartitionWork for Work {
    async fn run(self: Arc<Self>, lease: Lease) {
        let consumers = tokio::select! {
            biased;
            () = lease.lost() => return,
            () = lease.released() => return,
            consumers = self.take_all(&lease) => consumers,
        };
        let late = consumers.iter().filter(|(source, _)| *source != Source::Login);
        let late = late.map(|(_, consumer)| LateStart {
            waiting: consumer.pending() > 0,
            delivered_before: consumer.delivered_before(),
        });
        let (notice, mut noticed) = oneshot::channel();
        let opened = Input::Opened { lease: lease.clone(), late: late.collect(), notice };
        if self.gatherer.send(opened).await.is_err() {
            // The service is going; the lease with it.
            return;
        }
        let stop = CancellationToken::new();
        let mut readers = JoinSet::new();
        for (source, consumer) in consumers {
            readers.spawn(Arc::clone(&self).read(source, consumer, lease.clone(), stop.clone()));
        }
        let end = tokio::select! {
            biased;
            () = lease.lost() => End::Lost,
            _ = &mut noticed => End::Fenced,
            () = lease.released() => End::Released,
        };
        stop.cancel();
        let consumers = readers.join_all().await;
        let (partition, epoch) = (lease.partition(), lease.epoch());
        let end = match end {
            End::Released => self.close(&lease, noticed).await,
            other => other,
        };
        self.say(Event::Lost { partition, epoch }).await;
        match end {
            // Each waits for the server's answer, which may come too late: what is lost meanwhile is abandoned.
            End::Released => {
                let released = join_all(consumers.into_iter().map(PartitionConsumer::release));
                tokio::select! {
                    biased;
                    () = lease.lost() => {}
                    _ = released => {}
                }
            }
            // Fenced while the lease is held, membership takes the partition anew, with a newer epoch.
            End::Lost | End::Fenced => consumers.into_iter().for_each(PartitionConsumer::abandon),
        }
    }
}

impl Work {
    /// LOGIN's consumer, then each kind's LATE, in the order of kinds.
    async fn take_all(&self, lease: &Lease) -> Vec<(Source, PartitionConsumer)> {
        let sources = (0..self.kinds.len()).map(Source::Late);
        let sources = std::iter::once(Source::Login).chain(sources);
        join_all(sources.map(|source| self.take(source, lease))).await
    }

    async fn take(&self, source: Source, lease: &Lease) -> (Source, PartitionConsumer) {
        let stream = match source {
            Source::Login => Stream::LOGIN,
            Source::Late(kind) => Stream::late(&self.kinds[kind]),
        };
        loop {
            match self.bus.take_partition(&stream, lease.partition(), lease.how()).await {
                Ok(consumer) => return (source, consumer),
                Err(error) => {
                    tracing::warn!(%stream, partition = %lease.partition(), %error, "could not take a partition; again");
                }
            }
            tokio::time::sleep(TAKE_AGAIN_AFTER).await;
        }
    }

    /// Reads until told to stop. At most `waiting_max` of its messages wait at a time.
    async fn read(
        self: Arc<Self>,
        source: Source,
        mut consumer: PartitionConsumer,
        lease: Lease,
        stop: CancellationToken,
    ) -> PartitionConsumer {
        let places = Arc::new(Semaphore::new(self.config.waiting_max));
        let next = async {
            loop {
                let place = Arc::clone(&places).acquire_owned().await.expect("never closed");
                let Some(delivered) = consumer.next().await else { break };
                let event = match self.event(source, &delivered, place, &lease) {
                    Ok(event) => event,
                    Err(malformed) => self.reject(source, delivered, &malformed, &lease).await,
                };
                if let Some(event) = event {
                    self.say(event).await;
                }
            }
        };
        stop.run_until_cancelled(next).await;
        consumer
    }

    fn event(
        &self,
        source: Source,
        delivered: &Delivered,
        place: tokio::sync::OwnedSemaphorePermit,
        lease: &Lease,
    ) -> Result<Option<Event<Handle>>, Malformed> {
        let (partition, epoch) = (lease.partition(), lease.epoch());
        let event = match source {
            Source::Login => {
                let (entry, process) = login_record::read(delivered, partition, self.partitions, epoch)?;
                Event::Record { epoch, entry, handle: Handle::new(delivered.acker(), process, place) }
            }
            Source::Late(kind) => {
                let (entry, process) = late_record::read(delivered, partition, self.partitions, epoch)?;
                let handle = Handle::new(delivered.acker(), process, place);
                Event::Late { kind, epoch, at: delivered.sequence, behind: delivered.pending, entry, handle }
            }
        };
        Ok(Some(event))
    }

    /// Nobody will ever read it: a dead letter, and the partition goes on.
    async fn reject(
        &self,
        source: Source,
        delivered: Delivered,
        malformed: &Malformed,
        lease: &Lease,
    ) -> Option<Event<Handle>> {
        let (partition, epoch) = (lease.partition(), lease.epoch());
        let (at, behind) = (delivered.sequence, delivered.pending);
        tracing::warn!(%partition, sequence = at, error = %malformed, "a message is no record: dead letter");
        self.metrics.malformed.increment(1);
        let verdict = Verdict::Reject { reason: DeadReason::Malformed, detail: malformed.to_string() };
        self.bus.settle(delivered, verdict, &self.service, partition).await;
        match source {
            Source::Login => None,
            Source::Late(kind) => Some(Event::LatePassed { kind, partition, epoch, at, behind }),
        }
    }

    /// Lets what is on its way come to an end.
    async fn close(&self, lease: &Lease, noticed: oneshot::Receiver<Notice>) -> End {
        let (partition, epoch) = (lease.partition(), lease.epoch());
        self.say(Event::Closing { partition, epoch }).await;
        tokio::select! {
            biased;
            () = lease.lost() => End::Lost,
            notice = noticed => match notice {
                Ok(Notice::Fenced) => End::Fenced,
                Ok(Notice::Closed) | Err(_) => End::Released,
            },
            // What is unfinished is in LOGIN and LATE, for the next owner.
            () = tokio::time::sleep(self.config.handover_max) => {
                tracing::warn!(%partition, "handed over with records unfinished");
                End::Released
            }
        }
    }

    async fn say(&self, event: Event<Handle>) {
        // Closed: the service is going, and what is said to it no longer matters.
        let _ = self.gatherer.send(Input::Event(event)).await;
    }
}
