//! [`Event`]: everything that can happen to a partition's rooms.

use pushmesh_protocol::{
    Instance, RoomId, UserId,
    frame::{Role, RoomState},
    message::Epoch,
    room::{Gift, LikesTotal, MuteRecord, Note, RoomEvent, RoomMessage, RoomPresence},
};

/// What is applied. `sequence` is the message's in its stream; each source's come in their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Gift {
        sequence: u64,
        gift: Gift,
    },
    Chat {
        sequence: u64,
        message: RoomMessage,
    },
    Happening {
        sequence: u64,
        event: RoomEvent,
    },
    Likes {
        sequence: u64,
        api: Instance,
        life: Epoch,
        likes: LikesTotal,
    },
    Note {
        sequence: u64,
        note: Note,
    },
    /// A message that means nothing here, such as one that nobody can read: only its sequence counts.
    Passed {
        source: Source,
        sequence: u64,
    },
    /// `None`: the bucket has no record any more.
    State {
        room: RoomId,
        state: Option<RoomState>,
    },
    Role {
        room: RoomId,
        user: UserId,
        role: Option<Role>,
    },
    /// Without a room: everywhere.
    Mute {
        room: Option<RoomId>,
        user: UserId,
        mute: Option<MuteRecord>,
    },
    Presence(RoomPresence),
    CometGone(Instance),
}

/// Where messages come from, each with sequences in an order of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    Gifts,
    Chats,
    Events,
    Likes,
    Notes,
}

/// The event's room is not in memory: wake it, then apply the event again.
#[derive(Debug, Clone, PartialEq)]
pub struct Asleep {
    pub room: RoomId,
    pub event: Box<Event>,
}
