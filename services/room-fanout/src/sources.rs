//! Everything a partition hears, by urgency.

use pushmesh_bus::{Bus, ConsumeError, FollowEvent, Message, StreamFollow, Subscription};
use pushmesh_protocol::{
    Partition,
    name::{Filter, Stream},
};
use tokio::sync::mpsc;

use crate::{
    room::{Positions, Source},
    standing::Told,
    turns::Turns,
};

/// Gifts, asks, chat, normal, low.
const LEVELS: usize = 5;

/// What a partition's task selects among.
pub struct Sources {
    streams: Streams,
    asks: Subscription,
    presence: Subscription,
    standing: mpsc::Receiver<Told>,
    turns: Turns<LEVELS>,
}

/// The streams, each behind where it was applied last.
pub struct Streams {
    gifts: StreamFollow,
    chats: StreamFollow,
    events: StreamFollow,
    likes: StreamFollow,
    notes: StreamFollow,
}

/// What came.
pub enum Arrived {
    Stream(Source, FollowEvent),
    Ask(Message),
    Presence(Message),
    Told(Told),
    /// Nothing comes from there any more: the connection, or the service, ends.
    Ended,
}

impl Streams {
    pub async fn follow(bus: &Bus, partition: Partition, from: &Positions) -> Result<Self, ConsumeError> {
        let follow = |stream, filter, after| bus.follow_stream(stream, filter, after);
        let (gifts, chats, events, likes, notes) = tokio::try_join!(
            follow(&Stream::ROOM_HIGH, Filter::gifts_of(partition), from.gifts),
            follow(&Stream::ROOM_HIGH, Filter::chats_of(partition), from.chats),
            follow(&Stream::ROOM_NORMAL, Filter::room_events_of(partition), from.events),
            follow(&Stream::ROOM_LOW, Filter::likes_of(partition), from.likes),
            follow(&Stream::ROOM_LOW, Filter::notes_of(partition), from.notes),
        )?;
        Ok(Self { gifts, chats, events, likes, notes })
    }
}

impl Sources {
    pub fn new(streams: Streams, asks: Subscription, presence: Subscription, standing: mpsc::Receiver<Told>) -> Self {
        Self { streams, asks, presence, standing, turns: Turns::new() }
    }

    /// What is already here: gifts before asks before chat before normal before low, one in 32 from below.
    pub fn ready(&mut self) -> Option<Arrived> {
        let Self { streams, asks, presence, standing, turns } = self;
        let stream = |source, event: Option<FollowEvent>| event.map(|event| Arrived::Stream(source, event));
        turns.next(|level| match level {
            0 => stream(Source::Gifts, streams.gifts.try_next()),
            1 => asks.try_next().map(Arrived::Ask),
            2 => stream(Source::Chats, streams.chats.try_next()),
            3 => (standing.try_recv().ok().map(Arrived::Told))
                .or_else(|| presence.try_next().map(Arrived::Presence))
                .or_else(|| stream(Source::Events, streams.events.try_next())),
            _ => stream(Source::Notes, streams.notes.try_next())
                .or_else(|| stream(Source::Likes, streams.likes.try_next())),
        })
    }

    /// A question that waits.
    pub fn take_ask(&mut self) -> Option<Message> {
        self.asks.try_next()
    }

    /// Waits for something. Cancel safe.
    pub async fn next(&mut self) -> Arrived {
        let Self { streams, asks, presence, standing, turns: _ } = self;
        tokio::select! {
            biased;
            event = streams.gifts.next() => of(Source::Gifts, event),
            ask = asks.next() => ask.map_or(Arrived::Ended, Arrived::Ask),
            event = streams.chats.next() => of(Source::Chats, event),
            told = standing.recv() => told.map_or(Arrived::Ended, Arrived::Told),
            report = presence.next() => report.map_or(Arrived::Ended, Arrived::Presence),
            event = streams.events.next() => of(Source::Events, event),
            event = streams.notes.next() => of(Source::Notes, event),
            event = streams.likes.next() => of(Source::Likes, event),
        }
    }
}

fn of(source: Source, event: Option<FollowEvent>) -> Arrived {
    event.map_or(Arrived::Ended, |event| Arrived::Stream(source, event))
}
