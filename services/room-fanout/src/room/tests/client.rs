//! A connection in a room, by the rule of `frame::Room` and nothing else, behind a comet that knows nothing of parts.

use pushmesh_protocol::{
    RoomId, UserId,
    frame::{Chain, Encoding, Room, RoomItem, RoomPosition, ServerFrame},
    room::{Audience, JoinAnswer, RoomBatch, RoomOrder, part_of},
};

use crate::room::PastAsk;

pub struct Client {
    pub user: UserId,
    pub room: RoomId,
    /// What the comet was told of him.
    pub overseer: bool,
    /// Was he ever, or does he only see his part?
    pub ever_overseer: bool,
    pub always_overseer: bool,
    pub at: Option<RoomPosition>,
    pub state: State,
    /// Frames that come while it asks.
    held: Vec<Room>,
    /// The comet loses so many batches.
    pub deaf_for: u32,
    /// What it was given of each chain, in that order.
    pub seen: Vec<RoomItem>,
    /// From where on it must have seen all, by chain; raised where it was told of a gap.
    pub since: RoomPosition,
    pub gaps: u32,
}

#[derive(Debug, PartialEq)]
pub enum State {
    In,
    /// It has to ask, or asks again.
    Wants,
    /// Its past is being read.
    Reading(PastAsk),
    Kicked,
}

impl Client {
    pub fn new(user: &UserId, room: &RoomId) -> Self {
        let (user, room) = (user.clone(), room.clone());
        Self {
            user,
            room,
            overseer: false,
            ever_overseer: false,
            always_overseer: true,
            at: None,
            state: State::Wants,
            held: vec![],
            deaf_for: 0,
            seen: vec![],
            since: RoomPosition::default(),
            gaps: 0,
        }
    }

    /// What a comet does with a batch, for this connection.
    pub fn batch(&mut self, batch: &RoomBatch) {
        if self.deaf_for > 0 {
            self.deaf_for -= 1;
            return;
        }
        for frame in &batch.frames {
            let is_his = match &frame.audience {
                Audience::Everybody => true,
                Audience::Part { part, of } => !self.overseer && part_of(&self.user, *of) == *part,
                Audience::Overseers => self.overseer,
                Audience::User(user) => *user == self.user,
            };
            if is_his {
                let Ok(ServerFrame::Room(room)) = ServerFrame::decode(Encoding::MessagePack, &frame.frame) else {
                    panic!("a ROOM frame was expected");
                };
                self.held.push(room);
            }
        }
        for order in &batch.orders {
            match order {
                RoomOrder::Oversee { user, overseer } if *user == self.user => self.oversee(*overseer),
                RoomOrder::Kick { user } if *user == self.user => self.state = State::Kicked,
                _ => {}
            }
        }
        self.take_held();
    }

    fn oversee(&mut self, overseer: bool) {
        self.overseer = overseer;
        self.ever_overseer |= overseer;
        self.always_overseer &= overseer;
    }

    pub fn joined(&mut self, answer: JoinAnswer) {
        let joined = answer.joined;
        self.oversee(answer.overseer);
        match self.at {
            Some(before) if joined.recovered => {
                for frame in answer.missed {
                    let Ok(ServerFrame::Room(room)) = ServerFrame::decode(Encoding::MessagePack, &frame) else {
                        panic!("a ROOM frame was expected");
                    };
                    assert!(self.frame(room), "what was missed has no gap");
                }
                let at = self.at.expect("it was somewhere");
                assert_eq!(at, joined.position, "what was missed leads to where it has to stand; it was at {before:?}");
            }
            Some(_) => {
                self.gaps += 1;
                self.since = joined.position;
                self.at = Some(joined.position);
            }
            None => {
                self.since = joined.position;
                self.at = Some(joined.position);
            }
        }
        self.state = State::In;
        self.take_held();
    }

    fn take_held(&mut self) {
        while self.state == State::In && !self.held.is_empty() {
            let frame = self.held.remove(0);
            if !self.frame(frame) {
                self.state = State::Wants;
            }
        }
    }

    /// False: there is a gap.
    fn frame(&mut self, frame: Room) -> bool {
        let at = self.at.as_mut().expect("it has joined");
        assert_eq!(frame.epoch, at.epoch);
        for item in frame.items {
            let last = match item.chain {
                Chain::Gifts => &mut at.gifts,
                Chain::High => &mut at.high,
                Chain::Normal => &mut at.normal,
                Chain::Loose => {
                    self.seen.push(item);
                    continue;
                }
            };
            if item.offset <= *last {
                continue;
            }
            if item.prev > *last {
                return false;
            }
            *last = item.offset;
            self.seen.push(item);
        }
        frame.heads.is_none_or(|heads| at.gifts >= heads.gifts && at.high >= heads.high && at.normal >= heads.normal)
    }

    pub fn offsets(&self, chain: Chain) -> Vec<u64> {
        let own = |item: &&RoomItem| item.chain == chain && item.kind.as_str() != "parts";
        self.seen.iter().filter(own).map(|item| item.offset).collect()
    }
}
