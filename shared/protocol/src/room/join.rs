//! How a room is entered: what comets ask its owner, and what it answers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    frame::{Joined, Role, RoomPosition},
    id::{RoomId, UserId},
    message::{Epoch, Millis},
    trace::TraceContext,
};

/// One user enters a room, or comes back to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JoinAsk {
    pub room: RoomId,
    pub user: UserId,
    pub resume: Option<RoomPosition>,
    pub trace: Option<TraceContext>,
}

/// Many at once: users of one comet who enter a room from one position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JoinsAsk {
    pub room: RoomId,
    /// 1 to [`JOINS_MAX`].
    pub users: Vec<UserId>,
    pub resume: Option<RoomPosition>,
    pub trace: Option<TraceContext>,
}

/// Most users of one [`JoinsAsk`].
pub const JOINS_MAX: usize = 512;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JoinAnswer {
    /// Of the partition's lease.
    pub epoch: Epoch,
    #[serde(with = "by_name")]
    pub joined: Joined,
    pub overseer: bool,
    /// What was missed: ROOM frames in MessagePack, in order, before anything that comes later.
    pub missed: Vec<Bytes>,
}

/// The answer to a [`JoinsAsk`]: what many are told stands there once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JoinsAnswer {
    /// Of the partition's lease.
    pub epoch: Epoch,
    pub views: Vec<JoinedView>,
    /// In the order of the ask.
    pub users: Vec<JoinedUser>,
}

/// What those are told who see the same of a room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JoinedView {
    /// To somebody without a role and a mute.
    #[serde(with = "by_name")]
    pub joined: Joined,
    /// What was missed: ROOM frames in MessagePack, in order, before anything that comes later.
    pub missed: Vec<Bytes>,
}

/// One of those who asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinedUser {
    /// Which of the views is his; `None`: the answer would have become too long, and he is to be asked for again.
    pub view: Option<u16>,
    pub role: Option<Role>,
    pub muted_until: Option<Millis>,
}

impl JoinedUser {
    /// His JOINED.
    pub fn told(&self, view: &JoinedView) -> Joined {
        Joined { role: self.role, muted_until: self.muted_until, ..view.joined.clone() }
    }
}

/// A frame's body leaves out what is not there, so that its fields go by name; in an array they would change places.
mod by_name {
    use serde::{Deserializer, Serializer, de::Error};

    use super::{Bytes, Deserialize, Joined};

    pub fn serialize<S: Serializer>(joined: &Joined, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = rmp_serde::to_vec_named(joined).expect("frames have no type that MessagePack lacks");
        serializer.serialize_bytes(&bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Joined, D::Error> {
        crate::wire::decode(&Bytes::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        frame::{Ranked, RoomState},
        room::RoomAnswer,
    };

    #[test]
    fn an_answer_is_read_as_it_was_written_whatever_it_leaves_out() {
        for (role, muted_until) in
            [(None, None), (Some(Role::Host), None), (None, Some(7)), (Some(Role::Admin), Some(8))]
        {
            let joined = Joined {
                room: RoomId::new("a").unwrap(),
                position: RoomPosition { epoch: 1, gifts: 2, high: 3, normal: 4 },
                recovered: true,
                state: RoomState::default(),
                role,
                muted_until,
                present: 5,
                top: vec![Ranked { user: UserId::new("ann").unwrap(), total: 6 }],
                gifts_total: 7,
                likes_total: 8,
            };
            let answer = JoinAnswer { epoch: 9, joined, overseer: true, missed: vec![Bytes::from_static(b"frame")] };
            let user = JoinedUser { view: Some(0), role, muted_until };
            let view = JoinedView {
                joined: Joined { role: None, muted_until: None, ..answer.joined.clone() },
                missed: answer.missed.clone(),
            };
            assert_eq!(user.told(&view), answer.joined);
            let of_many = JoinsAnswer { epoch: 9, views: vec![view], users: vec![user] };
            for answer in [RoomAnswer::Joined(Box::new(answer)), RoomAnswer::JoinedAll(Box::new(of_many))] {
                assert_eq!(crate::wire::decode::<RoomAnswer>(&crate::wire::encode(&answer)).unwrap(), answer);
            }
        }
    }
}
