//! Which rooms are listened to, and which shards have members in them.
//!
//! Shards say how many members they have, and a room's batches go to those that have some, by class, into bounded queues.
//! A full queue holds up nobody: what it has no room for is counted, and its members are told of a gap as soon as it has.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use metrics::Counter;
use pushmesh_protocol::{
    Partition, Partitions, RoomId,
    metric::comet as names,
    room::{RoomBatch, RoomOrder},
    wire,
};
use pushmesh_telemetry::{
    metric::{counter, counter_with},
    span::{self, Role},
};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::presence::Presence;
use crate::{
    address::Address,
    config::RoomsConfig,
    framing::Dialect,
    lane::Class,
    mesh::fence::Fence,
    room::{Tally, frame::Frame},
    shard::command::{Queues, RoomDelivery},
};

/// Orders that wait for a shard whose queue is full; more are lost, and counted as dropped.
const ORDERS_MAX: usize = 1024;

/// Whether a room's frames come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listening {
    NotYet,
    Yes,
    Failed(String),
}

/// A room that has members here, or had some a moment ago.
#[derive(Debug)]
struct Room {
    partition: Partition,
    listening: watch::Sender<Listening>,
    seats: Vec<Seat>,
    empty_since: Option<Instant>,
    /// Ends the subscription with the room.
    _stop: DropGuard,
}

/// A shard with members in a room.
#[derive(Debug)]
struct Seat {
    shard: u16,
    members: u32,
    present: u32,
    dialects: [u32; Dialect::ALL.len()],
    /// By class: what the shard had no room for, and its members are not told of yet.
    missed: [u32; Class::ALL.len()],
    orders: Vec<RoomOrder>,
}

/// A room to subscribe to.
#[derive(Debug)]
pub struct ToOpen {
    pub room: RoomId,
    pub partition: Partition,
    /// Cancelled when the room is not listened to any more.
    pub stop: CancellationToken,
}

pub struct Table {
    rooms: HashMap<RoomId, Room>,
    pub presence: Presence,
    partitions: Partitions,
    fence: Arc<Fence>,
    shards: Vec<Queues>,
    linger: Duration,
    at_most: usize,
    frames: [Counter; Class::ALL.len()],
    dropped: [Counter; Class::ALL.len()],
    fenced: Counter,
    malformed: Counter,
}

impl Table {
    pub fn new(partitions: Partitions, fence: Arc<Fence>, shards: Vec<Queues>, config: &RoomsConfig) -> Self {
        let full = |class: Class| counter_with(&names::ROOM_DROPPED, &[("class", class.name()), ("reason", "queue")]);
        Self {
            rooms: HashMap::new(),
            presence: Presence::new(config.names_up_to),
            partitions,
            fence,
            shards,
            linger: config.linger,
            at_most: config.at_most as usize,
            frames: Class::ALL.map(|class| counter_with(&names::ROOM_FRAMES, &[("class", class.name())])),
            dropped: Class::ALL.map(full),
            fenced: counter(&names::ROOM_FENCED),
            malformed: counter(&names::MALFORMED),
        }
    }

    /// How many rooms are listened to.
    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// A member joins: whether the room is listened to, and the room, if it has to be from now on.
    pub fn join(&mut self, room: &RoomId, from: Address) -> (watch::Receiver<Listening>, Option<ToOpen>) {
        let to_open = self.open(room);
        let Some(entry) = self.rooms.get_mut(room) else {
            let failed = Listening::Failed(format!("this comet listens to rooms.at_most of {}", self.at_most));
            return (watch::Sender::new(failed).subscribe(), None);
        };
        entry.empty_since = None;
        let seat = entry.seat(from.shard);
        // Until its shard says more exactly.
        seat.members = seat.members.max(1);
        let dialect = &mut seat.dialects[from.dialect as usize];
        *dialect = (*dialect).max(1);
        (entry.listening.subscribe(), to_open)
    }

