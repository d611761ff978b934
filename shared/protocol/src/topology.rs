//! What has to be provisioned on a NATS server, as typed specs; `shared/bus` makes it so.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    id::Kind,
    name::{Bucket, Consumer, Filter, Stream},
    partition::Partitions,
};

/// The priority group under which a partition's consumer is pinned to its owner.
pub const PIN_GROUP: &str = "owner";

/// How long gifts and chat can be read again: longer than a gift's marker is needed.
pub const ROOM_HIGH_AGE: Duration = Duration::from_secs(2 * 3600);
pub const ROOM_NORMAL_AGE: Duration = Duration::from_secs(24 * 3600);
/// A total of likes that did not change for so long is in every snapshot.
pub const ROOM_LOW_AGE: Duration = Duration::from_secs(10 * 60);
/// How old a gift's key may be.
pub const GIFT_WINDOW: Duration = Duration::from_secs(3600);
/// How long the marker of a used key stays: the window, and the most that clocks may differ.
pub const GIFT_MARKER_AGE: Duration = Duration::from_secs(62 * 60);

/// A deployment's choices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TopologyConfig {
    /// How many partitions work is cut into: 1 to 1024, fixed once provisioned. Default 64.
    #[schemars(with = "u16")]
    pub partitions: Partitions,
    /// The push kinds. Default group, discuss, org.
    pub kinds: Vec<Kind>,
    /// Copies of every stream and bucket: 1 on a laptop, 3 in a cluster. Default 1.
    pub replicas: u8,
    /// Bytes that LOGIN, PUSH and each LATE may hold before new messages are refused. Default 1 GiB.
    pub stream_max_bytes: u64,
}

impl Default for TopologyConfig {
    fn default() -> Self {
        Self {
            partitions: Partitions::default(),
            kinds: ["group", "discuss", "org"].map(|kind| Kind::new(kind).expect("a token")).to_vec(),
            replicas: 1,
            stream_max_bytes: 1 << 30,
        }
    }
}

/// Everything a mesh needs on its server.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    pub config: TopologyConfig,
    pub streams: Vec<StreamSpec>,
    pub consumers: Vec<ConsumerSpec>,
    pub buckets: Vec<BucketSpec>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct StreamSpec {
    pub name: Stream,
    pub subject: Filter,
    pub retention: Retention,
    pub storage: Storage,
    /// When full: refuse the new message, or drop the oldest.
    pub when_full: WhenFull,
    pub max_bytes: u64,
    /// `None`: kept until read, or for ever.
    pub max_age: Option<Duration>,
    /// `None`: no limit.
    pub max_messages_per_subject: Option<u32>,
    pub duplicate_window: Duration,
    pub max_consumers: u32,
    pub replicas: u8,
    /// Copies every stored message to `pm.v1.tap.<stream>.…` for live taps.
    pub tap: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// A message is gone once its consumer acknowledged it.
    WorkQueue,
    /// A message is gone by age and limits alone.
    Limits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    File,
    Memory,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    Refuse,
    DropOldest,
}

/// A durable pull consumer of one partition, pinned to one client of [`PIN_GROUP`].
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerSpec {
    pub stream: Stream,
    pub name: Consumer,
    pub filter: Filter,
    pub max_ack_pending: u32,
    pub ack_wait: Duration,
    /// How long a silent pinned client keeps its pin.
    pub pin_timeout: Duration,
    pub replicas: u8,
}

#[derive(Debug, Clone, PartialEq)]
pub struct BucketSpec {
    pub name: Bucket,
    pub max_bytes: u64,
    /// How long the marker of an expired or purged key stays; keys may have a lifetime of their own.
    pub marker_lifetime: Duration,
    pub replicas: u8,
}

