//! Questions: from their arrival to their answer, by way of a reading where memory does not hold what was missed.

use pushmesh_bus::{Message, Reply};
use pushmesh_protocol::{
    room::{RoomAnswer, RoomAsk},
    wire,
};
use pushmesh_telemetry::span::{self, Role};

use super::{End, Serving};
use crate::{effects::Returning, history::PastRead, room::Asked};

/// How often the streams are read for one who came back, where messages go on meanwhile.
const READS: u32 = 3;

/// A question on its way to its answer.
struct Asking {
    ask: RoomAsk,
    reply: Reply,
    /// How often the streams were read for it.
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
        let _process = match &ask {
            RoomAsk::Join(ask) => span::child("process pm.v1.room.ask.{p}", Role::Server, ask.trace),
            RoomAsk::Info { .. } | RoomAsk::Ranking { .. } | RoomAsk::Skipped { .. } => {
                span::child("process pm.v1.room.ask.{p}", Role::Server, None)
            }
        };
        let asked = self.put(&ask);
        self.asked(Asking { ask, reply, reads: 0 }, asked).await
    }

    /// Puts a question to the rooms.
    fn put(&mut self, ask: &RoomAsk) -> Asked {
        match ask {
            RoomAsk::Join(ask) => self.rooms.join(ask, self.clock.now()),
            RoomAsk::Info { room } => self.rooms.info(room),
            RoomAsk::Ranking { room, places } => self.rooms.ranking(room, *places),
            RoomAsk::Skipped { room } => self.rooms.skipped(room),
        }
    }

    /// Does what an answer needs, up to the answer or to a reading that comes back here.
    async fn asked(&mut self, asking: Asking, asked: Asked) -> Result<(), End> {
        let mut asked = asked;
        loop {
            match (asked, &asking.ask) {
                (Asked::Answer(answer), _) => return self.answer(asking.reply, &answer).await,
                (Asked::Asleep(room), _) => {
                    self.wake_room(&room).await?;
                    asked = self.put(&asking.ask);
                }
                (Asked::Read(past), RoomAsk::Join(join)) => {
                    if asking.reads >= READS {
                        asked = self.rooms.join_without(join, self.clock.now());
                        continue;
                    }
                    let (ask, reads) = (join.clone(), asking.reads + 1);
                    let returning = Returning { ask, reply: asking.reply, reads };
                    return match self.effects.read_past(returning, past) {
                        Ok(()) => Ok(()),
                        Err(refused) => {
                            self.work.metrics.asks_refused.increment(1);
                            self.answer(refused.reply, &RoomAnswer::NotReady).await
                        }
                    };
                }
                (Asked::Read(_), _) => return Ok(()),
            }
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

    /// The streams were read for somebody who came back.
    pub(super) async fn past_read(&mut self, returning: Returning, read: PastRead) -> Result<(), End> {
        let Returning { ask, reply, reads } = returning;
        let now = self.clock.now();
        let asked = match read {
            Some(past) => self.rooms.join_with(&ask, past, now),
            None => self.rooms.join_without(&ask, now),
        };
        self.asked(Asking { ask: RoomAsk::Join(ask), reply, reads }, asked).await
    }
}
