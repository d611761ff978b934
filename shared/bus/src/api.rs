//! The JetStream API over our own reply inbox: names, requests, errors.

use std::time::Duration;

use async_nats::{HeaderMap, StatusCode};
use bytes::Bytes;
use pushmesh_protocol::name::{Bucket, Consumer, Stream};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::{Bus, replies::Lost, suspicion::Answered};

/// Requests of take-overs that the API works at for one connection: a fair queue is behind them.
///
/// The server serves a connection's requests one after the other, and whatever else comes over it waits meanwhile. A burst
/// (64 partitions that are taken at once) would time out in that queue, be said again, and make it longer: with a few at
/// a time the server is as busy, each is answered soon, and what nobody waits for any more is never said.
pub(crate) const AT_ONCE: usize = 4;

/// Subjects of the JetStream API.
pub(crate) mod subject {
    use super::*;

    pub(crate) fn stream_info(stream: &Stream) -> String {
        format!("$JS.API.STREAM.INFO.{stream}")
    }
    pub(crate) fn stream_create(stream: &Stream) -> String {
        format!("$JS.API.STREAM.CREATE.{stream}")
    }
    pub(crate) fn stream_message(stream: &Stream) -> String {
        format!("$JS.API.STREAM.MSG.GET.{stream}")
    }
    pub(crate) fn direct_last(stream: &Stream, subject: &str) -> String {
        format!("$JS.API.DIRECT.GET.{stream}.{subject}")
    }
    pub(crate) fn direct_get(stream: &Stream) -> String {
        format!("$JS.API.DIRECT.GET.{stream}")
    }
    pub(crate) fn consumer_create(stream: &Stream, consumer: &str, filter: &str) -> String {
        format!("$JS.API.CONSUMER.CREATE.{stream}.{consumer}.{filter}")
    }
    pub(crate) fn consumer_info(stream: &Stream, consumer: &str) -> String {
        format!("$JS.API.CONSUMER.INFO.{stream}.{consumer}")
    }
    pub(crate) fn consumer_list(stream: &Stream) -> String {
        format!("$JS.API.CONSUMER.LIST.{stream}")
    }
    pub(crate) fn consumer_delete(stream: &Stream, consumer: &str) -> String {
        format!("$JS.API.CONSUMER.DELETE.{stream}.{consumer}")
    }
    pub(crate) fn consumer_unpin(stream: &Stream, consumer: &Consumer) -> String {
        format!("$JS.API.CONSUMER.UNPIN.{stream}.{consumer}")
    }
    pub(crate) fn consumer_reset(stream: &Stream, consumer: &Consumer) -> String {
        format!("$JS.API.CONSUMER.RESET.{stream}.{consumer}")
    }
    pub(crate) fn consumer_next(stream: &Stream, consumer: &Consumer) -> String {
        format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}")
    }
    pub(crate) fn keys(bucket: &Bucket, filter: &str) -> String {
        format!("$KV.{bucket}.{filter}")
    }
}

/// Error codes of the JetStream API that decide something here.
pub(crate) mod code {
    pub(crate) const CONSUMER_NOT_FOUND: u64 = 10014;
    pub(crate) const STREAM_NOT_FOUND: u64 = 10059;
    pub(crate) const STREAM_NAME_IN_USE: u64 = 10058;
    pub(crate) const MESSAGE_TOO_LARGE: u64 = 10054;
    pub(crate) const MESSAGE_NOT_FOUND: u64 = 10037;
    pub(crate) const WRONG_LAST_SEQUENCE: u64 = 10071;
    pub(crate) const WRONG_LAST_SEQUENCE_CONSTANT: u64 = 10164;
    /// The stream could not store it: mostly because it is full.
    pub(crate) const STORE_FAILED: u64 = 10077;
    /// Less memory, or storage, is left than a stream's bound.
    pub(crate) const MEMORY_EXCEEDED: u64 = 10028;
    pub(crate) const STORAGE_EXCEEDED: u64 = 10047;
    pub(crate) const CONSUMER_EXISTS: u64 = 10148;
    /// One of the messages of an atomic batch has an id that the stream has already.
    pub(crate) const BATCH_HAS_DUPLICATE: u64 = 10201;
    pub(crate) const BATCH_INCOMPLETE: u64 = 10176;
    pub(crate) const BATCHES_TOO_MANY: u64 = 10210;
    pub(crate) const CONSUMER_NAME_IN_USE: u64 = 10013;
}

