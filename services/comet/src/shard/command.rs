//! What a shard is told, and through which queues.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use pushmesh_protocol::{
    Partition, PushId, RoomId, UserId,
    frame::{self, KickReason},
    message::Epoch,
    room::RoomOrder,
};
use tokio::sync::oneshot;
use tracing::Span;

use crate::{
    address::Address,
    lane::Class,
    queue::{Receiver, Sender, Weigh, queue},
    room::frame::Frame,
    shard::outlet::SessionNote,
};

/// Answers and orders that wait for one shard, and their bytes; senders wait where they are full.
const URGENT: (usize, u32) = (4096, 32 << 20);
/// Batches of deliveries that wait for one shard, and their bytes; more are dropped and counted, and their pushes sent again.
const DELIVERIES: (usize, u32) = (1024, 64 << 20);
/// Bytes of rooms' batches that wait for one shard, by class; of more, or of more batches than are configured, the room's
/// members are told that they have a gap.
const ROOMS_BYTES: [u32; Class::ALL.len()] = [64 << 20, 32 << 20, 16 << 20];
/// What is taken from one queue before sockets and the other queues get their turn.
const IN_A_ROW: usize = 64;
/// What an entry costs besides what it carries, roughly.
const ENTRY_BYTES: usize = 128;

/// One thing to do.
#[derive(Debug)]
pub enum Urgent {
    /// The answer to a connection's question.
    Answer {
        to: Address,
        frame: Bytes,
    },
    /// The answer to a connection's JOIN.
    Joined(Box<Joined>),
    NotJoined(Box<NotJoined>),
    StopAccepting,
    /// Tells up to `count` connections to go elsewhere and closes them.
    Goodbye {
        count: usize,
        after_most_ms: u32,
    },
    /// In which rooms these connections are, or are about to be.
    RoomsOf(Vec<Address>, oneshot::Sender<Vec<RoomId>>),
    /// All sessions there are now.
    Sessions(oneshot::Sender<Vec<SessionNote>>),
    /// Sessions that were put again; answered by those that are gone meanwhile.
    Renewed(Vec<(Address, Renewal)>, oneshot::Sender<Vec<Address>>),
    #[cfg(feature = "bench-floor")]
    Floor(Box<crate::floor::Order>),
    Stop,
}

#[derive(Debug, Clone, Copy)]
pub struct Renewal {
    pub revision: u64,
    pub comet_epoch: Epoch,
}

/// A connection is in a room.
#[derive(Debug)]
pub struct Joined {
    pub to: Address,
    pub room: RoomId,
    /// Which of the connection's JOINs is answered.
    pub attempt: u32,
    /// JOINED, framed for the connection.
    pub first: Bytes,
    /// What was missed, shared by all who missed the same.
    pub missed: Arc<[Bytes]>,
    /// A JOINED that says that what was missed does not follow: for a connection that has no room for it.
    pub instead: Bytes,
    pub overseer: bool,
}

/// A connection is not in a room, or no better in it than before.
#[derive(Debug)]
pub struct NotJoined {
    pub to: Address,
    pub room: RoomId,
    pub attempt: u32,
    pub error: frame::Error,
}

/// What one message off the bus brings to one shard: one send, one wake.
#[derive(Debug)]
pub struct Batch {
    pub received: Instant,
    pub deliveries: Vec<Delivery>,
}

#[derive(Debug)]
pub struct Delivery {
    pub to: Address,
    pub what: What,
    /// Ends when the socket has the frame; only sampled deliveries have one.
    pub span: Option<Box<Span>>,
}

#[derive(Debug)]
pub enum What {
    /// A push: encoded and framed for the connection's dialect.
    Push {
        frame: Bytes,
        receipt: Receipt,
    },
    Kick(KickReason),
}

/// What a push that could not be delivered is answered with.
#[derive(Debug, Clone)]
pub struct Receipt {
    pub partition: Partition,
    pub user: UserId,
    pub push: PushId,
}

/// Frames for the members of a room, and then orders.
#[derive(Debug, Clone)]
pub struct RoomDelivery {
    pub room: RoomId,
    pub frames: Arc<[Arc<Frame>]>,
    pub orders: Arc<[RoomOrder]>,
}

