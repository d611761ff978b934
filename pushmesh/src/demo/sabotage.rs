//! A rogue on the bus that breaks the mesh on purpose, so that a demo can be seen to fail.

use anyhow::Context;
use pushmesh_bus::{Bus, Outgoing};
use pushmesh_protocol::{
    CallId, DeviceId, GiftKey, Kind, LoginId, Partitions, PushId, RoomId, Token, Unit, UserId,
    frame::Call,
    message::{AtEnd, Body, Delivery, Policy, PushOrder, Target, Withdrawal},
    name::{MessageId, Subject},
    room::Gift,
    wire,
};

use super::rooms::Present;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Sabotage {
    /// Withdraws some pushes before they are made: they are lost.
    Drop,
    /// Tells some calls again under another id.
    Dup,
    /// Tells some users of calls that are none of theirs.
    Extra,
    /// Stores some gifts a second time, past the marker of their key.
    Gift,
}

/// One in so many is broken.
const EVERY: u64 = 20;

pub struct Saboteur {
    bus: Bus,
    partitions: Partitions,
    kind: Sabotage,
    count: u64,
}

impl Saboteur {
    pub fn new(bus: Bus, partitions: Partitions, kind: Sabotage) -> Self {
        Self { bus, partitions, kind, count: 0 }
    }

    /// Before a login is reported, with the calls that it would be told.
    pub async fn before_login(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        login: &LoginId,
        calls: impl Iterator<Item = (Kind, CallId)>,
    ) -> anyhow::Result<()> {
        if !self.strikes() {
            return Ok(());
        }
        match self.kind {
            Sabotage::Dup | Sabotage::Gift => Ok(()),
            Sabotage::Extra => {
                let call = CallId::new(&format!("nobodys-{}", self.count)).expect("a token");
                self.deliver(user, Kind::new("group").expect("a token"), call).await
            }
            Sabotage::Drop => {
                for (kind, call_id) in calls {
                    let push = PushId::of_call(&kind, &call_id, user, login);
                    let order = PushOrder::Withdraw(Withdrawal {
                        id: push.withdrawal(),
                        push,
                        user: user.clone(),
                        login_id: login.clone(),
                        device: device.clone(),
                        kind,
                        call_id,
                        at: 0,
                        source: None,
                        trace: None,
                    });
                    self.store(user, order, push.withdrawal()).await?;
                }
                Ok(())
            }
        }
    }

    /// After a client showed a call.
    pub async fn after_shown(&mut self, user: &UserId, kind: &Kind, call: &CallId) -> anyhow::Result<()> {
        if self.kind == Sabotage::Dup && self.strikes() {
            self.deliver(user, kind.clone(), call.clone()).await?;
        }
        Ok(())
    }

    /// After a gift was answered.
    pub async fn after_given(&mut self, room: &RoomId, present: &Present) -> anyhow::Result<()> {
        if self.kind != Sabotage::Gift || !self.strikes() {
            return Ok(());
        }
        let gift = Gift {
            key: GiftKey::new(&present.key).context("a gift's key")?,
            room: room.clone(),
            from: present.from.clone(),
            to: None,
            gift: Token::new(present.gift).expect("a token"),
            count: present.count,
            value: present.value,
            note: Some(present.note.clone()),
            at: super::wall_millis(),
            trace: None,
        };
        let id = Token::new(&format!("sabotage-{}", self.count)).expect("a token");
        let message = Outgoing {
            subject: Subject::gift(self.partitions.of_room(room), room),
            payload: wire::encode(&gift).into(),
            id: MessageId::room(room, Some(&present.from), &id),
            trace: None,
        };
        self.bus.store(message).await.context("the saboteur can't reach the bus")?;
        Ok(())
    }

    fn strikes(&mut self) -> bool {
        self.count += 1;
        self.count.is_multiple_of(EVERY)
    }

    async fn deliver(&self, user: &UserId, kind: Kind, call_id: CallId) -> anyhow::Result<()> {
        let sender = Token::new("sabotage").expect("a token");
        let id = PushId::of_message(&sender, &self.count.to_string(), user);
        let call = Call { kind, call_id, unit: Unit::from(sender), started_at: 0, data: None };
        let order = PushOrder::Deliver(Delivery {
            id,
            user: user.clone(),
            target: Target::User,
            body: Body::Call(call),
            policy: Policy { at_end: AtEnd::Drop, lifetime_ms: 60_000 },
            at: super::wall_millis(),
            source: None,
            trace: None,
        });
        self.store(user, order, id).await
    }

    async fn store(&self, user: &UserId, order: PushOrder, id: PushId) -> anyhow::Result<()> {
        let message = Outgoing {
            subject: Subject::push(self.partitions.of_user(user), user),
            payload: wire::encode(&order).into(),
            id: MessageId::push(id),
            trace: None,
        };
        self.bus.store(message).await.context("the saboteur can't reach the bus")?;
        Ok(())
    }
}