    /// How a room is at one shard now: the room, if it has to be listened to from now on.
    pub fn tally(&mut self, shard: u16, tally: Tally, now: Instant) -> Option<ToOpen> {
        let Tally { room, members, present, dialects, came, went } = tally;
        let to_open = if members > 0 { self.open(&room) } else { None };
        let entry = self.rooms.get_mut(&room)?;
        let seat = entry.seat(shard);
        (seat.members, seat.present, seat.dialects) = (members, present, dialects);
        if members == 0 {
            // Nobody is left to be told.
            entry.seats.retain(|seat| seat.shard != shard);
        }
        let present = entry.seats.iter().map(|seat| seat.present).sum();
        let is_empty = entry.seats.iter().all(|seat| seat.members == 0);
        entry.empty_since = if is_empty { entry.empty_since.or(Some(now)) } else { None };
        self.presence.note(entry.partition, &room, present, came, went);
        to_open
    }

    fn open(&mut self, room: &RoomId) -> Option<ToOpen> {
        if self.rooms.contains_key(room) || self.rooms.len() >= self.at_most {
            return None;
        }
        let (partition, stop) = (self.partitions.of_room(room), CancellationToken::new());
        let entry = Room {
            partition,
            listening: watch::Sender::new(Listening::NotYet),
            seats: Vec::new(),
            empty_since: None,
            _stop: stop.clone().drop_guard(),
        };
        self.rooms.insert(room.clone(), entry);
        Some(ToOpen { room: room.clone(), partition, stop })
    }

    /// It is subscribed to. `false`: nobody wants it any more.
    pub fn opened(&mut self, to: &ToOpen) -> bool {
        // Another one of the same name is not this one.
        if to.stop.is_cancelled() {
            return false;
        }
        self.rooms.get(&to.room).is_some_and(|room| {
            room.listening.send_replace(Listening::Yes);
            true
        })
    }

    /// It can't be subscribed to: those who join are told so, and the next one tries again.
    pub fn not_opened(&mut self, to: &ToOpen, reason: String) {
        if !to.stop.is_cancelled()
            && let Some(room) = self.rooms.remove(&to.room)
        {
            room.listening.send_replace(Listening::Failed(reason));
        }
    }

    /// A batch off the bus: to the shards that have members.
    pub fn route(&mut self, room: &RoomId, payload: &[u8], received: Instant) {
        let batch = match wire::decode::<RoomBatch>(payload) {
            Ok(batch) if batch.room == *room => batch,
            other => {
                self.malformed.increment(1);
                let error = other.err().map(|error| error.to_string());
                return tracing::warn!(error = error.as_deref().unwrap_or("of another room"), "unreadable batch");
            }
        };
        let Some(entry) = self.rooms.get_mut(room) else { return };
        if batch.partition != entry.partition || !self.fence.passes(batch.partition, batch.epoch) {
            return self.fenced.increment(1);
        }
        if batch.orders.contains(&RoomOrder::Recount) {
            self.presence.asked(batch.partition);
        }
        let class = Class::from(batch.class);
        self.frames[class as usize].increment(batch.frames.len() as u64);
        let span = span::child("process pm.v1.room.frame.{p}.{room}", Role::Consumer, batch.trace);
        let span = (!span.is_none()).then_some(span);
        let frames = batch.frames.into_iter();
        let frames: Arc<[Arc<Frame>]> =
            frames.map(|frame| Arc::new(Frame::new(room, batch.class, frame, received, span.clone()))).collect();
        // Made here and once, not by a shard while others wait for it.
        for dialect in Dialect::ALL {
            if entry.seats.iter().any(|seat| seat.dialects[dialect as usize] > 0) {
                frames.iter().for_each(|frame| {
                    frame.form(dialect);
                });
            }
        }
        let delivery = RoomDelivery { room: room.clone(), frames, orders: batch.orders.into() };
        for seat in entry.seats.iter_mut().filter(|seat| seat.members > 0) {
            let Some(queues) = self.shards.get(usize::from(seat.shard)) else { continue };
            let mut delivery = delivery.clone();
            if !seat.settle(room, queues, received) && !seat.orders.is_empty() {
                // Orders don't overtake each other.
                seat.keep(&std::mem::take(&mut delivery.orders), &self.dropped[class as usize]);
            }
            if queues.rooms[class as usize].try_send(delivery.clone()).is_err() {
                let count = delivery.frames.len() as u32;
                seat.missed[class as usize] = seat.missed[class as usize].saturating_add(count);
                self.dropped[class as usize].increment(u64::from(count));
                seat.keep(&delivery.orders, &self.dropped[class as usize]);
            }
        }
    }

