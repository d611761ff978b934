//! Clients' acknowledgements, and comets' refusals.

use pushmesh_protocol::{
    message::{AckBatch, AckOutcome},
    wire,
};
use pushmesh_telemetry::span::{self, Role};

use crate::desk::Event;

/// Reads a batch, in its order.
pub fn read(payload: &[u8]) -> Result<impl Iterator<Item = Event>, wire::WireError> {
    let batch: AckBatch = wire::decode(payload)?;
    Ok(batch.items.into_iter().map(|item| {
        if item.outcome == AckOutcome::Acked {
            // The end of a push's way: as short as its settling.
            let _settle = span::child("settle pm.v1.ack.client.{p}", Role::Client, item.trace);
        }
        Event::Answer { user: item.user, conn: item.conn_id, push: item.push, outcome: item.outcome }
    }))
}
