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

/// How long gifts and chat can be read again, unless a deployment says otherwise: longer than a gift's marker is needed.
pub const ROOM_HIGH_AGE: Duration = Duration::from_secs(2 * 3600);
pub const ROOM_NORMAL_AGE: Duration = Duration::from_secs(24 * 3600);
/// A total of likes that did not change for so long is in every snapshot.
pub const ROOM_LOW_AGE: Duration = Duration::from_secs(10 * 60);
/// How long a stream knows the ids of what it took; none may forget a message before.
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// The oldest that a deployment may let the streams of rooms become: what is stored of a room is kept for longer.
pub const ROOM_AGE_MAX: Duration = Duration::from_secs(24 * 3600);
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
    /// Bytes that each stream and bucket may hold for which nothing else is said here. Default 1 GiB. Full, buckets, LOGIN,
    /// PUSH, each LATE and each directory refuse what is new; DEAD drops its oldest.
    pub stream_max_bytes: u64,
    /// ROOM_HIGH: gifts, chat, markers of gifts' keys. Full, it refuses what is new. Default `stream_max_bytes` and 2 h; at
    /// least 62 min, as long as a marker is needed.
    pub room_high: RoomStream,
    /// ROOM_NORMAL: state, mutes, roles, kicks, rankings. Full, it drops its oldest. Default `stream_max_bytes` and 24 h; at
    /// least 2 min.
    pub room_normal: RoomStream,
    /// ROOM_LOW: totals of likes, notes. Full, it drops its oldest. Default `stream_max_bytes` and 10 min; at least 2 min, in
    /// which the room's owner, or the next one, has read a total.
    pub room_low: RoomStream,
}

/// What one of the rooms' streams may hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RoomStream {
    /// Bytes. Default as the others.
    pub max_bytes: Option<u64>,
    /// For how long: at most 24 h. Default the stream's own.
    pub max_age: Option<Duration>,
}

/// A setting that no mesh can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{stream} can't keep messages for {age:?}; it must be {min:?} to {max:?}")]
pub struct BadAge {
    pub stream: Stream,
    pub age: Duration,
    pub min: Duration,
    pub max: Duration,
}

impl Default for TopologyConfig {
    fn default() -> Self {
        Self {
            partitions: Partitions::default(),
            kinds: ["group", "discuss", "org"].map(|kind| Kind::new(kind).expect("a token")).to_vec(),
            replicas: 1,
            stream_max_bytes: 1 << 30,
            room_high: RoomStream::default(),
            room_normal: RoomStream::default(),
            room_low: RoomStream::default(),
        }
    }
}

impl TopologyConfig {
    /// What the types alone can't say.
    pub fn validate(&self) -> Result<(), BadAge> {
        let ages = [
            (Stream::ROOM_HIGH, &self.room_high, GIFT_MARKER_AGE),
            (Stream::ROOM_NORMAL, &self.room_normal, DUPLICATE_WINDOW),
            (Stream::ROOM_LOW, &self.room_low, DUPLICATE_WINDOW),
        ];
        for (stream, settings, min) in ages {
            if let Some(age) = settings.max_age.filter(|age| !(min..=ROOM_AGE_MAX).contains(age)) {
                return Err(BadAge { stream, age, min, max: ROOM_AGE_MAX });
            }
        }
        Ok(())
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
            duplicate_window: DUPLICATE_WINDOW,
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
        let TopologyConfig { room_high, room_normal, room_low, stream_max_bytes, .. } = &self.config;
        let bytes = |settings: &RoomStream| settings.max_bytes.unwrap_or(*stream_max_bytes);
        let age = |settings: &RoomStream, default| Some(settings.max_age.unwrap_or(default));
        let high = StreamSpec {
            retention: Retention::Limits,
            max_bytes: bytes(room_high),
            max_age: age(room_high, ROOM_HIGH_AGE),
            // Each owner reads a partition with several consumers, and other teams have theirs.
            max_consumers: 4 * u32::from(self.config.partitions.count()) + 1024,
            ..self.stream(Stream::ROOM_HIGH, Filter::room_high())
        };
        let normal = StreamSpec {
            name: Stream::ROOM_NORMAL,
            subject: Filter::room_normal(),
            when_full: WhenFull::DropOldest,
            max_bytes: bytes(room_normal),
            max_age: age(room_normal, ROOM_NORMAL_AGE),
            ..high.clone()
        };
        let low = StreamSpec {
            name: Stream::ROOM_LOW,
            subject: Filter::room_low(),
            when_full: WhenFull::DropOldest,
            // Copies make up for what one server forgets.
            storage: if self.config.replicas > 1 { Storage::Memory } else { Storage::File },
            max_bytes: bytes(room_low),
            max_age: age(room_low, ROOM_LOW_AGE),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn held(topology: &Topology, stream: &Stream) -> (u64, Option<Duration>) {
        let spec = topology.streams.iter().find(|spec| spec.name == *stream).unwrap();
        (spec.max_bytes, spec.max_age)
    }

    #[test]
    fn each_stream_of_rooms_has_a_size_and_an_age_of_its_own() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let default = topology(&TopologyConfig { stream_max_bytes: 7, ..TopologyConfig::default() });
        assert_eq!(held(&default, &Stream::ROOM_HIGH), (7, Some(hours(2))));
        assert_eq!(held(&default, &Stream::ROOM_NORMAL), (7, Some(hours(24))));
        assert_eq!(held(&default, &Stream::ROOM_LOW), (7, Some(Duration::from_secs(600))));
        let own = |bytes, age| RoomStream { max_bytes: Some(bytes), max_age: Some(hours(age)) };
        let config = TopologyConfig {
            stream_max_bytes: 7,
            room_high: own(1, 3),
            room_normal: own(2, 4),
            room_low: own(3, 5),
            ..TopologyConfig::default()
        };
        config.validate().unwrap();
        let all = topology(&config);
        assert_eq!(held(&all, &Stream::ROOM_HIGH), (1, Some(hours(3))));
        assert_eq!(held(&all, &Stream::ROOM_NORMAL), (2, Some(hours(4))));
        assert_eq!(held(&all, &Stream::ROOM_LOW), (3, Some(hours(5))));
        assert_eq!((held(&all, &Stream::LOGIN), held(&all, &Stream::PUSH)), ((7, None), (7, None)));
    }

    #[test]
    fn an_age_that_breaks_a_promise_is_refused() {
        let of = |secs| RoomStream { max_age: Some(Duration::from_secs(secs)), ..RoomStream::default() };
        let default = TopologyConfig::default;
        for (config, stream) in [
            (TopologyConfig { room_high: of(62 * 60 - 1), ..default() }, "ROOM_HIGH"),
            (TopologyConfig { room_normal: of(119), ..default() }, "ROOM_NORMAL"),
            (TopologyConfig { room_normal: of(86_401), ..default() }, "ROOM_NORMAL"),
            (TopologyConfig { room_low: of(0), ..default() }, "ROOM_LOW"),
        ] {
            let refused = config.validate().unwrap_err().to_string();
            assert!(refused.starts_with(&format!("{stream} can't keep messages for ")), "{refused}");
        }
        TopologyConfig { room_high: of(62 * 60), room_low: of(120), ..default() }.validate().unwrap();
    }
}
