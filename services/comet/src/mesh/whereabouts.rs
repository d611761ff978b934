//! In which rooms connections are, for whoever has to tell those rooms something of their user.

use std::collections::BTreeSet;

use pushmesh_bus::{Bus, Message, Subscription};
use pushmesh_protocol::{
    ConnId, RoomId,
    metric::comet as names,
    room::{CometRooms, CometRoomsAsk},
    wire,
};
use pushmesh_telemetry::metric::counter;
use tokio::sync::oneshot;

use crate::{
    address::Address,
    shard::command::{Queues, Urgent},
};

pub struct Whereabouts {
    pub bus: Bus,
    pub shards: Vec<Queues>,
}

impl Whereabouts {
    /// Answers one after the other until the subscription ends. What waits longer than its asker does is answered to nobody.
    pub async fn run(self, mut asks: Subscription) {
        while let Some(Message { payload, reply, .. }) = asks.next().await {
            let Some(reply) = reply else { continue };
            let rooms = match wire::decode::<CometRoomsAsk>(&payload) {
                Ok(ask) => self.of(&ask.connections).await,
                Err(error) => {
                    counter(&names::MALFORMED).increment(1);
                    tracing::warn!(%error, "a question for rooms can't be read");
                    continue;
                }
            };
            let answer = CometRooms { rooms: rooms.into_iter().collect() };
            if let Err(error) = self.bus.reply(reply, wire::encode(&answer).into()).await {
                tracing::debug!(%error, "an answer was not sent");
            }
        }
    }

    async fn of(&self, connections: &[ConnId]) -> BTreeSet<RoomId> {
        let addresses: Vec<_> = connections.iter().filter_map(Address::of).collect();
        let mut rooms = BTreeSet::new();
        for (shard, queues) in self.shards.iter().enumerate() {
            let here: Vec<_> =
                addresses.iter().filter(|address| usize::from(address.shard) == shard).copied().collect();
            let (answer, answered) = oneshot::channel();
            // A shard that is gone has nobody.
            if !here.is_empty() && queues.urgent.send(Urgent::RoomsOf(here, answer)).await.is_ok() {
                rooms.extend(answered.await.unwrap_or_default());
            }
        }
        rooms
    }
}
