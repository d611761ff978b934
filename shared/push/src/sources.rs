//! What a partition's owner listens to, opened together, and read back into what a desk understands.

use bytes::Bytes;
use pushmesh_bus::{Entry, KvEvent, KvWatch, StreamEvent, StreamWatch, Subscription};
use pushmesh_protocol::{
    Partition, UserId,
    message::{Membership, Session, SessionLogin},
    name::{Filter, KeyFilter, Stream, Subject, parse},
    wire,
};

use crate::{
    desk::{MemberNews, SessionNews},
    engine::Shared,
    metrics::Metrics,
    patience::until_done,
};

/// Of one partition, while it is owned.
pub(crate) struct Sources {
    pub(crate) sessions: KvWatch,
    pub(crate) directory: StreamWatch,
    /// Clients' CALLS questions.
    pub(crate) questions: Subscription,
}

impl Sources {
    /// Tries again over an outage. Dropping it gives up.
    pub(crate) async fn open(shared: &Shared, partition: Partition) -> Self {
        let (bus, kind) = (&shared.bus, shared.kind.kind());
        let (stream, members) = (Stream::directory(kind), Filter::directory_of(kind, partition));
        let sessions = until_done("watch of sessions", || shared.sessions.watch(KeyFilter::of_partition(partition)));
        let directory = until_done("watch of a directory", || bus.watch_stream(&stream, members.clone()));
        let questions = until_done("subscription to CALLS questions", || {
            bus.subscribe(Filter::from(Subject::calls(kind, partition)))
        });
        let (sessions, directory, questions) = tokio::join!(sessions, directory, questions);
        Self { sessions, directory, questions }
    }
}

/// `None` for what nobody can read: counted and skipped.
pub(crate) fn session_news(event: KvEvent, metrics: &Metrics) -> Option<SessionNews> {
    let news = match event {
        KvEvent::Put(Entry { key, value, .. }) => session_put(&key, &value).ok_or(key),
        KvEvent::Gone { key, .. } => session_gone(&key).ok_or(key),
        KvEvent::Current => Ok(SessionNews::Current),
        KvEvent::Restarted => Ok(SessionNews::Restarted),
    };
    news.inspect_err(|key| {
        metrics.malformed_sessions.increment(1);
        tracing::warn!(key, "a session that nobody can read is skipped");
    })
    .ok()
}

fn session_put(key: &str, value: &Bytes) -> Option<SessionNews> {
    if let Some((_, user, conn)) = parse::session(key) {
        return Some(SessionNews::Put { user, conn, session: wire::decode::<Session>(value).ok()? });
    }
    let (_, user, conn) = parse::session_login(key)?;
    Some(SessionNews::Stands { user, conn, login: wire::decode::<SessionLogin>(value).ok()? })
}

fn session_gone(key: &str) -> Option<SessionNews> {
    if let Some((_, user, conn)) = parse::session(key) {
        return Some(SessionNews::Gone { user, conn });
    }
    parse::session_login(key).map(|(_, user, conn)| SessionNews::StandsNoMore { user, conn })
}

/// `None` for what nobody can read: counted and skipped.
pub(crate) fn member_news(event: StreamEvent, metrics: &Metrics) -> Option<MemberNews> {
    let (subject, payload) = match event {
        StreamEvent::CaughtUp => return Some(MemberNews::Current),
        StreamEvent::Restarted => return Some(MemberNews::Restarted),
        StreamEvent::Message { subject, payload, .. } => (subject, payload),
    };
    let news = membership(&subject, &payload);
    if news.is_none() {
        metrics.malformed_memberships.increment(1);
        tracing::warn!(subject, "a membership that nobody can read is skipped");
    }
    news
}

fn membership(subject: &str, payload: &Bytes) -> Option<MemberNews> {
    let (_, _, user, unit): (_, _, UserId, _) = parse::directory(subject)?;
    if payload.is_empty() {
        return Some(MemberNews::Left { user, unit });
    }
    let Membership { at, .. } = wire::decode(payload).ok()?;
    Some(MemberNews::Joined { user, unit, at })
}