    /// Says what could not be said before, and forgets rooms that nobody has been in for a while.
    pub fn tick(&mut self, now: Instant) {
        let (shards, linger) = (&self.shards, self.linger);
        self.rooms.retain(|id, room| {
            for seat in &mut room.seats {
                if let Some(queues) = shards.get(usize::from(seat.shard)) {
                    seat.settle(id, queues, now);
                }
            }
            room.empty_since.is_none_or(|since| now.saturating_duration_since(since) < linger)
        });
    }
}

impl Room {
    fn seat(&mut self, shard: u16) -> &mut Seat {
        let at = self.seats.iter().position(|seat| seat.shard == shard).unwrap_or_else(|| {
            self.seats.push(Seat {
                shard,
                members: 0,
                present: 0,
                dialects: [0; Dialect::ALL.len()],
                missed: [0; Class::ALL.len()],
                orders: Vec::new(),
            });
            self.seats.len() - 1
        });
        &mut self.seats[at]
    }
}

impl Seat {
    // Tells the members of what they missed, where that has an order, and hands over the orders that wait. `false`: not now.
    fn settle(&mut self, room: &RoomId, queues: &Queues, now: Instant) -> bool {
        let [high, normal, _] = self.missed;
        if high + normal == 0 && self.orders.is_empty() {
            return true;
        }
        let gap = (high + normal > 0).then(|| Arc::new(Frame::gap(room, self.missed, now)));
        let delivery = RoomDelivery {
            room: room.clone(),
            frames: gap.into_iter().collect(),
            orders: self.orders.as_slice().into(),
        };
        let is_said = queues.rooms[Class::High as usize].try_send(delivery).is_ok();
        if is_said {
            self.missed = [0; Class::ALL.len()];
            self.orders.clear();
        }
        is_said
    }

