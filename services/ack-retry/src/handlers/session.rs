//! A key of the bucket `sess`: a session, or what became of its login.

use pushmesh_bus::{Entry, KvEvent};
use pushmesh_protocol::{name::parse, wire};

use crate::desk::Event;

/// What a change of a key means; `None` for keys that are neither.
pub fn read(event: KvEvent) -> Option<Event> {
    match event {
        KvEvent::Put(entry) => put(entry),
        KvEvent::Gone { key, revision, .. } => gone(&key, revision),
        KvEvent::Current => Some(Event::SessionsCurrent),
        KvEvent::Restarted => Some(Event::SessionsRestarted),
    }
}

fn put(entry: Entry) -> Option<Event> {
    let Entry { key, value, revision, .. } = entry;
    let event = if let Some((_, user, conn)) = parse::session(&key) {
        wire::decode(&value).map(|session| Event::Session { user, conn, session, revision })
    } else {
        let (_, user, conn) = parse::session_login(&key)?;
        wire::decode(&value).map(|login| Event::LoginStands { user, conn, login, revision })
    };
    event.inspect_err(|error| tracing::error!(key, %error, "a session can't be read")).ok()
}

fn gone(key: &str, revision: u64) -> Option<Event> {
    if let Some((_, user, conn)) = parse::session(key) {
        return Some(Event::SessionGone { user, conn });
    }
    let (_, user, conn) = parse::session_login(key)?;
    Some(Event::LoginGone { user, conn, revision })
}
