//! A message of `LATE_<kind>`.

use std::sync::Arc;

use pushmesh_bus::Delivered;
use pushmesh_protocol::{
    Partition, Partitions,
    message::{Epoch, LateRecord, OnlineEntry},
    wire,
};
use pushmesh_telemetry::span;
use tracing::Span;

use super::Malformed;

/// The record as its kind gets it, under our own lease, and the span that is open until it has it.
pub fn read(
    delivered: &Delivered,
    partition: Partition,
    partitions: Partitions,
    epoch: Epoch,
) -> Result<(Arc<OnlineEntry>, Span), Malformed> {
    let LateRecord { mut record, sequence, .. } = wire::decode(&delivered.payload)?;
    let of = partitions.of_user(&record.user);
    if of != partition {
        return Err(Malformed::Misplaced { of, here: partition });
    }
    let process = span::child("process pm.v1.late.{kind}.{p}.{user}", span::Role::Consumer, record.trace);
    record.trace = span::context(&process).or(record.trace);
    Ok((Arc::new(OnlineEntry { partition, epoch, sequence, record }), process))
}
