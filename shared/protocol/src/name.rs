//! Every subject, stream, consumer, bucket, key and header, built and parsed here and nowhere else.
//!
//! A [`Subject`] is published to, a [`Filter`] subscribed to: two types, so that outside data never becomes
//! a wildcard. Subjects read `pm.v1.<domain>.<event>.<partition>.<id>`.

mod message_id;
pub mod parse;

use std::{borrow::Cow, fmt};

pub use message_id::MessageId;

use crate::{
    gift_key::GiftKey,
    id::{CallId, ConnId, Instance, Kind, PushId, RoomId, Token, Unit, UserId},
    message::{DeadReason, Epoch},
    partition::Partition,
};

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Cow<'static, str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// What a message is published to: no wildcard, no empty token.
    Subject,
    /// What is subscribed to.
    Filter,
    /// A JetStream stream.
    Stream,
    /// A durable consumer of a stream.
    Consumer,
    /// A key-value bucket.
    Bucket,
    /// A key in a bucket.
    Key,
    /// Which keys of a bucket are watched.
    KeyFilter,
    /// A queue group of core NATS.
    QueueGroup,
}

impl Subject {
    /// A record of the stream LOGIN.
    pub fn login_record(partition: Partition, user: &UserId) -> Self {
        Self(format!("pm.v1.login.record.{partition}.{user}").into())
    }

    /// Where comets report logins: a queue group of login-ingest.
    pub fn login_report() -> Self {
        Self("pm.v1.login.report".into())
    }

    /// A record that waits for one kind.
    pub fn late(kind: &Kind, partition: Partition, user: &UserId) -> Self {
        Self(format!("pm.v1.late.{kind}.{partition}.{user}").into())
    }

    /// Online batches to one instance of a push kind.
    pub fn online(kind: &Kind, instance: &Instance) -> Self {
        Self(format!("pm.v1.online.{kind}.{instance}").into())
    }

    /// A push on its way to ack-retry.
    pub fn push(partition: Partition, user: &UserId) -> Self {
        Self(format!("pm.v1.push.order.{partition}.{user}").into())
    }

    /// Frames for one comet's connections.
    pub fn comet(comet: &Instance) -> Self {
        Self(format!("pm.v1.comet.batch.{comet}").into())
    }

    /// Clients' acknowledgements of one partition.
    pub fn ack(partition: Partition) -> Self {
        Self(format!("pm.v1.ack.client.{partition}").into())
    }

    /// The question for a login's active calls, to the partition's owner in a kind.
    pub fn calls(kind: &Kind, partition: Partition) -> Self {
        Self(format!("pm.v1.calls.{kind}.{partition}").into())
    }

    /// A dead letter.
    pub fn dead(reason: DeadReason, partition: Partition, id: &Token) -> Self {
        Self(format!("pm.v1.dead.{}.{partition}.{id}", reason.token()).into())
    }

    /// A membership of a directory.
    pub fn directory(kind: &Kind, partition: Partition, user: &UserId, unit: &Unit) -> Self {
        Self(format!("pm.v1.dir.{kind}.{partition}.{user}.{}", unit.dotted()).into())
    }

    /// An application's code, as a comet's configuration names it.
    pub fn app(name: &Token) -> Self {
        Self(format!("pm.v1.app.{name}").into())
    }

    /// A member's heartbeat.
    pub fn heartbeat(service: &Token, instance: &Instance) -> Self {
        Self(format!("pm.v1.hb.{service}.{instance}").into())
    }

    /// A gift for a room.
    pub fn gift(partition: Partition, room: &RoomId) -> Self {
        Self(format!("pm.v1.room.high.gift.{partition}.{room}").into())
    }

    /// That a gift's key was used; `partition` is the key's own.
    pub fn gift_key(partition: Partition, key: &GiftKey) -> Self {
        Self(format!("pm.v1.room.high.key.{partition}.{key}").into())
    }

    /// Chat, danmaku and an application's own messages of class high.
    pub fn room_chat(partition: Partition, room: &RoomId) -> Self {
        Self(format!("pm.v1.room.high.chat.{partition}.{room}").into())
    }

