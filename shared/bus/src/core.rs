//! Core NATS: publish, request, subscribe. At most once; what must not be lost goes through [`crate::store`].

use std::time::Duration;

use async_nats::{HeaderMap, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use pushmesh_protocol::{
    TraceContext,
    name::{Filter, QueueGroup, Subject, header},
};

use crate::{Bus, replies::Lost};

/// Why a core publish was not queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("the message has {bytes} bytes; the server's limit is {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("NATS is away and the connection's queue is full")]
    Disconnected,
}

/// Why there is no answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("nobody listens")]
    NoResponders,
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The request may have been received.
    #[error("NATS is away")]
    Disconnected,
    #[error("the request has {bytes} bytes; the server's limit is {limit}")]
    TooLarge { bytes: usize, limit: usize },
}

/// Why there is no subscription.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    #[error("the connection is closed")]
    Closed,
    #[error("NATS is away and the connection's queue is full")]
    Disconnected,
}

/// A received message.
#[derive(Debug, Clone)]
pub struct Message {
    pub subject: String,
    pub payload: Bytes,
    /// Set on requests.
    pub reply: Option<Reply>,
    pub trace: Option<TraceContext>,
}

/// Where an answer goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply(async_nats::Subject);

/// A subscription: survives reconnects, ends with the connection; dropping it unsubscribes.
pub struct Subscription {
    subscriber: Subscriber,
}

impl Bus {
    /// Queues a message on the connection: at most once. Waits at most `publish_wait` for a place.
    pub async fn publish(&self, subject: Subject, payload: Bytes) -> Result<(), PublishError> {
        self.fits(payload.len()).map_err(|(bytes, limit)| PublishError::TooLarge { bytes, limit })?;
        let publish = self.inner.client.publish(subject.as_str().to_owned(), payload);
        match tokio::time::timeout(self.inner.config.publish_wait, publish).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(PublishError::Disconnected),
        }
    }

    /// Asks and awaits one answer. Nothing is left behind whatever happens, and nothing is said twice.
    pub async fn request(&self, subject: Subject, payload: Bytes, timeout: Duration) -> Result<Bytes, RequestError> {
        self.fits(payload.len()).map_err(|(bytes, limit)| RequestError::TooLarge { bytes, limit })?;
        if !self.inner.health.borrow().connected {
            return Err(RequestError::Disconnected);
        }
        let mut waiting = self.inner.replies.expect();
        let answer = async {
            let reply = waiting.subject();
            self.inner
                .client
                .publish_with_reply(subject.as_str().to_owned(), reply.as_str().to_owned(), payload)
                .await
                .map_err(|_| Lost)?;
            waiting.answer().await
        };
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(message)) if message.status == Some(StatusCode::NO_RESPONDERS) => Err(RequestError::NoResponders),
            Ok(Ok(message)) => Ok(message.payload),
            Ok(Err(Lost)) => Err(RequestError::Disconnected),
            Err(_) => Err(RequestError::Timeout(timeout)),
        }
    }

    /// Subscribes; when it returns, the server knows.
    pub async fn subscribe(&self, filter: Filter) -> Result<Subscription, SubscribeError> {
        let subscribe = self.inner.client.subscribe(filter.as_str().to_owned());
        let subscriber = self.in_time(subscribe).await?;
        self.barrier().await;
        Ok(Subscription { subscriber })
    }

    /// Subscribes as one of a group: each message goes to one member.
    pub async fn subscribe_group(&self, filter: Filter, group: QueueGroup) -> Result<Subscription, SubscribeError> {
        let subscribe = self.inner.client.queue_subscribe(filter.as_str().to_owned(), group.as_str().to_owned());
        let subscriber = self.in_time(subscribe).await?;
        self.barrier().await;
        Ok(Subscription { subscriber })
    }

    pub async fn reply(&self, reply: Reply, payload: Bytes) -> Result<(), PublishError> {
        self.fits(payload.len()).map_err(|(bytes, limit)| PublishError::TooLarge { bytes, limit })?;
        match tokio::time::timeout(self.inner.config.publish_wait, self.inner.client.publish(reply.0, payload)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(PublishError::Disconnected),
        }
    }

    pub(crate) fn fits(&self, bytes: usize) -> Result<(), (usize, usize)> {
        let limit = self.inner.client.max_payload();
        if bytes > limit { Err((bytes, limit)) } else { Ok(()) }
    }

    /// A message to ourselves: when it is back, the server has seen all that this connection said before. (A flush only
    /// empties the socket's buffer.) Gives up after 1 s: after a reconnect everything is subscribed anyway.
    async fn barrier(&self) {
        let mut waiting = self.inner.replies.expect();
        let subject = waiting.subject();
        let around = async {
            if self.inner.client.publish(subject.as_str().to_owned(), Bytes::new()).await.is_ok() {
                let _ = waiting.answer().await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), around).await;
    }

    async fn in_time<E>(
        &self,
        subscribe: impl Future<Output = Result<Subscriber, E>>,
    ) -> Result<Subscriber, SubscribeError> {
        match tokio::time::timeout(self.inner.config.publish_wait, subscribe).await {
            Ok(Ok(subscriber)) => Ok(subscriber),
            Ok(Err(_)) => Err(SubscribeError::Closed),
            Err(_) => Err(SubscribeError::Disconnected),
        }
    }
}

impl Subscription {
    /// The next message; `None` once the connection is closed. Cancel safe.
    pub async fn next(&mut self) -> Option<Message> {
        self.subscriber.next().await.map(Message::from)
    }

    /// A message that is already here.
    pub fn try_next(&mut self) -> Option<Message> {
        self.subscriber.next().now_or_never().flatten().map(Message::from)
    }
}

impl From<async_nats::Message> for Message {
    fn from(message: async_nats::Message) -> Self {
        Self {
            trace: trace_of(message.headers.as_ref()),
            subject: message.subject.into_string(),
            payload: message.payload,
            reply: message.reply.map(Reply),
        }
    }
}

pub(crate) fn trace_of(headers: Option<&HeaderMap>) -> Option<TraceContext> {
    headers?.get(header::TRACEPARENT)?.as_str().parse().ok()
}
