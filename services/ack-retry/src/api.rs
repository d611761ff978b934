//! The gRPC service `Pushes`: any instance stores a push, any instance lists what waits for a user.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pushmesh_auth::{Door, Scope};
use pushmesh_bus::{Bus, Kv, KvError, KvEvent, Outgoing, StoreError};
use pushmesh_proto::v1::{
    ListPendingRequest, ListPendingResponse, PendingEntry, PushPolicy, PushRequest, PushResponse, pushes_server::Pushes,
};
use pushmesh_protocol::{
    Partitions, Payload, PushId, Token, UserId,
    frame::Message,
    message::{AtEnd, Body, Delivery, Millis, Pending, PendingState, Policy, PushOrder, Target},
    name::{KeyFilter, MessageId, Subject, parse},
    wire,
};
use pushmesh_telemetry::span::{self, Role};
use tonic::{Request, Response, Status, metadata::MetadataValue};

/// Longest id of a sender, in bytes.
pub const ID_MAX_BYTES: usize = 128;
/// Most data of a push, in bytes: below a client's frame limit.
pub const DATA_MAX_BYTES: usize = 16_384;
/// A push's lifetime where none is named.
pub const LIFETIME_DEFAULT: Duration = Duration::from_secs(24 * 3600);
/// The longest that may be named.
pub const LIFETIME_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Most entries of one list.
const LIST_MAX: usize = 10_000;
const LIST_WITHIN: Duration = Duration::from_secs(5);
/// When to try again what an outage prevented: gRPC's own trailer for it.
const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";
const RETRY_AFTER_MS: &str = "1000";

pub struct Api {
    pub bus: Bus,
    pub pending: Kv,
    pub partitions: Partitions,
    pub door: Door,
}

#[tonic::async_trait]
impl Pushes for Api {
    async fn push(&self, request: Request<PushRequest>) -> Result<Response<PushResponse>, Status> {
        self.door.check(request.metadata(), Scope::PushWrite)?;
        let parent = request.metadata().get("traceparent").and_then(|text| text.to_str().ok()?.parse().ok());
        let serve = span::root_or_child("push pushmesh.v1.Pushes/Push", Role::Server, parent);
        let mut delivery = delivery(request.into_inner(), now())?;
        let publish = span::child("publish pm.v1.push.order.{p}.{user}", Role::Producer, span::context(&serve));
        delivery.trace = span::context(&publish);
        let (id, trace) = (delivery.id, delivery.trace);
        let subject = Subject::push(self.partitions.of_user(&delivery.user), &delivery.user);
        let payload = wire::encode(&PushOrder::Deliver(delivery)).into();
        let outgoing = Outgoing { subject, payload, id: MessageId::push(id), trace };
        match self.bus.store(outgoing).await {
            Ok(_) => Ok(Response::new(PushResponse { push_id: id.to_string() })),
            Err(error) => {
                span::fail(&publish, &error);
                Err(unstored(&error))
            }
        }
    }

    async fn list_pending(
        &self,
        request: Request<ListPendingRequest>,
    ) -> Result<Response<ListPendingResponse>, Status> {
        self.door.check(request.metadata(), Scope::PushWrite)?;
        let user = UserId::new(&request.into_inner().user).map_err(|error| refused("user", error))?;
        let pending = tokio::time::timeout(LIST_WITHIN, self.list(&user))
            .await
            .map_err(|_| unavailable(format_args!("the bucket did not answer within {LIST_WITHIN:?}")))?
            .map_err(unavailable)?;
        Ok(Response::new(ListPendingResponse { pending }))
    }
}

impl Api {
    async fn list(&self, user: &UserId) -> Result<Vec<PendingEntry>, KvError> {
        let filter = KeyFilter::of_user(self.partitions.of_user(user), user);
        let mut watch = self.pending.watch(filter).await?;
        let mut entries = Vec::new();
        while let Some(event) = watch.next().await {
            match event {
                KvEvent::Put(entry) if entries.len() < LIST_MAX => {
                    entries.extend(parse::pending(&entry.key).and_then(|(_, _, id)| listed(id, &entry.value)));
                }
                KvEvent::Put(_) | KvEvent::Gone { .. } => {}
                KvEvent::Restarted => entries.clear(),
                KvEvent::Current => return Ok(entries),
            }
        }
        Err(KvError::Outage("the watch ended".to_owned()))
    }
}

fn listed(id: PushId, value: &[u8]) -> Option<PendingEntry> {
    let pending: Pending = wire::decode(value).ok()?;
    let inbox = pending.state == PendingState::Inbox;
    Some(PendingEntry { push_id: id.to_string(), tries: u32::from(pending.tries), inbox, at_ms: pending.at })
}

