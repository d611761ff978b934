//! Publishing several messages so that their order in the stream is their order here, whatever happens in between.

use std::time::Duration;

use async_nats::{HeaderMap, StatusCode};
use bytes::Bytes;
use tokio::time::Instant;

use super::PubAck;
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
    /// Publishes all, one behind the other, and awaits their acks together; what failed and passes by itself is said again,
    /// in order, until `deadline`. Holds no place in the window: the caller does.
    pub(crate) async fn publish_group(&self, group: &[Publish], deadline: Instant) -> Vec<Result<PubAck, CallError>> {
        let mut outcomes: Vec<Result<PubAck, CallError>> = group.iter().map(|_| Err(CallError::Lost)).collect();
        let mut tries = Tries::until(deadline);
        let mut open: Vec<usize> = (0..group.len()).collect();
        loop {
            let timeout = tries.this_try(self.inner.config.ack_timeout);
            self.publish_round(group, &open, timeout, &mut outcomes).await;
            open.retain(|index| matches!(&outcomes[*index], Err(error) if error.is_passing()));
            if open.is_empty() || !tries.again(self).await {
                return outcomes;
            }
            self.inner.metrics.store_retries.increment(open.len() as u64);
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
                // The rest is not said at all: it would overtake this one.
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
