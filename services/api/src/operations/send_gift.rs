//! A gift: stored once for its key, whichever instance is asked and however often.

use axum::extract::State;
use pushmesh_bus::{Outgoing, Unique, UniqueOutcome};
use pushmesh_protocol::{
    GiftKey, RoomId, Token, UserId,
    name::{MessageId, Stream, Subject},
    room::{Gift, GiftMarker},
    topology::GIFT_MARKER_AGE,
    wire,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::{Api, Shared},
    gift::{check_key, content},
    http::{Json, Names},
    limits::LimitsConfig,
    refusal::{Code, ErrorBody, Refusal},
    request::Call,
    till::NotTaken,
};

#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SendGiftRequest)]
pub struct Request {
    /// A UUID of version 7, made at most an hour ago: use the id of the order.
    #[schema(value_type = String, format = "uuid")]
    pub key: GiftKey,
    /// Who gives it: a client's own user, which is also the default; a backend must name somebody.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub from: Option<UserId>,
    /// Who gets it; absent: the room.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub to: Option<UserId>,
    #[schema(value_type = String, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    pub gift: Token,
    /// How many: 1 to 10,000.
    #[serde(default = "one")]
    #[schema(default = 1, minimum = 1)]
    pub count: u32,
    /// Of all of them, in the smallest unit of money.
    pub value: u64,
    /// At most 512 bytes; none of a user who is muted.
    #[serde(default)]
    pub note: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SendGiftResponse)]
pub struct Response {
    #[schema(value_type = String, format = "uuid")]
    pub key: GiftKey,
    /// Where it stands in its stream.
    pub sequence: u64,
    /// The key was used before, for this very gift: this is the first answer.
    pub repeated: bool,
}

fn one() -> u32 {
    1
}

/// Send a gift into a room
///
/// Stored when answered. One key has one effect: say it again as it is whenever the answer was lost.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/gifts", tag = "rooms", operation_id = "send_gift",
    params(("room" = String, Path, description = "The room")),
    request_body = Request,
    responses(
        (status = 200, body = Response),
        (status = 400, body = ErrorBody, description = "Malformed, beyond a limit, or its key is made in the future"),
        (status = 403, body = ErrorBody, description = "Not in this name, the room is banned, or the gift has a note and its \
            giver is muted"),
        (status = 409, body = ErrorBody, description = "The key was used for another gift, or the room is closed"),
        (status = 410, body = ErrorBody, description = "The key is too old"),
    ),
)]
pub async fn http(
    State(api): State<Shared>,
    call: Call,
    names: Names,
    Json(request): Json<Request>,
) -> Result<axum::Json<Response>, Refusal> {
    Ok(axum::Json(run(&api, &call, names.room()?, request).await?))
}

/// What both doors do.
pub async fn run(api: &Api, call: &Call, room: RoomId, request: Request) -> Result<Response, Refusal> {
    let from = call.caller.somebody(request.from.clone())?;
    check(&request, &api.config.limits)?;
    check_key(&request.key, call.now)?;
    if call.caller.user().is_some() {
        api.limits.gift(&from)?;
    }
    let publishing = call.publishing("publish pm.v1.room.high.gift.{p}.{room}");
    let Request { key, to, gift, count, value, note, .. } = request;
    let gift = Gift { key, room, from, to, gift, count, value, note, at: call.now, trace: publishing.trace };
    let marker = GiftMarker { content: content(&gift), at: call.now };
    let retry_after = api.config.retry_after;
    if let Err(refusal) = admits(api, &gift) {
        // What was given before that is answered as it was then.
        let subject = Subject::gift_key(api.partitions.of_gift_key(&gift.key), &gift.key);
        let found = api.bus.find_unique(&Stream::ROOM_HIGH, &subject).await;
        return match found.map_err(|error| Refusal::unstored(&error, retry_after))? {
            Some(outcome) => answer(api, &gift.key, &marker, outcome),
            None => Err(refusal),
        };
    }
    let outcome = api.till.take(pair(api, &gift, &marker)).map_err(|refused| match refused {
        NotTaken::Full => Refusal::busy("gifts_waiting_max", retry_after),
        NotTaken::Closed => Refusal::unavailable("this instance is stopping; nothing was stored", retry_after),
    })?;
    let unknown = || Refusal::unavailable("it is not known whether it was stored: say it again as it is", retry_after);
    match tokio::time::timeout(api.gift_within, outcome).await {
        Ok(Ok(Ok(outcome))) => answer(api, &gift.key, &marker, outcome),
        Ok(Ok(Err(error))) => {
            publishing.failed(&error);
            Err(Refusal::unstored(&error, retry_after))
        }
        Ok(Err(_)) | Err(_) => Err(unknown()),
    }
}

