//! What the streams hold.

use pushmesh_protocol::{
    Instance, RoomId,
    room::{Gift, LikesTotal, Note, RoomEvent, RoomMessage},
};

use crate::room::{Event, PastOf, Positions, Source, Span};

#[derive(Debug, Clone)]
pub enum High {
    Gift(Gift),
    Chat(RoomMessage),
}

#[derive(Debug, Clone)]
pub enum Low {
    Likes(u64, LikesTotal),
    Note(Note),
}

/// A message's sequence is its place, from 1.
#[derive(Default)]
pub struct Streams {
    pub high: Vec<High>,
    pub normal: Vec<RoomEvent>,
    pub low: Vec<Low>,
    /// So many of the oldest of high, and of normal, are gone.
    pub gone: (usize, usize),
}

impl Streams {
    /// What is behind where its reader stands.
    pub fn next(&self, source: Source, read: &mut Positions) -> Option<Event> {
        let from = *at(read, source);
        let found = |sequence: u64, event: Event| Some((sequence, event));
        let (sequence, event) = match source {
            Source::Gifts | Source::Chats => (from + 1..=self.high.len() as u64).find_map(|sequence| {
                match (source, self.high[sequence as usize - 1].clone()) {
                    (Source::Gifts, High::Gift(gift)) => found(sequence, Event::Gift { sequence, gift }),
                    (Source::Chats, High::Chat(message)) => found(sequence, Event::Chat { sequence, message }),
                    _ => None,
                }
            })?,
            Source::Events => {
                let event = self.normal.get(from as usize)?.clone();
                (from + 1, Event::Happening { sequence: from + 1, event })
            }
            Source::Likes | Source::Notes => (from + 1..=self.low.len() as u64).find_map(|sequence| {
                match (source, self.low[sequence as usize - 1].clone()) {
                    (Source::Likes, Low::Likes(n, likes)) => {
                        let api = Instance::new(&format!("api{n}")).unwrap();
                        found(sequence, Event::Likes { sequence, api, life: 1, likes })
                    }
                    (Source::Notes, Low::Note(note)) => found(sequence, Event::Note { sequence, note }),
                    _ => None,
                }
            })?,
        };
        *at(read, source) = sequence;
        Some(event)
    }

    pub fn past_gifts(&self, room: &RoomId, span: Span) -> PastOf<Gift> {
        let gift = |(at, high): (usize, &High)| match high {
            High::Gift(gift) if gift.room == *room => Some((at as u64 + 1, gift.clone())),
            _ => None,
        };
        past_of(span, self.gone.0, self.high.iter().enumerate().filter_map(gift))
    }

    pub fn past_chat(&self, room: &RoomId, span: Span) -> PastOf<RoomMessage> {
        let chat = |(at, high): (usize, &High)| match high {
            High::Chat(message) if message.room == *room => Some((at as u64 + 1, message.clone())),
            _ => None,
        };
        past_of(span, self.gone.0, self.high.iter().enumerate().filter_map(chat))
    }

    pub fn past_events(&self, room: &RoomId, span: Span) -> PastOf<RoomEvent> {
        let all = self.normal.iter().enumerate().filter(|(_, event)| event.room == *room);
        past_of(span, self.gone.1, all.map(|(at, event)| (at as u64 + 1, event.clone())))
    }
}

/// Where a source's reader stands.
pub fn at(positions: &mut Positions, source: Source) -> &mut u64 {
    match source {
        Source::Gifts => &mut positions.gifts,
        Source::Chats => &mut positions.chats,
        Source::Events => &mut positions.events,
        Source::Likes => &mut positions.likes,
        Source::Notes => &mut positions.notes,
    }
}

fn past_of<T>(span: Span, gone: usize, all: impl Iterator<Item = (u64, T)>) -> PastOf<T> {
    let first = gone as u64 + 1;
    let mut messages: Vec<_> = all.filter(|(offset, _)| *offset > span.after && *offset >= first).collect();
    messages.truncate(span.max_messages);
    let to_end = messages.last().map_or(span.after, |(offset, _)| *offset) >= span.upto;
    PastOf { span, messages, to_end, first }
}
