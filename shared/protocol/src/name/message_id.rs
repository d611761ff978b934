//! [`MessageId`]: what the streams know a message by.

use crate::{
    gift_key::GiftKey,
    id::{DeviceId, Instance, Kind, LoginId, PushId, RoomId, Token, UserId},
    message::{DeadReason, EndedBy, Epoch, Millis},
};

/// What dedupes a message within a stream's window.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageId(String);

impl MessageId {
    pub fn online(user: &UserId, login: &LoginId) -> Self {
        Self(format!("{user}.{login}.on"))
    }

    pub fn offline(user: &UserId, login: &LoginId) -> Self {
        Self(format!("{user}.{login}.off"))
    }

    /// An `offline` because of a timeout: one that ended nothing, because its user was back, must not hide a later one.
    pub fn timeout(user: &UserId, login: &LoginId, at: Millis) -> Self {
        Self(format!("{user}.{login}.{at}.timeout"))
    }

    /// An `offline` that names no login.
    pub fn offline_all(user: &UserId, device: Option<&DeviceId>, at: Millis) -> Self {
        match device {
            Some(device) => Self(format!("{user}.{device}.{at}.all-off")),
            None => Self(format!("{user}..{at}.all-off")),
        }
    }

    /// A record that was late for a kind: by its sequence in LOGIN.
    pub fn late(sequence: u64) -> Self {
        Self(format!("late.{sequence}"))
    }

    pub fn push(id: PushId) -> Self {
        Self(id.to_string())
    }

    /// The end of a login in one kind; by the record of LOGIN that ended it for good, if one did: an end that a session may
    /// undo must not hide it.
    pub fn login_ended(kind: &Kind, user: &UserId, login: &LoginId, by: Option<&EndedBy>) -> Self {
        match by {
            Some(EndedBy { sequence, .. }) => Self(format!("{kind}.{user}.{login}.{sequence}.ended")),
            None => Self(format!("{kind}.{user}.{login}.ended")),
        }
    }

    /// A change of a directory: the writer's own count of them, in one of its lives. Two changes of one membership
    /// never share an id, one change that is stored again does.
    pub fn directory(writer: &Instance, life: Epoch, number: u64) -> Self {
        Self(format!("dir.{writer}.{life}.{number}"))
    }

    pub fn gift(key: &GiftKey) -> Self {
        Self(format!("gift.{key}"))
    }

    pub fn gift_key(key: &GiftKey) -> Self {
        Self(format!("key.{key}"))
    }

    /// A room message: the sender's own id for it where he named one, else one that was made for it.
    pub fn room(room: &RoomId, from: Option<&UserId>, id: &Token) -> Self {
        match from {
            Some(from) => Self(format!("room.{room}.{from}.{id}")),
            None => Self(format!("room.{room}..{id}")),
        }
    }

    /// A running total of likes.
    pub fn likes(room: &RoomId, api: &Instance, life: Epoch, total: u64) -> Self {
        Self(format!("likes.{room}.{api}.{life}.{total}"))
    }

    /// A level that a user reached in a room.
    pub fn level(room: &RoomId, user: &UserId, level: u32) -> Self {
        Self(format!("level.{room}.{user}.{level}"))
    }

    /// A ranking, by the last gift in it.
    pub fn ranking(room: &RoomId, gift: u64) -> Self {
        Self(format!("ranking.{room}.{gift}"))
    }

    pub fn dead(reason: DeadReason, source: &str) -> Self {
        Self(format!("{}.{source}", reason.token()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}
