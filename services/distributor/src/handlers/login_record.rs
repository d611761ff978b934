//! A message of LOGIN.

use std::sync::Arc;

use pushmesh_bus::Delivered;
use pushmesh_protocol::{
    Partition, Partitions,
    message::{Epoch, LoginRecord, OnlineEntry},
    wire,
};
use pushmesh_telemetry::span;
use tracing::Span;

use super::Malformed;

/// The record as every kind gets it, and the span that is open until all have it.
pub fn read(
    delivered: &Delivered,
    partition: Partition,
    partitions: Partitions,
    epoch: Epoch,
) -> Result<(Arc<OnlineEntry>, Span), Malformed> {
    let mut record: LoginRecord = wire::decode(&delivered.payload)?;
    let of = partitions.of_user(&record.user);
    if of != partition {
        return Err(Malformed::Misplaced { of, here: partition });
    }
    let process = span::child("process pm.v1.login.record.{p}.{user}", span::Role::Consumer, record.trace);
    // Where nothing is traced here, others still see whence it came.
    record.trace = span::context(&process).or(record.trace);
    Ok((Arc::new(OnlineEntry { partition, epoch, sequence: delivered.sequence, record }), process))
}
