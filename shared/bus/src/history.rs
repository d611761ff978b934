//! [`History`]: what a stream holds of a subject, read straight from it.
//!
//! A direct get of many (ADR-31): the server answers one request with the messages and an end, each message telling how
//! many come behind it. No consumer is made. Where the stream is replicated any of its servers may answer, so that the
//! end may be a moment old: who knows the last sequence that must be there compares.

use async_nats::{HeaderMap, StatusCode};
use futures_util::StreamExt;
use pushmesh_protocol::name::{Filter, Stream};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    Bus, ConsumeError, StreamMessage,
    api::{ApiError, CallError, Tries, subject},
    core::trace_of,
    kv::{is_marker, time::rfc3339},
    suspicion::Answered,
};

/// Most messages of one request: the server takes 1,024 and answers in one go.
pub(crate) const REQUEST_MAX: usize = 500;
const NO_CONTENT: u16 = 204;

/// Some messages of a subject, in stream order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    pub messages: Vec<StreamMessage>,
    /// Messages of the subject behind the last of these.
    pub pending: u64,
}

/// One request's answer.
pub(crate) struct Part {
    pub messages: Vec<PartMessage>,
    pub pending: u64,
}

pub(crate) struct PartMessage {
    pub message: StreamMessage,
    /// In a bucket: it tells that its key is gone.
    pub is_marker: bool,
}

impl Bus {
    /// The messages of `filter` behind the sequence `after`: at most `limit`, and no more than `max_bytes` of payload, but
    /// for one that alone is longer. Tried for `nats.kv_timeout`.
    pub async fn read_history(
        &self,
        stream: &Stream,
        filter: Filter,
        after: u64,
        limit: usize,
        max_bytes: usize,
    ) -> Result<History, ConsumeError> {
        let deadline = Instant::now() + self.inner.config.kv_timeout;
        let mut history = History::default();
        let (mut after, mut bytes) = (after, 0);
        while history.messages.len() < limit && (bytes < max_bytes || history.messages.is_empty()) {
            let batch = (limit - history.messages.len()).min(REQUEST_MAX);
            let part = self.history_part(stream, filter.as_str(), after, batch, max_bytes - bytes, deadline).await;
            let part = part.map_err(|error| ConsumeError::of(error, || format!("stream {stream}")))?;
            history.pending = part.pending;
            let Some(last) = part.messages.last() else { break };
            after = last.message.sequence;
            let mut left = part.messages.len() as u64;
            for PartMessage { message, .. } in part.messages {
                bytes += message.payload.len();
                if bytes > max_bytes && !history.messages.is_empty() {
                    history.pending += left;
                    return Ok(history);
                }
                history.messages.push(message);
                left -= 1;
            }
            if history.pending == 0 {
                break;
            }
        }
        Ok(history)
    }

    /// What one request brings: at most `batch` messages, at least one where there is one.
    pub(crate) async fn history_part(
        &self,
        stream: &Stream,
        filter: &str,
        after: u64,
        batch: usize,
        max_bytes: usize,
        deadline: Instant,
    ) -> Result<Part, CallError> {
        let request = json!({
            "seq": after.saturating_add(1),
            "next_by_subj": filter,
            "batch": batch,
            // 0 would be the server's own bound.
            "max_bytes": max_bytes.max(1),
        })
        .to_string();
        let mut tries = Tries::until(deadline);
        loop {
            let timeout = tries.this_try(self.inner.config.ack_timeout);
            let asked = Instant::now();
            let once = tokio::time::timeout(timeout, self.history_once(stream, request.clone())).await;
            let error = match once {
                Ok(Ok(part)) => return Ok(part),
                Ok(Err(error)) => error,
                Err(_) => {
                    self.note_answer(Answered::No { asked });
                    CallError::Timeout
                }
            };
            if !error.is_passing() || !tries.again(self).await {
                return Err(error);
            }
        }
    }

    async fn history_once(&self, stream: &Stream, request: String) -> Result<Part, CallError> {
        // Queued now, it would be said after the reconnect.
        if !self.inner.health.borrow().connected {
            return Err(CallError::Lost);
        }
        let client = &self.inner.client;
        let reply = self.inner.replies.own_subject();
        let mut answers = client.subscribe(reply.as_str().to_owned()).await.map_err(|_| CallError::Lost)?;
        let ask = client.publish_with_reply(subject::direct_get(stream), reply.as_str().to_owned(), request.into());
        ask.await.map_err(|_| CallError::Lost)?;
        let mut messages: Vec<PartMessage> = Vec::new();
        while let Some(answer) = answers.next().await {
            let headers = answer.headers.as_ref();
            match answer.status {
                None => messages.push(message(answer)?),
                Some(status) if status.as_u16() == NO_CONTENT => {
                    self.note_answer(Answered::Yes);
                    let last = messages.last().map(|last| last.message.sequence);
                    // One of them was lost on its way, or it is another's end.
                    if number(headers, "Nats-Last-Sequence") != last {
                        return Err(CallError::Lost);
                    }
                    let pending = number(headers, "Nats-Num-Pending").unwrap_or(0);
                    return Ok(Part { messages, pending });
                }
                Some(StatusCode::NOT_FOUND) => {
                    self.note_answer(Answered::Yes);
                    return Ok(Part { messages, pending: 0 });
                }
                Some(StatusCode::NO_RESPONDERS) => return Err(CallError::NoResponders),
                Some(status) => {
                    let description = answer.description.unwrap_or_default();
                    return Err(ApiError { code: status.as_u16().into(), err_code: 0, description }.into());
                }
            }
        }
        Err(CallError::Lost)
    }
}

fn message(answer: async_nats::Message) -> Result<PartMessage, CallError> {
    let headers = answer.headers.as_ref();
    let header = |name: &str| headers.and_then(|headers| headers.get_last(name)).map(|value| value.as_str());
    let unreadable = |what: &str| CallError::Unreadable(format!("a message of a direct get without {what}"));
    let is_marker = headers.is_some_and(is_marker);
    let message = StreamMessage {
        subject: header("Nats-Subject").ok_or_else(|| unreadable("subject"))?.to_owned(),
        sequence: number(headers, "Nats-Sequence").ok_or_else(|| unreadable("sequence"))?,
        at: header("Nats-Time-Stamp").and_then(rfc3339).ok_or_else(|| unreadable("time"))?,
        trace: trace_of(headers),
        payload: answer.payload,
    };
    Ok(PartMessage { message, is_marker })
}

fn number(headers: Option<&HeaderMap>, name: &str) -> Option<u64> {
    headers?.get_last(name)?.as_str().parse().ok()
}