/// The streams, consumers and buckets of a mesh.
pub fn topology(config: &TopologyConfig) -> Topology {
    let mut all = Topology { config: config.clone(), streams: vec![], consumers: vec![], buckets: vec![] };
    all.work_queue(Stream::LOGIN, Filter::login_records(), Filter::login_records_of);
    all.work_queue(Stream::PUSH, Filter::pushes(), Filter::pushes_of);
    for kind in &config.kinds {
        all.work_queue(Stream::late(kind), Filter::late(kind), |p| Filter::late_of(kind, p));
        all.streams.push(StreamSpec {
            retention: Retention::Limits,
            max_messages_per_subject: Some(1),
            max_consumers: 100_000,
            ..all.stream(Stream::directory(kind), Filter::directory(kind))
        });
        all.bucket(Bucket::calls(kind));
    }
    all.streams.push(StreamSpec {
        retention: Retention::Limits,
        when_full: WhenFull::DropOldest,
        max_age: Some(Duration::from_secs(7 * 24 * 3600)),
        ..all.stream(Stream::DEAD, Filter::dead())
    });
    all.rooms();
    all.bucket(Bucket::MESH);
    all.bucket(Bucket::SESSIONS);
    all.bucket(Bucket::PENDING);
    all.bucket(Bucket::LEDGER);
    all.bucket(Bucket::ROOMS);
    all.bucket(Bucket::MUTES);
    all
}

impl Topology {
    /// What all streams and buckets on `storage` may take together, in bytes on each server that holds a copy.
    pub fn bounds(&self, storage: Storage) -> u64 {
        let streams = self.streams.iter().filter(|stream| stream.storage == storage).map(|stream| stream.max_bytes);
        let buckets = self.buckets.iter().filter(|_| storage == Storage::File).map(|bucket| bucket.max_bytes);
        streams.chain(buckets).sum()
    }

    fn stream(&self, name: Stream, subject: Filter) -> StreamSpec {
        StreamSpec {
            name,
            subject,
            retention: Retention::WorkQueue,
            storage: Storage::File,
            when_full: WhenFull::Refuse,
            max_bytes: self.config.stream_max_bytes,
            max_age: None,
            max_messages_per_subject: None,
            duplicate_window: Duration::from_secs(120),
            max_consumers: u32::from(self.config.partitions.count()) + 64,
            replicas: self.config.replicas,
            tap: false,
        }
    }

    fn work_queue(&mut self, name: Stream, subject: Filter, filter: impl Fn(crate::Partition) -> Filter) {
        self.streams.push(StreamSpec { tap: true, ..self.stream(name.clone(), subject) });
        for partition in self.config.partitions.all() {
            self.consumers.push(ConsumerSpec {
                stream: name.clone(),
                name: Consumer::of_partition(partition),
                filter: filter(partition),
                // 64 would stall all kinds while one is silent.
                max_ack_pending: 2048,
                ack_wait: Duration::from_secs(60),
                pin_timeout: Duration::from_secs(10),
                replicas: self.config.replicas,
            });
        }
    }

    /// What rooms are told. Owners and other teams read with consumers of their own, so retention is by limits: high refuses
    /// when it is full, since what it accepted must not be lost; the others drop their oldest.
    fn rooms(&mut self) {
        let high = StreamSpec {
            retention: Retention::Limits,
            max_age: Some(ROOM_HIGH_AGE),
            // Each owner reads a partition with several consumers, and other teams have theirs.
            max_consumers: 4 * u32::from(self.config.partitions.count()) + 1024,
            ..self.stream(Stream::ROOM_HIGH, Filter::room_high())
        };
        let normal = StreamSpec {
            name: Stream::ROOM_NORMAL,
            subject: Filter::room_normal(),
            when_full: WhenFull::DropOldest,
            max_age: Some(ROOM_NORMAL_AGE),
            ..high.clone()
        };
        let low = StreamSpec {
            name: Stream::ROOM_LOW,
            subject: Filter::room_low(),
            when_full: WhenFull::DropOldest,
            // Copies make up for what one server forgets.
            storage: if self.config.replicas > 1 { Storage::Memory } else { Storage::File },
            max_age: Some(ROOM_LOW_AGE),
            max_messages_per_subject: Some(1),
            ..high.clone()
        };
        self.streams.extend([high, normal, low]);
    }

    fn bucket(&mut self, name: Bucket) {
        self.buckets.push(BucketSpec {
            name,
            max_bytes: self.config.stream_max_bytes,
            marker_lifetime: Duration::from_secs(60),
            replicas: self.config.replicas,
        });
    }
}
