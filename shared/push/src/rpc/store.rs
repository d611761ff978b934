//! A kind's directory, where it is kept: the stream `DIR_<kind>`, one message for each membership.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use pushmesh_bus::{Bus, ConsumeError, Outgoing, StoreError, Stored, StreamEvent};
use pushmesh_membership::Membership as Me;
use pushmesh_protocol::{
    Instance, Kind, Partitions, Token, Unit, UserId,
    message::{Epoch, Membership},
    name::{Filter, MessageId, Stream, Subject, parse},
    wire,
};

use crate::{clock, kind::PushKind};

/// Longest a list may take to be read.
const READ_MAX: Duration = Duration::from_secs(5);

/// A removal is an empty message: it goes by itself when every owner has long read it.
const REMOVAL_LIFETIME: Duration = Duration::from_secs(3600);

#[derive(Clone)]
pub(crate) struct DirectoryStore {
    bus: Bus,
    kind: Kind,
    partitions: Partitions,
    /// Who writes, in which of its lives, and how many changes it made: a change's id.
    writer: Instance,
    life: Epoch,
    changes: Arc<AtomicU64>,
}

impl DirectoryStore {
    pub(crate) fn new(bus: &Bus, kind: &dyn PushKind, partitions: Partitions, me: &Me) -> Self {
        Self {
            bus: bus.clone(),
            kind: kind.kind().clone(),
            partitions,
            writer: me.me().instance.clone(),
            life: me.epoch(),
            changes: Arc::default(),
        }
    }

    pub(crate) async fn upsert(&self, unit: &Unit, members: Vec<(UserId, Option<Token>)>) -> Result<(), StoreError> {
        let at = clock::now();
        let message = |(user, role)| self.change(&user, unit, wire::encode(&Membership { role, at }).into());
        let messages = members.into_iter().map(message).collect();
        let results = self.bus.store_all(&Stream::directory(&self.kind), messages).await;
        results.into_iter().try_for_each(|result| result.map(drop))
    }

    pub(crate) async fn remove(&self, unit: &Unit, users: Vec<UserId>) -> Result<(), StoreError> {
        let results = self.store_removals(users.into_iter().map(|user| (user, unit.clone())).collect()).await;
        results.into_iter().try_for_each(|result| result.map(drop))
    }

    /// Removes memberships of any units; one result each.
    pub(crate) async fn store_removals(&self, memberships: Vec<(UserId, Unit)>) -> Vec<Result<Stored, StoreError>> {
        let messages = memberships.iter().map(|(user, unit)| self.change(user, unit, Bytes::new())).collect();
        self.bus.store_all_for(&Stream::directory(&self.kind), messages, REMOVAL_LIFETIME).await
    }

    /// A user's units, with his role in each.
    pub(crate) async fn memberships(&self, user: &UserId) -> Result<Vec<(Unit, Option<Token>)>, ConsumeError> {
        let partition = self.partitions.of_user(user);
        let found = self.read(Filter::directory_of_user(&self.kind, partition, user)).await?;
        let role = |(subject, membership): (String, Membership)| {
            parse::directory(&subject).map(|(_, _, _, unit)| (unit, membership.role))
        };
        Ok(found.into_iter().filter_map(role).collect())
    }

    pub(crate) async fn members(&self, unit: &Unit) -> Result<BTreeSet<UserId>, ConsumeError> {
        let found = self.read(Filter::directory_of_unit(&self.kind, unit)).await?;
        Ok(found.keys().filter_map(|subject| parse::directory(subject)).map(|(_, _, user, _)| user).collect())
    }

    fn change(&self, user: &UserId, unit: &Unit, payload: Bytes) -> Outgoing {
        let number = self.changes.fetch_add(1, Ordering::Relaxed);
        Outgoing {
            subject: Subject::directory(&self.kind, self.partitions.of_user(user), user, unit),
            payload,
            id: MessageId::directory(&self.writer, self.life, number),
            trace: None,
        }
    }

    /// What stands in the stream now, by subject, removals left out.
    async fn read(&self, filter: Filter) -> Result<BTreeMap<String, Membership>, ConsumeError> {
        let read = async {
            let mut watch = self.bus.watch_stream(&Stream::directory(&self.kind), filter).await?;
            let mut found = BTreeMap::new();
            loop {
                match watch.next().await {
                    Some(StreamEvent::Message { subject, payload, .. }) => match wire::decode(&payload) {
                        Ok(membership) => drop(found.insert(subject, membership)),
                        // A removal is empty.
                        Err(_) => drop(found.remove(&subject)),
                    },
                    Some(StreamEvent::Restarted) => found.clear(),
                    Some(StreamEvent::CaughtUp) => return Ok(found),
                    None => return Err(ConsumeError::Outage("the connection is closed".to_owned())),
                }
            }
        };
        let late = |_| Err(ConsumeError::Outage(format!("the directory was not read within {READ_MAX:?}")));
        tokio::time::timeout(READ_MAX, read).await.unwrap_or_else(late)
    }
}
