//! Publishing several messages so that those of one subject stand in the stream in their order here, whatever happens in
//! between.

use std::time::Duration;

use async_nats::{HeaderMap, StatusCode};
use bytes::Bytes;
use tokio::time::Instant;

use super::{PubAck, lineup::Lineup};
use crate::{
    Bus,
    api::{self, CallError, Tries},
    replies::Waiting,
    suspicion::Answered,
};

/// A JetStream publish, as it goes on the wire.
pub(crate) struct Publish {
    pub subject: String,
    pub headers: HeaderMap,
    pub payload: Bytes,
}

impl Bus {
    /// Publishes all and awaits their acks together; what failed and passes by itself is said again until `deadline`. A
    /// message is said once the one of its subject before it is stored, or never will be: whatever comes between, a user's
    /// messages keep their order, and one that is not stored has nothing of its subject behind it in the stream.
    ///
    /// Holds no place in the window: the caller does.
    pub(crate) async fn publish_group(&self, group: &[Publish], deadline: Instant) -> Vec<Result<PubAck, CallError>> {
        let mut outcomes: Vec<Result<PubAck, CallError>> = group.iter().map(|_| Err(CallError::Lost)).collect();
        let mut lineup = Lineup::new(group.iter().map(|publish| publish.subject.as_str()));
        let mut tries = Tries::until(deadline);
        loop {
            let round = lineup.first_of_each();
            if round.is_empty() {
                return outcomes;
            }
            let timeout = tries.this_try(self.inner.config.ack_timeout);
            self.publish_round(group, &round, timeout, &mut outcomes).await;
            let mut again = 0;
            for index in round {
                match &outcomes[index] {
                    Ok(_) => lineup.done(index),
                    Err(error) if error.is_passing() => again += 1,
                    Err(CallError::Api(error)) if error.is_full() => {
                        // It will be said again when there is room: what stands behind it would overtake it.
                        let error = CallError::Api(error.clone());
                        lineup.close(index).for_each(|behind| outcomes[behind] = Err(error.clone()));
                    }
                    Err(_) => lineup.done(index),
                }
            }
            if again > 0 {
                if !tries.again(self).await {
                    return outcomes;
                }
                self.inner.metrics.store_retries.increment(again);
            } else if Instant::now() >= deadline {
                return outcomes;
            }
        }
    }

    async fn publish_round(
        &self,
        group: &[Publish],
        open: &[usize],
        timeout: Duration,
        outcomes: &mut [Result<PubAck, CallError>],
    ) {
        for index in open {
            outcomes[*index] = Err(CallError::Lost);
        }
        if !self.inner.health.borrow().connected {
            return;
        }
        let asked = Instant::now();
        let until = asked + timeout;
        let mut said = Vec::with_capacity(open.len());
        for index in open {
            match tokio::time::timeout_at(until, self.say(&group[*index])).await {
                Ok(Ok(waiting)) => said.push((*index, waiting)),
                // The connection is gone, or takes nothing: the rest would wait as long.
                Ok(Err(_)) | Err(_) => break,
            }
        }
        let (mut answered, mut silent) = (false, false);
        for (index, mut waiting) in said {
            outcomes[index] = match tokio::time::timeout_at(until, waiting.answer()).await {
                Ok(Ok(message)) if message.status == Some(StatusCode::NO_RESPONDERS) => Err(CallError::NoResponders),
                Ok(Ok(message)) => {
                    answered = true;
                    api::read(&message.payload)
                }
                Ok(Err(_)) => Err(CallError::Lost),
                Err(_) => {
                    silent = true;
                    Err(CallError::Timeout)
                }
            };
        }
        if answered {
            self.note_answer(Answered::Yes);
        } else if silent {
            self.note_answer(Answered::No { asked });
        }
    }

    async fn say(&self, publish: &Publish) -> Result<Waiting, CallError> {
        let waiting = self.inner.replies.expect();
        let Publish { subject, headers, payload } = publish;
        self.inner
            .client
            .publish_with_reply_and_headers(
                subject.clone(),
                waiting.subject().as_str().to_owned(),
                headers.clone(),
                payload.clone(),
            )
            .await
            .map_err(|_| CallError::Lost)?;
        Ok(waiting)
    }
}
