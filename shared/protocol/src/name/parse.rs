//! Parsers of the names that a service reads back.

use crate::{
    id::{ConnId, Instance, Kind, PushId, RoomId, Token, Unit, UserId},
    message::Epoch,
    partition::Partition,
};

fn partition(text: &str) -> Option<Partition> {
    text.parse().ok().map(Partition)
}

/// `<p>.<user>.<conn>`; `None` for the bucket's other keys.
pub fn session(key: &str) -> Option<(Partition, UserId, ConnId)> {
    let mut parts = key.split('.');
    let found = (partition(parts.next()?)?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(found)
}

/// `<p>.<user>.<conn>.login`.
pub fn session_login(key: &str) -> Option<(Partition, UserId, ConnId)> {
    session(key.strip_suffix(".login")?)
}

/// `<p>.<user>.<push>`.
pub fn pending(key: &str) -> Option<(Partition, UserId, PushId)> {
    let mut parts = key.split('.');
    let found = (partition(parts.next()?)?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(found)
}

/// `m.<service>.<instance>`.
pub fn member(key: &str) -> Option<(Token, Instance)> {
    let (service, instance) = key.strip_prefix("m.")?.split_once('.')?;
    Some((service.parse().ok()?, instance.parse().ok()?))
}

/// `o.<service>.<p>`.
pub fn lease(key: &str) -> Option<(Token, Partition)> {
    let (service, number) = key.strip_prefix("o.")?.split_once('.')?;
    Some((service.parse().ok()?, partition(number)?))
}

pub fn heartbeat(subject: &str) -> Option<(Token, Instance)> {
    let (service, instance) = subject.strip_prefix("pm.v1.hb.")?.split_once('.')?;
    Some((service.parse().ok()?, instance.parse().ok()?))
}

pub fn directory(subject: &str) -> Option<(Kind, Partition, UserId, Unit)> {
    let mut parts = subject.strip_prefix("pm.v1.dir.")?.splitn(4, '.');
    let (kind, p, user) = (parts.next()?.parse().ok()?, partition(parts.next()?)?, parts.next()?.parse().ok()?);
    Some((kind, p, user, Unit::from_levels(parts.next()?.split('.')).ok()?))
}

/// `pm.v1.room.<class>.<what>.<p>.<room>…`: the room of a message in ROOM_HIGH, ROOM_NORMAL or ROOM_LOW.
pub fn room(subject: &str) -> Option<(Partition, RoomId)> {
    let mut parts = subject.strip_prefix("pm.v1.room.")?.split('.').skip(2);
    Some((partition(parts.next()?)?, parts.next()?.parse().ok()?))
}

/// `pm.v1.room.low.likes.<p>.<room>.<api>.<life>`.
pub fn likes(subject: &str) -> Option<(Partition, RoomId, Instance, Epoch)> {
    let mut parts = subject.strip_prefix("pm.v1.room.low.likes.")?.split('.');
    let found = (
        partition(parts.next()?)?,
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
        parts.next()?.parse().ok()?,
    );
    parts.next().is_none().then_some(found)
}

/// `r.<p>.<room>`.
pub fn room_snapshot(key: &str) -> Option<(Partition, RoomId)> {
    let (p, room) = key.strip_prefix("r.")?.split_once('.')?;
    Some((partition(p)?, room.parse().ok()?))
}

/// `u.<p>.<room>.<user>`.
pub fn ledger_row(key: &str) -> Option<(Partition, RoomId, UserId)> {
    let mut parts = key.strip_prefix("u.")?.split('.');
    let found = (partition(parts.next()?)?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(found)
}

/// `state.<room>`.
pub fn room_state(key: &str) -> Option<RoomId> {
    key.strip_prefix("state.")?.parse().ok()
}

/// `role.<room>.<user>`.
pub fn room_role(key: &str) -> Option<(RoomId, UserId)> {
    let (room, user) = key.strip_prefix("role.")?.split_once('.')?;
    Some((room.parse().ok()?, user.parse().ok()?))
}

/// `all.<user>` (no room) or `in.<room>.<user>`.
pub fn mute(key: &str) -> Option<(Option<RoomId>, UserId)> {
    if let Some(user) = key.strip_prefix("all.") {
        return Some((None, user.parse().ok()?));
    }
    let (room, user) = key.strip_prefix("in.")?.split_once('.')?;
    Some((Some(room.parse().ok()?), user.parse().ok()?))
}

/// `pm.v1.comet.status.<comet>`.
pub fn comet_status(subject: &str) -> Option<Instance> {
    subject.strip_prefix("pm.v1.comet.status.")?.parse().ok()
}

/// The user of a LOGIN, LATE or PUSH subject: its last token.
pub fn user(subject: &str) -> Option<UserId> {
    subject.rsplit('.').next()?.parse().ok()
}
