//! What the engine does with an order, whatever it says: its message, and the trace it carries.

use pushmesh_bus::Outgoing;
use pushmesh_protocol::{
    Partition, TraceContext,
    message::PushOrder,
    name::{MessageId, Subject},
    wire,
};

pub(crate) fn outgoing(partition: Partition, order: &PushOrder) -> Outgoing {
    let id = match order {
        PushOrder::Deliver(delivery) => MessageId::push(delivery.id),
        PushOrder::Withdraw(withdrawal) => MessageId::push(withdrawal.id),
        PushOrder::LoginEnded(ended) => {
            MessageId::login_ended(&ended.kind, &ended.user, &ended.login_id, ended.by.as_ref())
        }
    };
    let subject = Subject::push(partition, order.user());
    // Its context travels in the payload: a header of its own would halve the rate.
    Outgoing { subject, payload: wire::encode(order).into(), id, trace: None }
}

pub(crate) fn trace_of(order: &PushOrder) -> Option<TraceContext> {
    match order {
        PushOrder::Deliver(delivery) => delivery.trace,
        PushOrder::Withdraw(withdrawal) => withdrawal.trace,
        PushOrder::LoginEnded(_) => None,
    }
}

pub(crate) fn set_trace(order: &mut PushOrder, trace: Option<TraceContext>) {
    match order {
        PushOrder::Deliver(delivery) => delivery.trace = trace,
        PushOrder::Withdraw(withdrawal) => withdrawal.trace = trace,
        PushOrder::LoginEnded(_) => {}
    }
}