    /// State, mutes, roles, kicks, and an application's own messages of class normal.
    pub fn room_event(partition: Partition, room: &RoomId) -> Self {
        Self(format!("pm.v1.room.normal.event.{partition}.{room}").into())
    }

    pub fn room_ranking(partition: Partition, room: &RoomId) -> Self {
        Self(format!("pm.v1.room.normal.ranking.{partition}.{room}").into())
    }

    /// The running total of likes that one life of an api instance has accepted.
    pub fn room_likes(partition: Partition, room: &RoomId, api: &Instance, life: Epoch) -> Self {
        Self(format!("pm.v1.room.low.likes.{partition}.{room}.{api}.{life}").into())
    }

    /// A note, a level-up, an application's own messages of class low.
    pub fn room_note(partition: Partition, room: &RoomId, id: &Token) -> Self {
        Self(format!("pm.v1.room.low.note.{partition}.{room}.{id}").into())
    }

    /// A room's frames, to the comets with a member in it.
    pub fn room_frame(partition: Partition, room: &RoomId) -> Self {
        Self(format!("pm.v1.room.frame.{partition}.{room}").into())
    }

    /// Questions about rooms, to the partition's owner.
    pub fn room_ask(partition: Partition) -> Self {
        Self(format!("pm.v1.room.ask.{partition}").into())
    }

    /// Comets' reports of who is in a partition's rooms.
    pub fn room_presence(partition: Partition) -> Self {
        Self(format!("pm.v1.room.presence.{partition}").into())
    }

    /// How full a comet is.
    pub fn comet_status(comet: &Instance) -> Self {
        Self(format!("pm.v1.comet.status.{comet}").into())
    }

    /// The question in which rooms connections of a comet are.
    pub fn comet_rooms(comet: &Instance) -> Self {
        Self(format!("pm.v1.comet.rooms.{comet}").into())
    }

    /// A reply subject below a connection's own inbox.
    pub fn reply(inbox: &str, token: u64) -> Self {
        Self(format!("{inbox}.{token:x}").into())
    }
}

impl From<Subject> for Filter {
    fn from(subject: Subject) -> Self {
        Self(subject.0)
    }
}

impl Filter {
    pub fn login_records() -> Self {
        Self("pm.v1.login.record.>".into())
    }

    pub fn login_records_of(partition: Partition) -> Self {
        Self(format!("pm.v1.login.record.{partition}.*").into())
    }

    pub fn late(kind: &Kind) -> Self {
        Self(format!("pm.v1.late.{kind}.>").into())
    }

    pub fn late_of(kind: &Kind, partition: Partition) -> Self {
        Self(format!("pm.v1.late.{kind}.{partition}.*").into())
    }

    pub fn pushes() -> Self {
        Self("pm.v1.push.order.>".into())
    }

    pub fn pushes_of(partition: Partition) -> Self {
        Self(format!("pm.v1.push.order.{partition}.*").into())
    }

    pub fn dead() -> Self {
        Self("pm.v1.dead.>".into())
    }

    pub fn directory(kind: &Kind) -> Self {
        Self(format!("pm.v1.dir.{kind}.>").into())
    }

    pub fn directory_of(kind: &Kind, partition: Partition) -> Self {
        Self(format!("pm.v1.dir.{kind}.{partition}.>").into())
    }

    /// All memberships of a user.
    pub fn directory_of_user(kind: &Kind, partition: Partition, user: &UserId) -> Self {
        Self(format!("pm.v1.dir.{kind}.{partition}.{user}.>").into())
    }

    /// All members of a unit, whatever their partition.
    pub fn directory_of_unit(kind: &Kind, unit: &Unit) -> Self {
        Self(format!("pm.v1.dir.{kind}.*.*.{}", unit.dotted()).into())
    }

    pub fn room_high() -> Self {
        Self("pm.v1.room.high.>".into())
    }

    pub fn room_normal() -> Self {
        Self("pm.v1.room.normal.>".into())
    }

