//! The same push to many users, each by himself; or one message to everybody in a room.

use std::{collections::HashSet, sync::Arc, time::Duration};

use axum::extract::State;
use pushmesh_auth::Scope;
use pushmesh_bus::Outgoing;
use pushmesh_protocol::{
    Payload, PushId, RoomId, Token, UserId,
    frame::{Message, item},
    message::{AtEnd, Body, Delivery, Policy, PushOrder, Target},
    name::{MessageId, Stream, Subject},
    room::RoomHappening,
    wire,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::{Api, Shared},
    http::LargeJson,
    openapi::Data,
    refusal::{ErrorBody, Refusal},
    request::Call,
};

/// Most users of one request.
const USERS_MAX: usize = 1000;
/// Longest id of a sender, in bytes.
const ID_MAX_BYTES: usize = 128;
/// Most data of a push to users, in bytes: below a client's frame limit.
const DATA_MAX_BYTES: usize = 16_384;
const LIFETIME_DEFAULT: Duration = Duration::from_secs(24 * 3600);
const LIFETIME_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PushManyRequest)]
pub struct Request {
    /// 1 to 1,000; or a room.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 1000)]
    pub users: Vec<UserId>,
    /// Who is there now is told, by one message of type push: nobody acknowledges it, policy and lifetime say nothing.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub room: Option<RoomId>,
    /// Who sends: with id and user it makes the push's own id.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub sender: Token,
    /// The sender's own for it, 1 to 128 bytes: the same sender, id and user within two minutes is one push.
    #[schema(min_length = 1, max_length = 128)]
    pub id: String,
    /// At most 16,384 bytes; in a room as much as a message may have.
    #[schema(value_type = Data)]
    pub data: Payload,
    #[serde(default)]
    pub policy: Option<AtLast>,
    /// After so long it expires: 1ms to 7d; a day if absent.
    #[serde(default, with = "pushmesh_config::duration::option")]
    #[schema(value_type = Option<String>, example = "24h")]
    pub lifetime: Option<Duration>,
}

/// What becomes of a push that no device acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = PushPolicy)]
pub enum AtLast {
    /// Kept for the user's next login; so also if absent.
    Inbox,
    /// Dropped after the third transmission, or at once where the user has no device online.
    Drop,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = PushManyResponse)]
pub struct Response {
    /// How many pushes were stored. A room's members are told as one: 0.
    pub stored: u32,
    /// Users whose push may not be stored: say it again with the same id.
    #[schema(value_type = Vec<String>)]
    pub unknown: Vec<UserId>,
}

/// Push to many users, or into a room
///
/// For backends with the scope push:write. A user counts once. If nothing at all was stored the answer is a 503.
#[utoipa::path(
    post, path = "/v1/pushes", tag = "pushes", operation_id = "push_many",
    security(("backend" = ["push:write"])),
    request_body = Request,
    responses(
        (status = 200, body = Response, description = "Stored, but for whom it says"),
        (status = 409, body = ErrorBody, description = "The room is closed"),
    ),
)]
pub async fn http(
    State(api): State<Shared>,
    call: Call,
    LargeJson(request): LargeJson<Request>,
) -> Result<axum::Json<Response>, Refusal> {
    Ok(axum::Json(run(&api, &call, request).await?))
}

/// What both doors do.
pub async fn run(api: &Shared, call: &Call, request: Request) -> Result<Response, Refusal> {
    call.caller.backend_with(Scope::PushWrite)?;
    let policy = check(&request)?;
    match request.room {
        Some(ref room) => {
            tell(api, call, room, &request).await?;
            Ok(Response { stored: 0, unknown: Vec::new() })
        }
        None => {
            let (whole, call) = (Arc::clone(api), call.clone());
            api.see_through(async move { push(&whole, &call, request, policy).await }).await
        }
    }
}

fn check(request: &Request) -> Result<Policy, Refusal> {
    match (request.users.len(), &request.room) {
        (0, None) => return Err(Refusal::invalid("users", format!("is empty; it takes 1 to {USERS_MAX}, or a room"))),
        (0, Some(_)) | (1..=USERS_MAX, None) => {}
        (_, Some(_)) => return Err(Refusal::invalid("room", "stands beside users: name users or a room")),
        (count, None) => {
            return Err(Refusal::beyond("users", "push_users", format!("has {count}; the limit is {USERS_MAX}")));
        }
    }
    match request.id.len() {
        0 => return Err(Refusal::invalid("id", format!("is empty; it must have 1 to {ID_MAX_BYTES} bytes"))),
        1..=ID_MAX_BYTES => {}
        bytes => return Err(Refusal::too_large("id", "push_id_bytes", bytes, ID_MAX_BYTES)),
    }
    if request.data.0.len() > DATA_MAX_BYTES {
        return Err(Refusal::too_large("data", "push_data_bytes", request.data.0.len(), DATA_MAX_BYTES));
    }
    let lifetime = request.lifetime.unwrap_or(LIFETIME_DEFAULT);
    if lifetime < Duration::from_millis(1) || lifetime > LIFETIME_MAX {
        return Err(Refusal::beyond("lifetime", "push_lifetime", format!("is {lifetime:?}; it must be 1ms to 7d")));
    }
    let at_end = match request.policy {
        None | Some(AtLast::Inbox) => AtEnd::Inbox,
        Some(AtLast::Drop) => AtEnd::Drop,
    };
    Ok(Policy { at_end, lifetime_ms: lifetime.as_millis() as u64 })
}

