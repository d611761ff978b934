//! Questions: from their arrival to their answer, by way of a reading where memory does not hold what was missed.

use pushmesh_bus::{Message, Reply};
use pushmesh_protocol::{
    RoomId,
    room::{RoomAnswer, RoomAsk},
    wire,
};
use pushmesh_telemetry::span::{self, Role};
use tokio::time::Instant;

use super::{End, Serving};
use crate::{
    history::PastRead,
    room::{Asked, NotRecovered, Sources},
};

/// How many readings one question waits for, where the room is read for others first, or messages go on meanwhile: as many as it
/// takes to sort out `WAITING_MAX` of which some are too far back, halving them.
const READS: u32 = 12;
/// Questions of one partition that wait for a reading, each for up to 512 users; of more nothing is read.
pub const WAITING_MAX: usize = 1024;

/// A question on its way to its answer.
#[derive(Debug)]
pub struct Asking {
    ask: RoomAsk,
    reply: Reply,
    /// How many readings it has waited for.
    reads: u32,
}

impl Serving {
    pub(super) async fn ask(&mut self, message: Message) -> Result<(), End> {
        let Some(reply) = message.reply else { return Ok(()) };
        let ask = match wire::decode::<RoomAsk>(&message.payload) {
            Ok(ask) => ask,
            Err(error) => {
                self.work.metrics.malformed_asks.increment(1);
                tracing::warn!(partition = %self.partition, %error, "a question can't be read");
                return Ok(());
            }
        };
        if !self.is_ready {
            self.work.metrics.not_ready.increment(1);
            return self.answer(reply, &RoomAnswer::NotReady).await;
        }
        let trace = match &ask {
            RoomAsk::Join(ask) => ask.trace,
            RoomAsk::Joins(ask) => ask.trace,
            RoomAsk::Info { .. } | RoomAsk::Ranking { .. } | RoomAsk::Skipped { .. } => None,
        };
        let _process = span::child("process pm.v1.room.ask.{p}", Role::Server, trace);
        let room = room_of(&ask).clone();
        self.put(Asking { ask, reply, reads: 0 }).await?;
        self.read_on(&room);
        Ok(())
    }

    /// Puts a question to the rooms: answers it, or has it wait for a reading.
    async fn put(&mut self, mut asking: Asking) -> Result<(), End> {
        let room = room_of(&asking.ask).clone();
        let mut without = None;
        loop {
            let asked = self.look(&asking.ask, without);
            let needs = match asked {
                Asked::Answer(answer) => return self.answer(asking.reply, &answer).await,
                Asked::Asleep(room) => {
                    self.wake_room(&room).await?;
                    continue;
                }
                Asked::Read(needs) => needs,
            };
            if asking.reads >= READS {
                without = Some(NotRecovered::Unread);
                continue;
            }
            asking.reads += 1;
            match self.readings.wait(&room, needs, asking) {
                Ok(()) => return Ok(()),
                // Asked again and again it would never be answered: it is told of a gap.
                Err(refused) => (asking, without) = (refused, Some(NotRecovered::Busy)),
            }
        }
    }

    fn look(&mut self, ask: &RoomAsk, without: Option<NotRecovered>) -> Asked {
        let now = self.clock.now();
        let sources = match (without, self.readings.kept(room_of(ask))) {
            (Some(why), _) => Sources::Without(why),
            (None, Some(past)) => Sources::With(past),
            (None, None) => Sources::Memory,
        };
        match ask {
            RoomAsk::Join(ask) => self.rooms.join(ask, sources, now),
            RoomAsk::Joins(ask) => self.rooms.joins(ask, sources, now),
            RoomAsk::Info { room } => self.rooms.info(room),
            RoomAsk::Ranking { room, places } => self.rooms.ranking(room, *places),
            RoomAsk::Skipped { room } => self.rooms.skipped(room),
        }
    }

    /// Reads for those who wait, unless that is under way.
    fn read_on(&mut self, room: &RoomId) {
        match self.readings.next(room) {
            Some(needs) => self.effects.read_past(room.clone(), needs),
            None => self.readings.rest(room),
        }
    }

    /// On the connection that frames go over: whoever subscribed before he asked misses none behind the answer.
    pub(super) async fn answer(&mut self, reply: Reply, answer: &RoomAnswer) -> Result<(), End> {
        self.check()?;
        // Lost, it is asked again.
        if let Err(error) = self.work.bus.reply(reply, wire::encode(answer).into()).await {
            tracing::debug!(partition = %self.partition, %error, "an answer was not sent");
        }
        Ok(())
    }

    /// The streams were read for those who wait in a room.
    pub(super) async fn past_read(&mut self, room: RoomId, read: PastRead) -> Result<(), End> {
        let is_unread = read.is_none();
        for mut asking in self.readings.read(&room, read, Instant::now().into_std()) {
            if is_unread {
                asking.reads = READS;
            }
            self.put(asking).await?;
        }
        self.read_on(&room);
        Ok(())
    }

    /// They ask the next owner.
    pub(super) async fn turn_away(&mut self) -> Result<(), End> {
        let waiting = self.readings.take_all().into_iter().map(|asking| asking.reply).collect::<Vec<_>>();
        for reply in waiting {
            self.answer(reply, &RoomAnswer::NotReady).await?;
        }
        while let Some(reply) = self.sources.take_ask().and_then(|ask| ask.reply) {
            self.answer(reply, &RoomAnswer::NotReady).await?;
        }
        Ok(())
    }
}

fn room_of(ask: &RoomAsk) -> &RoomId {
    match ask {
        RoomAsk::Join(ask) => &ask.room,
        RoomAsk::Joins(ask) => &ask.room,
        RoomAsk::Info { room } | RoomAsk::Ranking { room, .. } | RoomAsk::Skipped { room } => room,
    }
}