    pub fn room_low() -> Self {
        Self("pm.v1.room.low.>".into())
    }

    pub fn gifts_of(partition: Partition) -> Self {
        Self(format!("pm.v1.room.high.gift.{partition}.*").into())
    }

    pub fn chats_of(partition: Partition) -> Self {
        Self(format!("pm.v1.room.high.chat.{partition}.*").into())
    }

    pub fn room_events_of(partition: Partition) -> Self {
        Self(format!("pm.v1.room.normal.event.{partition}.*").into())
    }

    /// Likes of a partition's rooms.
    pub fn likes_of(partition: Partition) -> Self {
        Self(format!("pm.v1.room.low.likes.{partition}.>").into())
    }

    /// Notes of a partition's rooms.
    pub fn notes_of(partition: Partition) -> Self {
        Self(format!("pm.v1.room.low.note.{partition}.>").into())
    }

    pub fn comet_statuses() -> Self {
        Self("pm.v1.comet.status.*".into())
    }

    pub fn heartbeats() -> Self {
        Self("pm.v1.hb.*.*".into())
    }

    /// All replies below a connection's own inbox.
    pub fn replies(inbox: &str) -> Self {
        Self(format!("{inbox}.*").into())
    }

    /// Where live taps read what a WorkQueue stream republishes.
    pub fn tap(stream: &Stream) -> Self {
        Self(format!("pm.v1.tap.{}.>", stream.as_str().to_lowercase()).into())
    }
}

impl Stream {
    pub const LOGIN: Stream = Stream(Cow::Borrowed("LOGIN"));
    pub const PUSH: Stream = Stream(Cow::Borrowed("PUSH"));
    pub const DEAD: Stream = Stream(Cow::Borrowed("DEAD"));
    pub const ROOM_HIGH: Stream = Stream(Cow::Borrowed("ROOM_HIGH"));
    pub const ROOM_NORMAL: Stream = Stream(Cow::Borrowed("ROOM_NORMAL"));
    pub const ROOM_LOW: Stream = Stream(Cow::Borrowed("ROOM_LOW"));

    pub fn late(kind: &Kind) -> Self {
        Self(format!("LATE_{kind}").into())
    }

    pub fn directory(kind: &Kind) -> Self {
        Self(format!("DIR_{kind}").into())
    }

    /// A stream that the server named, without a check: only what the server or a spec said enters here.
    pub fn from_server(text: &str) -> Self {
        Self(text.to_owned().into())
    }

    /// The stream behind a bucket.
    pub fn of_bucket(bucket: &Bucket) -> Self {
        Self(format!("KV_{bucket}").into())
    }
}

impl Consumer {
    /// The one durable consumer of a partition.
    pub fn of_partition(partition: Partition) -> Self {
        Self(format!("p{partition}").into())
    }
}

impl Bucket {
    pub const MESH: Bucket = Bucket(Cow::Borrowed("mesh"));
    pub const SESSIONS: Bucket = Bucket(Cow::Borrowed("sess"));
    pub const PENDING: Bucket = Bucket(Cow::Borrowed("pending"));
    /// Snapshots of rooms, and the ledger: written by room-fanout.
    pub const LEDGER: Bucket = Bucket(Cow::Borrowed("ledger"));
    /// State and roles: written by api.
    pub const ROOMS: Bucket = Bucket(Cow::Borrowed("rooms"));
    pub const MUTES: Bucket = Bucket(Cow::Borrowed("mutes"));

    pub fn calls(kind: &Kind) -> Self {
        Self(format!("call_{kind}").into())
    }
}

impl Key {
    /// What the mesh was provisioned with.
    pub fn mesh_info() -> Self {
        Self("info".into())
    }

    pub fn member(service: &Token, instance: &Instance) -> Self {
        Self(format!("m.{service}.{instance}").into())
    }

    pub fn lease(service: &Token, partition: Partition) -> Self {
        Self(format!("o.{service}.{partition}").into())
    }

