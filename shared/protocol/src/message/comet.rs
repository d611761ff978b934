//! What ack-retry sends to comets, and what they answer.

use serde::{Deserialize, Serialize};

use super::Epoch;
use crate::{
    frame::{CallEnded, Kick, Push},
    id::{ConnId, Instance, PushId, UserId},
    partition::Partition,
    trace::TraceContext,
};

/// To a comet's inbox: frames for its connections, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CometBatch {
    pub items: Vec<CometItem>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CometItem {
    pub partition: Partition,
    /// The sender's lease of the partition: a comet drops older ones, and says so.
    pub epoch: Epoch,
    pub user: UserId,
    pub conn_id: ConnId,
    pub order: CometOrder,
    pub trace: Option<TraceContext>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum CometOrder {
    Push(Push),
    CallEnded(CallEnded),
    Kick(Kick),
}

/// From a comet to the owner of a partition, on its ack subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AckBatch {
    pub comet: Instance,
    pub comet_epoch: Epoch,
    pub items: Vec<AckItem>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AckItem {
    pub user: UserId,
    pub conn_id: ConnId,
    pub push: PushId,
    pub outcome: AckOutcome,
    /// The comet's delivery span, for the settling one.
    pub trace: Option<TraceContext>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AckOutcome {
    /// The client has it.
    Acked,
    /// The comet has no such connection: the transmission does not count.
    Gone,
    /// The comet has seen a newer epoch of the partition.
    Fenced,
}