    fn keep(&mut self, orders: &[RoomOrder], dropped: &Counter) {
        let (kept, lost) = orders.split_at(orders.len().min(ORDERS_MAX - self.orders.len()));
        self.orders.extend_from_slice(kept);
        dropped.increment(lost.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use pushmesh_protocol::{
        frame::{Encoding, ServerFrame},
        room::{Audience, RoomClass, RoomFrame},
    };

    use super::*;
    use crate::{
        room::frame::tests::room_frame,
        shard::command::{Inbox, Work, queues},
    };

    const LINGER: Duration = Duration::from_secs(5);

    fn table() -> (Table, Inbox) {
        let config = RoomsConfig { linger: LINGER, at_most: 2, ..RoomsConfig::default() };
        let (queues, inbox) = queues(config.queue);
        let partitions = Partitions::new(8).unwrap();
        (Table::new(partitions, Arc::default(), vec![queues], &config), inbox)
    }

    fn somebody() -> Address {
        Address { shard: 0, slot: 1, nonce: 2, dialect: Dialect::TcpPack }
    }

    fn id() -> RoomId {
        "r1".parse().unwrap()
    }

    fn batch(epoch: u64, class: RoomClass, orders: Vec<RoomOrder>) -> Vec<u8> {
        let frame = room_frame(epoch).encode(Encoding::MessagePack).into();
        let frame = RoomFrame { audience: Audience::Everybody, urgent: false, conflate: None, frame };
        let (room, partition) = (id(), Partitions::new(8).unwrap().of_room(&id()));
        wire::encode(&RoomBatch { room, partition, epoch, class, frames: vec![frame], orders, trace: None })
    }

    fn tally(members: u32) -> Tally {
        Tally { room: id(), members, present: members, dialects: [0, 0, members], came: vec![], went: vec![] }
    }

    fn take(inbox: &mut Inbox) -> Vec<RoomDelivery> {
        let mut work = Work::default();
        loop {
            let before = work.rooms.len();
            inbox.take(&mut work, [true; 3]);
            if work.rooms.len() == before {
                return work.rooms;
            }
        }
    }

    #[test]
    fn a_room_is_listened_to_from_its_first_member_until_a_while_after_its_last() {
        let (mut table, mut inbox) = table();
        let now = Instant::now();
        let (listening, to_open) = table.join(&id(), somebody());
        let to_open = to_open.unwrap();
        assert_eq!(*listening.borrow(), Listening::NotYet);
        assert!(table.join(&id(), somebody()).1.is_none());
        assert!(table.opened(&to_open));
        assert_eq!(*listening.borrow(), Listening::Yes);
        table.route(&id(), &batch(7, RoomClass::High, vec![]), now);
        assert_eq!(take(&mut inbox).len(), 1, "one who joins gets what comes");
        assert!(table.tally(0, tally(3), now).is_none());
        assert!(table.tally(0, tally(0), now).is_none());
        table.route(&id(), &batch(7, RoomClass::High, vec![]), now);
        assert_eq!(take(&mut inbox).len(), 0);
        table.tick(now + LINGER / 2);
        table.tally(0, tally(1), now + LINGER / 2);
        table.tick(now + 2 * LINGER);
        table.tally(0, tally(0), now + 2 * LINGER);
        table.tick(now + 3 * LINGER - Duration::from_millis(1));
        assert_eq!((table.rooms(), to_open.stop.is_cancelled()), (1, false));
        table.tick(now + 3 * LINGER);
        assert_eq!((table.rooms(), to_open.stop.is_cancelled()), (0, true));
        assert!(!table.opened(&to_open));
        assert!(table.tally(0, tally(2), now).is_some(), "whoever has members is listened for");
    }

    #[test]
    fn older_owners_and_foreign_batches_are_not_heard() {
        let (mut table, mut inbox) = table();
        let now = Instant::now();
        table.join(&id(), somebody());
        for epoch in [7, 9, 8, 9] {
            table.route(&id(), &batch(epoch, RoomClass::Normal, vec![]), now);
        }
        assert_eq!(take(&mut inbox).len(), 3);
        table.join(&"r2".parse().unwrap(), somebody());
        let (listening, to_open) = table.join(&"r3".parse().unwrap(), somebody());
        assert!(to_open.is_none() && matches!(&*listening.borrow(), Listening::Failed(_)), "two at most");
        table.route(&"r2".parse().unwrap(), &batch(9, RoomClass::Normal, vec![]), now);
        table.route(&id(), b"nonsense", now);
        assert_eq!(take(&mut inbox).len(), 0);
        table.route(&id(), &batch(9, RoomClass::Normal, vec![RoomOrder::Recount]), now);
        table.tally(0, tally(3), now);
        let reports = table.presence.answers();
        assert_eq!((reports.len(), reports[0].whole, reports[0].rooms[0].members), (1, true, 3));
    }

    #[test]
    fn what_a_shard_has_no_room_for_is_a_gap_and_no_order_is_lost() {
        let (mut table, mut inbox) = table();
        let now = Instant::now();
        table.join(&id(), somebody());
        let high = batch(7, RoomClass::High, vec![]);
        let sent = 16_384;
        for _ in 0..sent + 5 {
            table.route(&id(), &high, now);
        }
        let kick = RoomOrder::Kick { user: "ann".parse().unwrap() };
        table.route(&id(), &batch(7, RoomClass::High, vec![kick.clone()]), now);
        let oversee = RoomOrder::Oversee { user: "ben".parse().unwrap(), overseer: true };
        table.route(&id(), &batch(7, RoomClass::Low, vec![oversee.clone()]), now);
        table.tick(now);
        let taken = take(&mut inbox);
        assert_eq!(taken.len(), sent + 1);
        assert!(taken.iter().all(|delivery| delivery.orders.is_empty()), "behind those that wait");
        table.tick(now);
        let told = take(&mut inbox);
        assert_eq!((told.len(), &told[0].orders[..]), (1, &[kick, oversee][..]));
        let form = told[0].frames[0].form(Dialect::TcpPack);
        let ServerFrame::Gap(gap) = ServerFrame::decode(Encoding::MessagePack, &form[4..]).unwrap() else { panic!() };
        assert_eq!((gap.room, gap.high, gap.normal, gap.low), (Some(id()), 6, 0, 0));
        table.tick(now);
        assert_eq!(take(&mut inbox).len(), 0);
    }
}