/// One message of the class normal to whoever is there: a type of the mesh's own, whatever is configured of others', and no
/// part of what people may say there in a second.
async fn tell(api: &Api, call: &Call, room: &RoomId, request: &Request) -> Result<(), Refusal> {
    api.check_data(&request.data)?;
    api.standing.admits(room)?;
    // The sender's id may have any bytes, and another sender may use it too.
    let id = PushId::of_message(&request.sender, &request.id, &UserId::from(room.token().clone())).token();
    let kind = Token::new(item::PUSH).expect("the mesh's own types are tokens");
    api.tell_once(call, room, RoomHappening::Message { kind, data: request.data.clone() }, None, &id).await?;
    Ok(())
}

/// A push of each user's own, in his partition.
async fn push(api: &Api, call: &Call, request: Request, policy: Policy) -> Result<Response, Refusal> {
    let retry_after = api.config.retry_after;
    let Ok(_place) = api.places.try_acquire() else { return Err(Refusal::busy("messages_waiting_max", retry_after)) };
    let publishing = call.publishing("publish pm.v1.push.order.{p}.{user}");
    let Request { users, sender, id, data, .. } = request;
    // Said twice in one request it is one push.
    let mut known = HashSet::new();
    let users: Vec<_> = users.into_iter().filter(|user| known.insert(user.clone())).collect();
    let outgoing = users.iter().map(|user| {
        let id = PushId::of_message(&sender, &id, user);
        let delivery = Delivery {
            id,
            user: user.clone(),
            target: Target::User,
            body: Body::Message(Message { sender: sender.clone(), data: data.clone() }),
            policy,
            at: call.now,
            source: None,
            trace: publishing.trace,
        };
        Outgoing {
            subject: Subject::push(api.partitions.of_user(user), user),
            payload: wire::encode(&PushOrder::Deliver(delivery)).into(),
            id: MessageId::push(id),
            trace: publishing.trace,
        }
    });
    let outcomes = api.bus.store_all(&Stream::PUSH, outgoing.collect()).await;
    let failed = outcomes.iter().find_map(|outcome| outcome.as_ref().err()).cloned();
    let (mut stored, mut unknown) = (0, Vec::new());
    for (user, outcome) in users.into_iter().zip(outcomes) {
        match outcome {
            Ok(_) => stored += 1,
            Err(_) => unknown.push(user),
        }
    }
    if let Some(error) = failed {
        publishing.failed(&error);
        tracing::warn!(stored, unknown = unknown.len(), %error, "pushes could not be stored; their sender was told");
        if stored == 0 {
            return Err(Refusal::unstored(&error, retry_after));
        }
    }
    Ok(Response { stored, unknown })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request {
            users: vec!["alice".parse().unwrap()],
            room: None,
            sender: "shop".parse().unwrap(),
            id: "order 17".to_owned(),
            data: "hello".into(),
            policy: None,
            lifetime: None,
        }
    }

    #[test]
    fn defaults_are_the_inbox_and_a_day() {
        assert_eq!(check(&request()).unwrap(), Policy { at_end: AtEnd::Inbox, lifetime_ms: 24 * 3600 * 1000 });
        let room = Request { users: vec![], room: Some("stage".parse().unwrap()), ..request() };
        check(&room).unwrap();
    }

    #[test]
    fn a_refusal_names_the_field_and_the_limit() {
        let alice: UserId = "alice".parse().unwrap();
        let lifetime = |millis| Some(Duration::from_millis(millis));
        for (request, field, limit) in [
            (Request { users: vec![], ..request() }, "users", None),
            (Request { users: vec![alice; USERS_MAX + 1], ..request() }, "users", Some("push_users")),
            (Request { room: Some("stage".parse().unwrap()), ..request() }, "room", None),
            (Request { id: String::new(), ..request() }, "id", None),
            (Request { id: "x".repeat(129), ..request() }, "id", Some("push_id_bytes")),
            (Request { data: vec![0; DATA_MAX_BYTES + 1].into(), ..request() }, "data", Some("push_data_bytes")),
            (Request { lifetime: lifetime(0), ..request() }, "lifetime", Some("push_lifetime")),
            (Request { lifetime: lifetime(7 * 24 * 3600 * 1000 + 1), ..request() }, "lifetime", Some("push_lifetime")),
        ] {
            let refusal = check(&request).unwrap_err();
            assert_eq!((refusal.field.as_deref(), refusal.limit), (Some(field), limit));
        }
    }
}