fn delivery(request: PushRequest, at: Millis) -> Result<Delivery, Status> {
    let user = UserId::new(&request.user).map_err(|error| refused("user", error))?;
    let sender = Token::new(&request.sender).map_err(|error| refused("sender", error))?;
    match request.id.len() {
        0 => return Err(refused("id", format_args!("is empty; it must have 1 to {ID_MAX_BYTES} bytes"))),
        1..=ID_MAX_BYTES => {}
        bytes => return Err(refused("id", format_args!("has {bytes} bytes; the limit is {ID_MAX_BYTES}"))),
    }
    if request.data.len() > DATA_MAX_BYTES {
        let bytes = request.data.len();
        return Err(refused("data", format_args!("has {bytes} bytes; the limit is {DATA_MAX_BYTES}")));
    }
    let at_end = match PushPolicy::try_from(request.policy) {
        Ok(PushPolicy::Unspecified | PushPolicy::Inbox) => AtEnd::Inbox,
        Ok(PushPolicy::Drop) => AtEnd::Drop,
        Err(_) => return Err(refused("policy", format_args!("{} is no policy; known are 0, 1 and 2", request.policy))),
    };
    let longest = LIFETIME_MAX.as_millis() as u64;
    let lifetime_ms = match request.lifetime_ms {
        0 => LIFETIME_DEFAULT.as_millis() as u64,
        ms if ms <= longest => ms,
        ms => return Err(refused("lifetime_ms", format_args!("is {ms}; the limit is {longest} (7 days)"))),
    };
    Ok(Delivery {
        id: PushId::of_message(&sender, &request.id, &user),
        user,
        target: Target::User,
        body: Body::Message(Message { sender, data: Payload(request.data) }),
        policy: Policy { at_end, lifetime_ms },
        at,
        source: None,
        trace: None,
    })
}

fn refused(field: &str, reason: impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("{field} {reason}"))
}

/// `UNAVAILABLE`, with when to try again.
fn unavailable(reason: impl std::fmt::Display) -> Status {
    let mut status = Status::unavailable(reason.to_string());
    status.metadata_mut().insert(RETRY_PUSHBACK, MetadataValue::from_static(RETRY_AFTER_MS));
    status
}

fn unstored(error: &StoreError) -> Status {
    match error {
        // It may have been stored: the same id makes saying it again harmless.
        StoreError::Outage { .. } | StoreError::HoldFull { .. } | StoreError::Full { .. } => {
            unavailable(format_args!("{error}; say it again with the same id"))
        }
        StoreError::TooLarge { .. } => refused("data", error),
        StoreError::Rejected(_) => Status::internal(error.to_string()),
    }
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> PushRequest {
        PushRequest {
            user: "alice".to_owned(),
            sender: "shop".to_owned(),
            id: "order 17".to_owned(),
            data: bytes::Bytes::from_static(b"hello"),
            policy: 0,
            lifetime_ms: 0,
        }
    }

    fn reason(request: PushRequest) -> String {
        let status = delivery(request, 0).unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        status.message().to_owned()
    }

    #[test]
    fn defaults_are_the_inbox_and_a_day() {
        let delivery = delivery(request(), 7).unwrap();
        assert_eq!(delivery.policy, Policy { at_end: AtEnd::Inbox, lifetime_ms: 24 * 3600 * 1000 });
        assert_eq!((delivery.target, delivery.at), (Target::User, 7));
    }

    #[test]
    fn a_refusal_names_field_and_limit() {
        for bad in ["", "a.b", "*", ">", "a b", "a\r\nb"] {
            assert!(reason(PushRequest { user: bad.to_owned(), ..request() }).starts_with("user "), "{bad:?}");
        }
        let long = "x".repeat(5_000);
        assert_eq!(reason(PushRequest { user: long.clone(), ..request() }), "user has 5000 bytes; the limit is 64");
        assert!(reason(PushRequest { sender: long.clone(), ..request() }).starts_with("sender has 5000 bytes"));
        assert_eq!(reason(PushRequest { id: long, ..request() }), "id has 5000 bytes; the limit is 128");
        assert!(reason(PushRequest { id: String::new(), ..request() }).starts_with("id is empty"));
        let data = vec![0; DATA_MAX_BYTES + 1].into();
        assert_eq!(reason(PushRequest { data, ..request() }), "data has 16385 bytes; the limit is 16384");
        assert!(reason(PushRequest { policy: 9, ..request() }).starts_with("policy 9 is no policy"));
        let lifetime_ms = 7 * 24 * 3600 * 1000 + 1;
        assert!(reason(PushRequest { lifetime_ms, ..request() }).starts_with("lifetime_ms is 604800001"));
    }
}
