//! Every subject, stream, consumer, bucket, key and header, built and parsed here and nowhere else.
//!
//! A [`Subject`] is published to, a [`Filter`] subscribed to: two types, so that outside data never becomes
//! a wildcard. Subjects read `pm.v1.<domain>.<event>.<partition>.<id>`.

use std::{borrow::Cow, fmt};

use crate::{
    id::{CallId, ConnId, Instance, Kind, PushId, Token, Unit, UserId},
    message::DeadReason,
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

    /// All sessions, or all pending pushes, of a partition.
    pub fn of_partition(partition: Partition) -> Self {
        Self(format!("{partition}.>").into())
    }

    /// All pending pushes of a user.
    pub fn of_user(partition: Partition, user: &UserId) -> Self {
        Self(format!("{partition}.{user}.>").into())
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

/// What dedupes a message within a stream's window.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageId(String);

impl MessageId {
    pub fn online(login: &crate::LoginId) -> Self {
        Self(format!("{login}.on"))
    }

    pub fn offline(login: &crate::LoginId) -> Self {
        Self(format!("{login}.off"))
    }

    /// An `offline` because of a timeout: one that ended nothing, because its user was back, must not hide a later one.
    pub fn timeout(login: &crate::LoginId, at: crate::message::Millis) -> Self {
        Self(format!("{login}.{at}.off"))
    }

    /// An `offline` that names no login.
    pub fn offline_all(user: &UserId, device: Option<&crate::DeviceId>, at: crate::message::Millis) -> Self {
        match device {
            Some(device) => Self(format!("{user}.{device}.{at}.off")),
            None => Self(format!("{user}..{at}.off")),
        }
    }

    /// A record that was late for a kind: by its sequence in LOGIN.
    pub fn late(sequence: u64) -> Self {
        Self(format!("late.{sequence}"))
    }

    pub fn push(id: PushId) -> Self {
        Self(id.to_string())
    }

    pub fn login_ended(kind: &Kind, login: &crate::LoginId) -> Self {
        Self(format!("{kind}.{login}.ended"))
    }

    /// A change of a directory: the writer's own count of them, in one of its lives. Two changes of one membership
    /// never share an id, one change that is stored again does.
    pub fn directory(writer: &Instance, life: crate::message::Epoch, number: u64) -> Self {
        Self(format!("dir.{writer}.{life}.{number}"))
    }

    pub fn dead(reason: DeadReason, source: &str) -> Self {
        Self(format!("{}.{source}", reason.token()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Parsers of the names that a service reads back.
pub mod parse {
    use super::*;

    fn partition(text: &str) -> Option<Partition> {
        text.parse().ok().map(Partition)
    }

    /// `<p>.<user>.<conn>`; `None` for the bucket's other keys.
    pub fn session(key: &str) -> Option<(Partition, UserId, ConnId)> {
        let mut parts = key.split('.');
        let found = (partition(parts.next()?)?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then_some(found)
    }

    /// `<p>.<user>.<push>`.
    pub fn pending(key: &str) -> Option<(Partition, UserId, PushId)> {
        let mut parts = key.split('.');
        let found = (partition(parts.next()?)?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        parts.next().is_none().then_some(found)
    }

    /// `m.<service>.<instance>`.
    pub fn member(key: &str) -> Option<(Token, Instance)> {
        let (service, instance) = key.strip_prefix("m.")?.split_once('.')?;
        Some((service.parse().ok()?, instance.parse().ok()?))
    }

    /// `o.<service>.<p>`.
    pub fn lease(key: &str) -> Option<(Token, Partition)> {
        let (service, number) = key.strip_prefix("o.")?.split_once('.')?;
        Some((service.parse().ok()?, partition(number)?))
    }

    pub fn heartbeat(subject: &str) -> Option<(Token, Instance)> {
        let (service, instance) = subject.strip_prefix("pm.v1.hb.")?.split_once('.')?;
        Some((service.parse().ok()?, instance.parse().ok()?))
    }

    pub fn directory(subject: &str) -> Option<(Kind, Partition, UserId, Unit)> {
        let mut parts = subject.strip_prefix("pm.v1.dir.")?.splitn(4, '.');
        let (kind, p, user) = (parts.next()?.parse().ok()?, partition(parts.next()?)?, parts.next()?.parse().ok()?);
        Some((kind, p, user, Unit::from_levels(parts.next()?.split('.')).ok()?))
    }

    /// The user of a LOGIN, LATE or PUSH subject: its last token.
    pub fn user(subject: &str) -> Option<UserId> {
        subject.rsplit('.').next()?.parse().ok()
    }
}
