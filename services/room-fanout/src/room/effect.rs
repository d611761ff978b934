//! [`Effect`]: what has to be done.

use pushmesh_protocol::{
    Token, UserId,
    room::{Note, Ranking, RoomBatch},
};

/// What [`Rooms::tick`](super::Rooms::tick) asks for, in the order it should be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// To the comets with a member in the room.
    Tell(RoomBatch),
    /// Stored for whoever reads the stream; `gift` is the sequence of the last gift in it. One that fails is made up for by the next.
    Ranking { ranking: Ranking, gift: u64 },
    /// Stored once, whatever it takes, then [`level_stored`](super::Rooms::level_stored); `id` is the same each time.
    Level { note: Note, id: Token, user: UserId, level: u32 },
}