    pub fn session(partition: Partition, user: &UserId, conn: &ConnId) -> Self {
        Self(format!("{partition}.{user}.{conn}").into())
    }

    /// What has become of the login that a session began with.
    pub fn session_login(partition: Partition, user: &UserId, conn: &ConnId) -> Self {
        Self(format!("{partition}.{user}.{conn}.login").into())
    }

    /// A token's `sid` that has begun a login.
    pub fn used_sid(partition: Partition, user: &UserId, sid: &Token) -> Self {
        Self(format!("used.{partition}.{user}.{sid}").into())
    }

    pub fn pending(partition: Partition, user: &UserId, push: PushId) -> Self {
        Self(format!("{partition}.{user}.{push}").into())
    }

    /// Where the last owner of a partition of PUSH stopped.
    pub fn hand_over(partition: Partition) -> Self {
        Self(format!("handover.{partition}").into())
    }

    pub fn call(call: &CallId) -> Self {
        Self(call.to_string().into())
    }

    /// Up to where a partition's rooms are all in their snapshots.
    pub fn checkpoint(partition: Partition) -> Self {
        Self(format!("p.{partition}").into())
    }

    pub fn room_snapshot(partition: Partition, room: &RoomId) -> Self {
        Self(format!("r.{partition}.{room}").into())
    }

    /// What one user has given in a room.
    pub fn ledger_row(partition: Partition, room: &RoomId, user: &UserId) -> Self {
        Self(format!("u.{partition}.{room}.{user}").into())
    }

    pub fn room_state(room: &RoomId) -> Self {
        Self(format!("state.{room}").into())
    }

    pub fn room_role(room: &RoomId, user: &UserId) -> Self {
        Self(format!("role.{room}.{user}").into())
    }

    pub fn mute_everywhere(user: &UserId) -> Self {
        Self(format!("all.{user}").into())
    }

    pub fn mute_in(room: &RoomId, user: &UserId) -> Self {
        Self(format!("in.{room}.{user}").into())
    }

    /// The subject that stores a bucket's key.
    pub fn subject(&self, bucket: &Bucket) -> Subject {
        Subject(format!("$KV.{bucket}.{self}").into())
    }

    /// The key that the server named, without a check: only what the server said enters here.
    pub fn from_server(text: &str) -> Self {
        Self(text.to_owned().into())
    }
}

impl KeyFilter {
    pub fn all() -> Self {
        Self(">".into())
    }

    /// All sessions with what stands beside them, or all pending pushes, of a partition.
    pub fn of_partition(partition: Partition) -> Self {
        Self(format!("{partition}.>").into())
    }

    /// All sessions with what stands beside them, or all pending pushes, of a user.
    pub fn of_user(partition: Partition, user: &UserId) -> Self {
        Self(format!("{partition}.{user}.>").into())
    }

    pub fn room_snapshots_of(partition: Partition) -> Self {
        Self(format!("r.{partition}.>").into())
    }

    /// What all users have given in a room.
    pub fn ledger_rows_in(partition: Partition, room: &RoomId) -> Self {
        Self(format!("u.{partition}.{room}.*").into())
    }

    pub fn members() -> Self {
        Self("m.>".into())
    }

    pub fn leases() -> Self {
        Self("o.>".into())
    }

    pub fn leases_of(service: &Token) -> Self {
        Self(format!("o.{service}.*").into())
    }
}

impl QueueGroup {
    pub const LOGIN_INGEST: QueueGroup = QueueGroup(Cow::Borrowed("login-ingest"));
}

/// Names of NATS headers.
pub mod header {
    pub const TRACEPARENT: &str = "traceparent";
    pub const MESSAGE_ID: &str = "Nats-Msg-Id";
    pub const TTL: &str = "Nats-TTL";
    pub const EXPECTED_LAST_SUBJECT_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
    pub const BATCH_ID: &str = "Nats-Batch-Id";
    pub const BATCH_SEQUENCE: &str = "Nats-Batch-Sequence";
    pub const BATCH_COMMIT: &str = "Nats-Batch-Commit";
}