/// The server's word on why it did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{description} ({err_code})")]
pub(crate) struct ApiError {
    #[serde(default)]
    pub code: u64,
    #[serde(default)]
    pub err_code: u64,
    #[serde(default)]
    pub description: String,
}

impl ApiError {
    /// Passes by itself: no leader, an election, a server that is still starting.
    pub(crate) fn is_passing(&self) -> bool {
        // 503 is also the code of a full stream, which does not pass by itself.
        match self.err_code {
            // Cluster incomplete, no peers, not active, not assigned, not available, not leader; insufficient resources;
            // raft; stream or consumer offline; this very message id is still on its way to the replicas; expected sequence
            // not ready; too many requests; member change.
            10004..=10009 | 10023 | 10041 | 10118 | 10119 | 10158 | 10163 | 10167 | 10202 => true,
            code::STORE_FAILED => !self.is_full(),
            _ => self.code == 503 && !self.is_full(),
        }
    }

    /// The stream, or the storage the server may use, is full.
    pub(crate) fn is_full(&self) -> bool {
        match self.err_code {
            // Account, storage and memory resources exceeded.
            10002 | 10028 | 10047 => true,
            code::STORE_FAILED => self.description.contains("maximum") || self.description.contains("exceeded"),
            _ => false,
        }
    }
}

/// Why an API request brought no result.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Api(#[from] ApiError),
    /// Nobody answers for it: no such stream, or its leader is away.
    #[error("no responders")]
    NoResponders,
    #[error("no answer in time")]
    Timeout,
    #[error("NATS is away")]
    Lost,
    #[error("unreadable answer: {0}")]
    Unreadable(String),
}

impl CallError {
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Api(error) => error.is_passing(),
            Self::NoResponders | Self::Timeout | Self::Lost => true,
            Self::Unreadable(_) => false,
        }
    }

    pub(crate) fn has_code(&self, code: u64) -> bool {
        matches!(self, Self::Api(error) if error.err_code == code)
    }
}

#[derive(Deserialize)]
struct Envelope {
    error: Option<ApiError>,
}

/// Reads an API answer: its error, or itself.
pub(crate) fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T, CallError> {
    let unreadable = |error: serde_json::Error| CallError::Unreadable(error.to_string());
    if let Some(error) = serde_json::from_slice::<Envelope>(payload).map_err(unreadable)?.error {
        return Err(CallError::Api(error));
    }
    serde_json::from_slice(payload).map_err(unreadable)
}

impl Bus {
    /// One try of a JetStream request or publish, within `timeout`.
    pub(crate) async fn ask(
        &self,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<async_nats::Message, CallError> {
        // Queued now, it would be said after the reconnect, when nobody waits for its answer any more.
        if !self.inner.health.borrow().connected {
            return Err(CallError::Lost);
        }
        let asked = Instant::now();
        let mut waiting = self.inner.replies.expect();
        let reply = waiting.subject().as_str().to_owned();
        let client = &self.inner.client;
        let answer = async {
            let said = match headers {
                Some(headers) => {
                    client.publish_with_reply_and_headers(subject.to_owned(), reply, headers, payload).await
                }
                None => client.publish_with_reply(subject.to_owned(), reply, payload).await,
            };
            said.map_err(|_| Lost)?;
            waiting.answer().await
        };
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(message)) if message.status == Some(StatusCode::NO_RESPONDERS) => Err(CallError::NoResponders),
            Ok(Ok(message)) => {
                self.note_answer(Answered::Yes);
                Ok(message)
            }
            Ok(Err(Lost)) => Err(CallError::Lost),
            Err(_) => {
                self.note_answer(Answered::No { asked });
                Err(CallError::Timeout)
            }
        }
    }

    /// An API request with a JSON answer, tried again until `deadline` while its failures pass by themselves.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        subject: &str,
        payload: impl Into<Bytes>,
        deadline: Instant,
    ) -> Result<T, CallError> {
        let payload = payload.into();
        let mut tries = Tries::until(deadline);
        loop {
            let timeout = tries.this_try(self.api_timeout());
            match self.call_once(subject, payload.clone(), timeout).await {
                Err(error) if error.is_passing() && tries.again(self).await => {}
                outcome => return outcome,
            }
        }
    }

    /// Like [`call`](Self::call), for what a partition's take-over asks: each try waits for its turn ([`AT_ONCE`]), and `say`
    /// is asked for the payload when that has come.
    pub(crate) async fn call_in_turn<T: DeserializeOwned>(
        &self,
        subject: &str,
        say: impl Fn() -> Bytes,
        deadline: Instant,
    ) -> Result<T, CallError> {
        let (inner, mut tries) = (&self.inner, Tries::until(deadline));
        loop {
            let waiting = Instant::now();
            let turn = tokio::time::timeout_at(deadline.max(waiting), inner.api_turns.acquire()).await;
            let turn = turn.map_err(|_| CallError::Timeout)?.expect("never closed");
            inner.metrics.api_wait_seconds.record(waiting.elapsed().as_secs_f64());
            let (asked, timeout) = (Instant::now(), tries.this_try(self.api_timeout()));
            let outcome = self.call_once(subject, say(), timeout).await;
            drop(turn);
            inner.metrics.api_seconds.record(asked.elapsed().as_secs_f64());
            match outcome {
                Err(error) if error.is_passing() && tries.again(self).await => {}
                outcome => return outcome,
            }
        }
    }

    async fn call_once<T: DeserializeOwned>(
        &self,
        subject: &str,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<T, CallError> {
        read(&self.ask(subject, None, payload, timeout).await?.payload)
    }

    fn api_timeout(&self) -> Duration {
        self.inner.config.ack_timeout.max(Duration::from_secs(2))
    }
}