fn check(request: &Request, limits: &LimitsConfig) -> Result<(), Refusal> {
    let (count, value) = (request.count, request.value);
    if count == 0 || count > limits.gift_count_max {
        let reason = format!("is {count}; it must be 1 to {}", limits.gift_count_max);
        return Err(Refusal::beyond("count", "gift_count_max", reason));
    }
    if value > limits.gift_value_max {
        let reason = format!("is {value}; the limit is {}", limits.gift_value_max);
        return Err(Refusal::beyond("value", "gift_value_max", reason));
    }
    match request.note.as_ref().map_or(0, String::len) {
        bytes if bytes > limits.gift_note_max_bytes => {
            Err(Refusal::too_large("note", "gift_note_max_bytes", bytes, limits.gift_note_max_bytes))
        }
        _ => Ok(()),
    }
}

/// That the gift may be given now: a muted user gives without words.
fn admits(api: &Api, gift: &Gift) -> Result<(), Refusal> {
    api.standing.admits(&gift.room)?;
    if gift.note.as_deref().is_none_or(str::is_empty) {
        return Ok(());
    }
    api.standing.lets_speak(&gift.room, &gift.from, gift.at).map_err(|refusal| {
        let message = format!("{}: the gift is taken without its note", refusal.message);
        Refusal { field: Some("note".into()), message, ..refusal }
    })
}

fn pair(api: &Api, gift: &Gift, marker: &GiftMarker) -> Unique {
    Unique {
        marker: Outgoing {
            subject: Subject::gift_key(api.partitions.of_gift_key(&gift.key), &gift.key),
            payload: wire::encode(marker).into(),
            id: MessageId::gift_key(&gift.key),
            trace: None,
        },
        marker_ttl: GIFT_MARKER_AGE,
        message: Outgoing {
            subject: Subject::gift(api.partitions.of_room(&gift.room), &gift.room),
            payload: wire::encode(gift).into(),
            id: MessageId::gift(&gift.key),
            // A batch's entries carry theirs in the payload.
            trace: None,
        },
    }
}

fn answer(api: &Api, key: &GiftKey, ours: &GiftMarker, outcome: UniqueOutcome) -> Result<Response, Refusal> {
    let (marker, sequence) = match outcome {
        UniqueOutcome::Stored { sequence } => return Ok(Response { key: key.clone(), sequence, repeated: false }),
        UniqueOutcome::Taken { marker, sequence } => (marker, sequence),
    };
    let theirs: GiftMarker = wire::decode(&marker).map_err(|error| {
        tracing::error!(%key, %error, "a gift's marker can't be read");
        api.metrics.malformed.increment(1);
        Refusal::internal("what was stored under the key can't be read")
    })?;
    if theirs.content != ours.content {
        let field = Some("key".into());
        return Err(Refusal {
            field,
            ..Refusal::new(Code::KeyUsed, "key was used for another gift: give this one a key of its own")
        });
    }
    api.metrics.gifts_repeated.increment(1);
    Ok(Response { key: key.clone(), sequence, repeated: true })
}
