//! What a client tells its application.

use std::time::Duration;

use pushmesh_protocol::{
    ConnId, LoginId, RoomId, UserId,
    frame::{App, CallEnded, Error, Gap, Joined, KickReason, Left, Push, Resume, RoomItem, RoomPosition},
};

/// In the order in which it happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Connected and logged in; unless `resumed`, a new login begins and will be told of all its calls.
    LoggedIn(LoggedIn),
    /// Something to show. Each id comes once, whether it was pushed or was in the answer to
    /// [`Client::calls`](crate::Client::calls) first (`seq` is 0 then).
    Push(Push),
    /// A call that was shown has ended.
    CallEnded(CallEnded),
    /// An application's frame that answers no question.
    App(App),
    /// In a room: at first, and again after each reconnect and recovery; what it says of the room is the newest.
    Joined(Joined),
    /// Something in a room. What is of a chain comes in its order and once, and after the [`Joined`](Self::Joined) that
    /// lies before it.
    Room { room: RoomId, item: RoomItem },
    /// What lies between the two positions can't be had: it is gone, or was asked for five times in vain; the room goes on from
    /// `to`. Where the epochs differ, the mesh has lost the room's history.
    RoomGap { room: RoomId, from: RoomPosition, to: RoomPosition },
    /// The room can't be joined now, or what was missed not be asked for; tried again after `again_in`.
    RoomUnavailable { room: RoomId, reason: String, again_in: Duration },
    /// Not in the room any more, by [`Client::leave`](crate::Client::leave) or sent away.
    Left(Left),
    /// The comet had to drop frames for this connection. What was missed of a room's chains is asked for again, and comes
    /// as [`Room`](Self::Room) or is told as [`RoomGap`](Self::RoomGap); notes and level-ups among the low ones are lost.
    Gap(Gap),
    /// The comet refused something that was no question. If it names a room, the client is not in that room, and tries no
    /// more.
    Refused(Error),
    /// The comet ends this connection; `TokenExpired` and `TooSlow` are followed by a new one.
    Kicked(KickReason),
    /// There is no connection (any more); the next attempt begins after `again_in`.
    Disconnected { reason: String, again_in: Duration },
    /// The last event.
    Ended(End),
}

/// A connection that is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    pub user: UserId,
    pub login_id: LoginId,
    pub conn_id: ConnId,
    /// The login of the connection before it goes on.
    pub resumed: bool,
}

impl LoggedIn {
    /// What another process of this device may go on with: [`Options::resume`](crate::Options::resume).
    pub fn resume(&self) -> Resume {
        Resume { login_id: self.login_id.clone(), conn_id: self.conn_id.clone() }
    }
}

/// Why a client ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// [`Client::close`](crate::Client::close), or nobody reads its events.
    Closed,
    LoggedOut,
    /// By another connection of this device, or by an operator; or its token expired and there was no other.
    Kicked(KickReason),
    /// The login is refused and will be: a bad token, and no other; or not allowed.
    Refused(Error),
}
