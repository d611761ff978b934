//! [`Ends`]: streams that lost their end, as a server does that was restored from an older copy.
//!
//! Its sequences are given again, to other messages. What the lost ones meant stays in the sums: they were accepted and
//! applied. But a record that has applied more than the stream held must forget the rest, or it would skip what comes new;
//! and offsets that clients stand at mean nothing any more. So the offsets get another epoch, and the checkpoint keeps up to
//! where the records of each earlier epoch are true: a room may sleep over many of them.

use pushmesh_protocol::wire::WireError;
use serde::{Deserialize, Serialize};

use super::record::{self, Checkpoint, Positions};

/// An epoch that began because a stream had lost its end: what the records before it say behind these sequences is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub epoch: u64,
    pub gifts: u64,
    pub chats: u64,
    pub events: u64,
}

/// Which epochs there were.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ends {
    /// When ROOM_HIGH was made. Records of an earlier epoch are of another.
    pub(super) created: u64,
    pub(super) all: Vec<End>,
}

/// What a take-over begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// The epoch of the offsets.
    pub streams: u64,
    pub ends: Ends,
    /// Up to where everything is in the records, and when the last of it was stored.
    pub applied: Positions,
    /// The epoch is new, and only `ends` says why: it must be stored before any record of it.
    pub is_news: bool,
}

impl Begin {
    /// By a partition's checkpoint, where there is one, and when ROOM_HIGH and ROOM_NORMAL were made. One number grows when either
    /// is made anew; but gifts that ROOM_HIGH still holds stay counted where ROOM_NORMAL alone is another.
    pub fn of(checkpoint: Option<&[u8]>, high: u64, normal: u64) -> Result<Self, WireError> {
        let anew = Self {
            streams: high.max(normal),
            ends: Ends { created: high, all: Vec::new() },
            applied: Positions::default(),
            is_news: false,
        };
        let Some(checkpoint) = checkpoint else { return Ok(anew) };
        let (streams, Checkpoint { positions, ends }) = record::read_checkpoint(checkpoint)?;
        if streams < high {
            return Ok(anew);
        }
        let mut begin = Self { streams, ends: Ends { created: high, all: ends }, applied: positions, is_news: false };
        if streams < normal {
            begin.begin_epoch(End { epoch: normal, gifts: u64::MAX, chats: u64::MAX, events: 0 });
            (begin.applied.events, begin.applied.newest[2]) = (0, 0);
        }
        Ok(begin)
    }

    /// Whether more was applied than the streams hold.
    pub fn is_ahead(&self, high: u64, normal: u64) -> bool {
        self.applied.gifts.max(self.applied.chats) > high || self.applied.events > normal
    }

    /// Of each source only what came up to these sequences is still what was applied.
    pub fn lost_end(&mut self, gifts: u64, chats: u64, events: u64) {
        self.begin_epoch(End { epoch: self.streams + 1, gifts, chats, events });
    }

    fn begin_epoch(&mut self, end: End) {
        self.streams = end.epoch;
        self.ends.all.push(end);
        self.is_news = true;
    }
}

impl Ends {
    pub fn of(streams: u64) -> Self {
        Self { created: streams, all: Vec::new() }
    }

    /// Those that came after a record was written.
    pub(super) fn since(&self, epoch: u64) -> impl Iterator<Item = &End> {
        self.all.iter().filter(move |end| end.epoch > epoch)
    }
}
