//! A message of PUSH.

use pushmesh_bus::Delivered;
use pushmesh_protocol::{Partition, Partitions, message::PushOrder, wire};
use pushmesh_telemetry::span::{self, Role};

use crate::desk::Event;

/// Why a message is no order.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    #[error(transparent)]
    Wire(#[from] wire::WireError),
    #[error("user: {user} belongs to partition {of}, not {here}")]
    Partition { user: String, of: Partition, here: Partition },
}

/// Reads it. Its processing is a span of the push's trace, and the context that travels on.
///
/// What an earlier owner was given counts as sent once.
pub fn read(
    delivered: &Delivered,
    partition: Partition,
    partitions: Partitions,
    delivered_before: u64,
) -> Result<Event, Malformed> {
    let mut order: PushOrder = wire::decode(&delivered.payload)?;
    let of = partitions.of_user(order.user());
    if of != partition {
        return Err(Malformed::Partition { user: order.user().to_string(), of, here: partition });
    }
    let trace = match &mut order {
        PushOrder::Deliver(delivery) => Some(&mut delivery.trace),
        PushOrder::Withdraw(withdrawal) => Some(&mut withdrawal.trace),
        PushOrder::LoginEnded(_) => None,
    };
    if let Some(trace) = trace {
        let process =
            span::child("process pm.v1.push.order.{p}.{user}", Role::Consumer, trace.take().or(delivered.trace));
        *trace = span::context(&process);
    }
    Ok(Event::Order {
        sequence: delivered.sequence,
        order,
        stored_at: delivered.at,
        delivered_before: delivered.sequence <= delivered_before,
    })
}