impl Weigh for Urgent {
    fn weight(&self) -> usize {
        ENTRY_BYTES
            + match self {
                Self::Answer { frame, .. } => frame.len(),
                // What was missed belongs to many; here each has its handles.
                Self::Joined(joined) => joined.first.len() + joined.instead.len() + size_of_val(&*joined.missed),
                Self::RoomsOf(addresses, _) => size_of_val(addresses.as_slice()),
                Self::Renewed(renewals, _) => renewals.len() * size_of::<(Address, Renewal)>(),
                #[cfg(feature = "bench-floor")]
                Self::Floor(_) => 0,
                Self::NotJoined(_) | Self::StopAccepting | Self::Goodbye { .. } | Self::Sessions(_) | Self::Stop => 0,
            }
    }
}

impl Weigh for Batch {
    fn weight(&self) -> usize {
        let of_one = |delivery: &Delivery| match &delivery.what {
            What::Push { frame, .. } => 2 * ENTRY_BYTES + frame.len(),
            What::Kick(_) => ENTRY_BYTES,
        };
        self.deliveries.iter().map(of_one).sum()
    }
}

impl Weigh for RoomDelivery {
    fn weight(&self) -> usize {
        let frames: usize = self.frames.iter().map(|frame| ENTRY_BYTES + frame.bytes()).sum();
        ENTRY_BYTES * (1 + self.orders.len()) + frames
    }
}

/// The sending ends of one shard's queues.
#[derive(Debug, Clone)]
pub struct Queues {
    pub urgent: Sender<Urgent>,
    pub deliveries: Sender<Batch>,
    /// By class.
    pub rooms: [Sender<RoomDelivery>; Class::ALL.len()],
}

/// The receiving ends.
#[derive(Debug)]
pub struct Inbox {
    urgent: Receiver<Urgent>,
    deliveries: Receiver<Batch>,
    rooms: [Receiver<RoomDelivery>; Class::ALL.len()],
}

/// `rooms`: batches of class high that wait.
pub fn queues(rooms: u32) -> (Queues, Inbox) {
    let (urgent, urgent_rx) = queue(URGENT.0, URGENT.1);
    let (deliveries, deliveries_rx) = queue(DELIVERIES.0, DELIVERIES.1);
    let of_rooms = |class: Class, share: u32| queue(rooms.div_ceil(share) as usize, ROOMS_BYTES[class as usize]);
    let (high, normal, low) = (of_rooms(Class::High, 1), of_rooms(Class::Normal, 2), of_rooms(Class::Low, 4));
    (
        Queues { urgent, deliveries, rooms: [high.0, normal.0, low.0] },
        Inbox { urgent: urgent_rx, deliveries: deliveries_rx, rooms: [high.1, normal.1, low.1] },
    )
}

/// What was taken out of the queues together.
#[derive(Debug, Default)]
pub struct Work {
    pub urgent: Vec<Urgent>,
    pub batches: Vec<Batch>,
    /// Of class high first.
    pub rooms: Vec<RoomDelivery>,
}

impl Work {
    pub fn is_empty(&self) -> bool {
        self.urgent.is_empty() && self.batches.is_empty() && self.rooms.is_empty()
    }
}

/// Nobody will send any more.
#[derive(Debug)]
pub struct Closed;

impl Inbox {
    /// Takes what is there, a bounded number from each queue: none starves another. `appetite`: whether rooms' batches of a
    /// class are taken now.
    pub fn take(&mut self, work: &mut Work, appetite: [bool; Class::ALL.len()]) {
        fill(&mut self.urgent, &mut work.urgent);
        fill(&mut self.deliveries, &mut work.batches);
        for (rooms, is_taken) in self.rooms.iter_mut().zip(appetite) {
            if is_taken {
                fill(rooms, &mut work.rooms);
            }
        }
    }

    /// Waits for one thing to do. Cancel safe.
    pub async fn wait(&mut self, work: &mut Work, appetite: [bool; Class::ALL.len()]) -> Result<(), Closed> {
        let [high, normal, low] = &mut self.rooms;
        tokio::select! {
            biased;
            urgent = self.urgent.recv() => work.urgent.push(urgent.ok_or(Closed)?),
            Some(batch) = self.deliveries.recv() => work.batches.push(batch),
            Some(room) = high.recv(), if appetite[Class::High as usize] => work.rooms.push(room),
            Some(room) = normal.recv(), if appetite[Class::Normal as usize] => work.rooms.push(room),
            Some(room) = low.recv(), if appetite[Class::Low as usize] => work.rooms.push(room),
        }
        Ok(())
    }
}

fn fill<T: Weigh>(from: &mut Receiver<T>, into: &mut Vec<T>) {
    into.extend(std::iter::from_fn(|| from.try_recv()).take(IN_A_ROW));
}
