//! What wakes a partition's task, and where it comes from. Every wait is cancel safe.

use std::future::pending;

use pushmesh_bus::{KvEvent, Message, StoreError, Stored, StreamEvent};
use tokio::sync::{broadcast, mpsc, watch};

use crate::{book::CallNews, partition::StoreRound, router::Part, sources::Sources};

pub(crate) enum Event {
    /// Fenced: stop at once.
    Lost,
    /// Asked to hand over.
    Released,
    Stored(Vec<Result<Stored, StoreError>>),
    Removed(Vec<Result<Stored, StoreError>>),
    Batch(Part),
    Session(KvEvent),
    Member(StreamEvent),
    Call(CallNews),
    /// News of calls were missed.
    CallsMissed,
    CallsCurrent,
    Question(Message),
    /// Members came, went, or are heard again.
    Members,
    /// The connection is closed: the process stops.
    Closed,
    Tick,
}

/// The next event from outside, none of them favoured.
pub(crate) async fn fair(
    sources: &mut Sources,
    parts: &mut mpsc::Receiver<Part>,
    calls: &mut broadcast::Receiver<CallNews>,
    calls_current: &mut watch::Receiver<bool>,
    serving: bool,
    await_calls: bool,
) -> Event {
    tokio::select! {
        Some(part) = parts.recv(), if serving => Event::Batch(part),
        event = sources.sessions.next() => event.map_or(Event::Closed, Event::Session),
        event = sources.directory.next() => event.map_or(Event::Closed, Event::Member),
        news = calls.recv() => match news {
            Ok(news) => Event::Call(news),
            Err(broadcast::error::RecvError::Lagged(_)) => Event::CallsMissed,
            Err(broadcast::error::RecvError::Closed) => Event::Closed,
        },
        known = calls_current.wait_for(|current| *current), if await_calls => match known {
            Ok(_) => Event::CallsCurrent,
            Err(_) => Event::Closed,
        },
        message = sources.questions.next(), if serving => message.map_or(Event::Closed, Event::Question),
    }
}

pub(crate) async fn round(round: Option<&mut StoreRound>) -> Vec<Result<Stored, StoreError>> {
    match round {
        Some(round) => round.await,
        None => pending().await,
    }
}
