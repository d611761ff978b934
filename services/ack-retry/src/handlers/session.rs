//! A key of the bucket `sess`.

use pushmesh_bus::KvEvent;
use pushmesh_protocol::{name::parse, wire};

use crate::desk::Event;

/// What a change of a key means; `None` for keys that are no session.
pub fn read(event: KvEvent) -> Option<Event> {
    match event {
        KvEvent::Put(entry) => {
            let (_, user, conn) = parse::session(&entry.key)?;
            let session = wire::decode(&entry.value)
                .inspect_err(|error| tracing::error!(key = entry.key, %error, "a session can't be read"))
                .ok()?;
            Some(Event::Session { user, conn, session, revision: entry.revision })
        }
        KvEvent::Gone { key, .. } => {
            let (_, user, conn) = parse::session(&key)?;
            Some(Event::SessionGone { user, conn })
        }
        KvEvent::Current => Some(Event::SessionsCurrent),
        KvEvent::Restarted => Some(Event::SessionsRestarted),
    }
}