/// Tries until a deadline, with pauses; while disconnected it waits for the connection instead.
pub(crate) struct Tries {
    deadline: Instant,
    backoff: crate::backoff::Backoff,
}

impl Tries {
    pub(crate) fn until(deadline: Instant) -> Self {
        Self { deadline, backoff: crate::backoff::Backoff::new(Duration::from_millis(500)) }
    }

    /// How long the try that begins now may take. The last one gets time enough to be answered.
    pub(crate) fn this_try(&self, longest: Duration) -> Duration {
        longest.min(self.deadline.saturating_duration_since(Instant::now())).max(Duration::from_millis(250))
    }

    /// Pauses; `false` when the deadline has passed.
    pub(crate) async fn again(&mut self, bus: &Bus) -> bool {
        let mut health = bus.health();
        if !health.borrow().connected {
            let connected = health.wait_for(|health| health.connected || health.closed);
            match tokio::time::timeout_at(self.deadline, connected).await {
                Ok(Ok(health)) if !health.closed => self.backoff.reset(),
                _ => return false,
            }
        }
        tokio::time::sleep_until((Instant::now() + self.backoff.pause()).min(self.deadline)).await;
        Instant::now() < self.deadline
    }
}

/// An error with its sources, for people.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// A position in a consumer, in the words of the API.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(crate) struct SequencePair {
    #[serde(default)]
    pub consumer_seq: u64,
    #[serde(default)]
    pub stream_seq: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_stream_does_not_pass_by_itself_and_an_election_does() {
        let error =
            |code, err_code, description: &str| ApiError { code, err_code, description: description.to_owned() };
        for full in ["maximum bytes exceeded", "maximum messages exceeded"] {
            let full = error(503, code::STORE_FAILED, full);
            assert!(full.is_full() && !full.is_passing());
        }
        for passing in [
            error(503, 10008, "JetStream system temporarily unavailable"),
            error(503, 0, "raft: not leader"),
            error(409, 10158, "duplicate message id is in process"),
            error(503, code::STORE_FAILED, "store closed"),
        ] {
            assert!(passing.is_passing() && !passing.is_full(), "{passing}");
        }
        assert!(!error(400, code::WRONG_LAST_SEQUENCE, "wrong last sequence: 5").is_passing());
    }

    #[test]
    fn an_answer_is_its_error_or_itself() {
        let refused =
            read::<SequencePair>(br#"{"error":{"code":404,"err_code":10059,"description":"stream not found"}}"#);
        assert!(refused.unwrap_err().has_code(code::STREAM_NOT_FOUND));
        assert_eq!(read::<SequencePair>(br#"{"stream_seq":7,"more":1}"#).unwrap().stream_seq, 7);
        assert!(matches!(read::<SequencePair>(b"nonsense"), Err(CallError::Unreadable(_))));
    }
}
