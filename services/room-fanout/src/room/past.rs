//! What somebody missed and memory does not hold: what has to be read, and what was found.

use pushmesh_protocol::room::{Gift, RoomEvent, RoomMessage};

/// Which parts of a room's history are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PastAsk {
    pub gifts: Option<Span>,
    pub high: Option<Span>,
    pub normal: Option<Span>,
}

/// The messages of one subject with `after < sequence <= upto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub after: u64,
    pub upto: u64,
    /// More is not worth reading: it would be too much to tell.
    pub max_messages: usize,
    pub max_bytes: usize,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Past {
    pub gifts: Option<PastOf<Gift>>,
    pub high: Option<PastOf<RoomMessage>>,
    pub normal: Option<PastOf<RoomEvent>>,
}

/// What a stream holds of a span, with sequences, in order. What lies behind the span is passed over.
#[derive(Debug, Clone, PartialEq)]
pub struct PastOf<T> {
    pub span: Span,
    pub messages: Vec<(u64, T)>,
    /// It was read to the span's end: it was not too much, and the last of it is still there.
    pub to_end: bool,
    /// The stream's first message, asked for after the reading: what is not among `messages` and before this is lost.
    pub first: u64,
}

impl<T> PastOf<T> {
    pub(super) fn holds(&self, offset: u64) -> bool {
        self.messages.binary_search_by_key(&offset, |(offset, _)| *offset).is_ok()
    }
}

impl Past {
    /// What an earlier reading brought stays where this one brought nothing.
    pub fn or(self, before: Self) -> Self {
        Self {
            gifts: self.gifts.or(before.gifts),
            high: self.high.or(before.high),
            normal: self.normal.or(before.normal),
        }
    }
}
