//! What was said in a room: read from its stream; its owner says which lines were told to nobody.

use axum::extract::State;
use pushmesh_auth::Scope;
use pushmesh_bus::{ConsumeError, StreamMessage};
use pushmesh_protocol::{
    Payload, RoomId, Token, UserId,
    content::Content,
    name::Filter,
    room::{RoomAnswer, RoomAsk},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::{Api, Shared},
    history_chain::{HistoryChain, Said},
    http::Names,
    openapi::Data,
    query::Params,
    reads::misunderstood,
    refusal::Refusal,
    request::Call,
};

/// Most items of one answer.
const LIMIT_MAX: u64 = 500;
const LIMIT_DEFAULT: u64 = 100;
/// Bytes of one answer's items, as the stream holds them.
const BYTES_MAX: usize = 256 * 1024;

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub room: RoomId,
    pub chain: HistoryChain,
    /// Only what came after this offset.
    pub after: u64,
    /// 1 to 500; absent: 100.
    pub limit: Option<u64>,
}

/// Items of one chain, in order.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = GetHistoryResponse)]
pub struct Response {
    pub items: Vec<Entry>,
    /// There is more: ask again after the last offset.
    pub more: bool,
}

/// An item, as clients get it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = HistoryItem)]
pub struct Entry {
    pub offset: u64,
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "chat")]
    pub kind: Token,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub from: Option<UserId>,
    /// Milliseconds since 1970.
    pub at: u64,
    #[schema(value_type = Data)]
    pub data: Payload,
}

/// Read what was said in a room
///
/// For backends with the scope room:read. As long as the streams keep it; a chain is in order, and has gaps in its offsets.
#[utoipa::path(
    get, path = "/v1/rooms/{room}/history", tag = "rooms", operation_id = "get_history",
    security(("backend" = ["room:read"])),
    params(
        ("room" = String, Path, description = "The room"),
        ("chain" = Option<String>, Query, description = "gifts, high (chat, danmaku) or normal (state, mutes, roles, \
            kicks); high if absent", pattern = "^(gifts|high|normal)$"),
        ("after" = Option<u64>, Query, description = "Only what came after this offset; 0 if absent"),
        ("limit" = Option<u16>, Query, description = "How many: 1 to 500; 100 if absent", minimum = 1, maximum = 500),
    ),
    responses((status = 200, body = Response)),
)]
pub async fn http(
    State(api): State<Shared>,
    call: Call,
    names: Names,
    params: Params,
) -> Result<axum::Json<Response>, Refusal> {
    params.only(&["chain", "after", "limit"])?;
    let chain = match params.text("chain") {
        None | Some("high") => HistoryChain::High,
        Some("gifts") => HistoryChain::Gifts,
        Some("normal") => HistoryChain::Normal,
        Some(_) => return Err(Refusal::invalid("chain", "is not known; known are gifts, high and normal")),
    };
    let (after, limit) = (params.number("after")?.unwrap_or_default(), params.number("limit")?);
    Ok(axum::Json(run(&api, &call, Request { room: names.room()?, chain, after, limit }).await?))
}

/// What both doors do.
pub async fn run(api: &Api, call: &Call, request: Request) -> Result<Response, Refusal> {
    call.caller.backend_with(Scope::RoomRead)?;
    let Request { room, chain, mut after, limit } = request;
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Refusal::beyond("limit", "history_limit", format!("is {limit}; it must be 1 to {LIMIT_MAX}")));
    }
    let (stream, subject) = chain.place(api.partitions.of_room(&room), &room);
    let filter = Filter::from(subject);
    loop {
        let found = api.bus.read_history(&stream, filter.clone(), after, limit as usize, BYTES_MAX).await;
        let found = found.map_err(|error| unread(api, &error))?;
        let all: Vec<_> = found.messages.iter().filter_map(|message| said(api, chain, message)).collect();
        // Asked after the reading: what was accepted though its sender was muted is told to nobody, here neither.
        let skipped = match all.iter().any(|(_, said)| said.may_be_hidden()) {
            true => skipped(api, chain, &room).await?,
            false => Skipped::default(),
        };
        let items: Vec<_> = all.into_iter().filter_map(|(offset, said)| entry(offset, said, &skipped)).collect();
        match found.messages.last() {
            // Who asks again does so after the last item: there must be one.
            Some(last) if items.is_empty() && found.pending > 0 => after = last.sequence,
            _ => return Ok(Response { items, more: found.pending > 0 }),
        }
    }
}

/// What the room's owner told otherwise than it lies in the stream.
#[derive(Debug, Default)]
struct Skipped {
    offsets: Vec<u64>,
    /// Up to here he does not know any more: nothing of it is told that may have been said by somebody who was muted.
    forgotten: u64,
}

impl Skipped {
    fn hides(&self, offset: u64, said: &Said) -> bool {
        said.may_be_hidden() && (offset <= self.forgotten || self.offsets.contains(&offset))
    }
}

async fn skipped(api: &Api, chain: HistoryChain, room: &RoomId) -> Result<Skipped, Refusal> {
    match api.ask(room, &RoomAsk::Skipped { room: room.clone() }).await? {
        RoomAnswer::Skipped { offsets, forgotten, normal, normal_forgotten } => Ok(match chain {
            HistoryChain::Gifts | HistoryChain::High => Skipped { offsets, forgotten },
            HistoryChain::Normal => Skipped { offsets: normal, forgotten: normal_forgotten },
        }),
        _ => Err(misunderstood(&"another answer than what was asked for")),
    }
}

fn said(api: &Api, chain: HistoryChain, message: &StreamMessage) -> Option<(u64, Said)> {
    match chain.read(&message.payload) {
        Ok(said) => Some((message.sequence, said)),
        Err(error) => {
            tracing::error!(subject = message.subject, sequence = message.sequence, %error, "an item can't be read");
            api.metrics.malformed.increment(1);
            None
        }
    }
}

fn entry(offset: u64, said: Said, skipped: &Skipped) -> Option<Entry> {
    let told = if skipped.hides(offset, &said) { said.hidden()? } else { said };
    let Content { kind, from, at, data } = told.content();
    Some(Entry { offset, kind, from, at, data })
}

fn unread(api: &Api, error: &ConsumeError) -> Refusal {
    match error {
        ConsumeError::Outage(_) => Refusal::unavailable("the broker is away", api.config.retry_after),
        error => {
            tracing::error!(%error, "a room's history can't be read");
            Refusal::internal("the broker refused it")
        }
    }
}
