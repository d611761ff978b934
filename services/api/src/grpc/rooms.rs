//! `pushmesh.v1.Rooms`.

use std::time::Duration;

use pushmesh_proto::v1::{
    self as proto, GetHistoryRequest, GetHistoryResponse, GetRankingRequest, GetRankingResponse, GetRoomRequest,
    GetRoomResponse, HistoryItem, KickRequest, KickResponse, MuteRequest, MuteResponse, RankingPlace, RoomChain,
    RoomRole, SendGiftRequest, SendGiftResponse, SendLikesRequest, SendLikesResponse, SendMessageRequest,
    SendMessageResponse, SendNoteRequest, SendNoteResponse, SetRoleRequest, SetRoleResponse, SetStateRequest,
    SetStateResponse, UnmuteRequest, UnmuteResponse, rooms_server::Rooms,
};
use pushmesh_protocol::{Payload, frame::Role};
use tonic::{Request, Response, Status};

use super::{Desk, optional, renamed, required};
use crate::{
    history_chain::HistoryChain,
    mute::Mute,
    operations::{
        Operation as Op, get_history, get_ranking, get_room, kick, mute, send_gift, send_likes, send_message,
        send_note, set_role, set_state, unmute,
    },
    refusal::Refusal,
};

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Rooms for Desk {
    async fn send_gift(&self, request: Request<SendGiftRequest>) -> Answer<SendGiftResponse> {
        self.serve(Op::SendGift, "pushmesh.v1.Rooms/SendGift", request, |api, call, asked| async move {
            let request = send_gift::Request {
                key: required("key", &asked.key)?,
                from: optional("from", &asked.from)?,
                to: optional("to", &asked.to)?,
                gift: required("gift", &asked.gift)?,
                count: if asked.count == 0 { 1 } else { asked.count },
                value: asked.value,
                note: Some(asked.note).filter(|note| !note.is_empty()),
            };
            let done = send_gift::run(&api, &call, required("room", &asked.room)?, request).await?;
            Ok(SendGiftResponse { key: done.key.to_string(), sequence: done.sequence, repeated: done.repeated })
        })
        .await
    }

    async fn send_message(&self, request: Request<SendMessageRequest>) -> Answer<SendMessageResponse> {
        self.serve(Op::SendMessage, "pushmesh.v1.Rooms/SendMessage", request, |api, call, asked| async move {
            let request = send_message::Request {
                kind: required("type", &asked.r#type)?,
                from: optional("from", &asked.from)?,
                data: Payload(asked.data),
                id: optional("id", &asked.id)?,
            };
            let done = send_message::run(&api, &call, required("room", &asked.room)?, request).await?;
            Ok(SendMessageResponse { sequence: done.sequence })
        })
        .await
    }

    async fn send_likes(&self, request: Request<SendLikesRequest>) -> Answer<SendLikesResponse> {
        self.serve(Op::SendLikes, "pushmesh.v1.Rooms/SendLikes", request, |api, call, asked| async move {
            let request = send_likes::Request { from: optional("from", &asked.from)?, count: asked.count };
            let done = send_likes::run(&api, &call, required("room", &asked.room)?, request)?;
            let send_likes::Response { accepted, limit, stored_within_ms } = done;
            Ok(SendLikesResponse { accepted, limit: limit.unwrap_or_default().to_owned(), stored_within_ms })
        })
        .await
    }

    async fn send_note(&self, request: Request<SendNoteRequest>) -> Answer<SendNoteResponse> {
        self.serve(Op::SendNote, "pushmesh.v1.Rooms/SendNote", request, |api, call, asked| async move {
            let request = send_note::Request { data: Payload(asked.data) };
            let done = send_note::run(&api, &call, required("room", &asked.room)?, request).await?;
            Ok(SendNoteResponse { sequence: done.sequence })
        })
        .await
    }

    async fn set_state(&self, request: Request<SetStateRequest>) -> Answer<SetStateResponse> {
        self.serve(Op::SetState, "pushmesh.v1.Rooms/SetState", request, |api, call, asked| async move {
            let SetStateRequest { room, open, playable, banned } = asked;
            let request = set_state::Request { open, playable, banned };
            let done = set_state::run(&api, &call, required("room", &room)?, request).await?;
            Ok(SetStateResponse { state: Some(done.into()) })
        })
        .await
    }

    async fn set_role(&self, request: Request<SetRoleRequest>) -> Answer<SetRoleResponse> {
        self.serve(Op::SetRole, "pushmesh.v1.Rooms/SetRole", request, |api, call, asked| async move {
            let role = match RoomRole::try_from(asked.role) {
                Ok(RoomRole::Unspecified) => None,
                Ok(RoomRole::Host) => Some(Role::Host),
                Ok(RoomRole::Admin) => Some(Role::Admin),
                Err(_) => {
                    return Err(Refusal::invalid(
                        "role",
                        format!("is {}, which is not known; known are 0, 1 and 2", asked.role),
                    ));
                }
            };
            let (room, user) = (required("room", &asked.room)?, required("user", &asked.user)?);
            set_role::run(&api, &call, room, user, role).await?;
            Ok(SetRoleResponse {})
        })
        .await
    }

    async fn mute(&self, request: Request<MuteRequest>) -> Answer<MuteResponse> {
        self.serve(Op::Mute, "pushmesh.v1.Rooms/Mute", request, |api, call, asked| async move {
            let mute = Mute { room: optional("room", &asked.room)?, user: required("user", &asked.user)? };
            let request = mute::Request { period: Duration::from_millis(asked.for_ms) };
            let done = mute::run(&api, &call, mute, request).await.map_err(renamed("for", "for_ms"))?;
            Ok(MuteResponse { until_ms: done.until })
        })
        .await
    }

    async fn unmute(&self, request: Request<UnmuteRequest>) -> Answer<UnmuteResponse> {
        self.serve(Op::Unmute, "pushmesh.v1.Rooms/Unmute", request, |api, call, asked| async move {
            let mute = Mute { room: optional("room", &asked.room)?, user: required("user", &asked.user)? };
            unmute::run(&api, &call, mute).await?;
            Ok(UnmuteResponse {})
        })
        .await
    }

    async fn kick(&self, request: Request<KickRequest>) -> Answer<KickResponse> {
        self.serve(Op::Kick, "pushmesh.v1.Rooms/Kick", request, |api, call, asked| async move {
            let request = kick::Request { user: required("user", &asked.user)? };
            kick::run(&api, &call, required("room", &asked.room)?, request).await?;
            Ok(KickResponse {})
        })
        .await
    }

    async fn get_room(&self, request: Request<GetRoomRequest>) -> Answer<GetRoomResponse> {
        self.serve(Op::GetRoom, "pushmesh.v1.Rooms/GetRoom", request, |api, call, asked| async move {
            let found = get_room::run(&api, &call, required("room", &asked.room)?).await?;
            Ok(GetRoomResponse {
                room: found.room.to_string(),
                state: Some(found.state.into()),
                present: found.present,
                parts: found.parts.into(),
                gifts: found.gifts,
                gifts_total: found.gifts_total,
                likes_total: found.likes_total,
            })
        })
        .await
    }

    async fn get_ranking(&self, request: Request<GetRankingRequest>) -> Answer<GetRankingResponse> {
        self.serve(Op::GetRanking, "pushmesh.v1.Rooms/GetRanking", request, |api, call, asked| async move {
            let places = Some(asked.places.into()).filter(|places| *places > 0);
            let found = get_ranking::run(&api, &call, required("room", &asked.room)?, places).await?;
            let place = |place: get_ranking::Place| RankingPlace { user: place.user.to_string(), total: place.total };
            let top = found.top.into_iter().map(place).collect();
            Ok(GetRankingResponse { top, gifts_total: found.gifts_total })
        })
        .await
    }

    async fn get_history(&self, request: Request<GetHistoryRequest>) -> Answer<GetHistoryResponse> {
        self.serve(Op::GetHistory, "pushmesh.v1.Rooms/GetHistory", request, |api, call, asked| async move {
            let chain = match RoomChain::try_from(asked.chain) {
                Ok(RoomChain::Unspecified | RoomChain::High) => HistoryChain::High,
                Ok(RoomChain::Gifts) => HistoryChain::Gifts,
                Ok(RoomChain::Normal) => HistoryChain::Normal,
                Err(_) => {
                    return Err(Refusal::invalid(
                        "chain",
                        format!("is {}, which is not known; known are 0 to 3", asked.chain),
                    ));
                }
            };
            let limit = Some(asked.limit.into()).filter(|limit| *limit > 0);
            let request =
                get_history::Request { room: required("room", &asked.room)?, chain, after: asked.after, limit };
            let found = get_history::run(&api, &call, request).await?;
            Ok(GetHistoryResponse { items: found.items.into_iter().map(HistoryItem::from).collect(), more: found.more })
        })
        .await
    }
}

impl From<set_state::Response> for proto::RoomState {
    fn from(set_state::Response { open, playable, banned }: set_state::Response) -> Self {
        Self { open, playable, banned }
    }
}

impl From<get_history::Entry> for HistoryItem {
    fn from(entry: get_history::Entry) -> Self {
        Self {
            offset: entry.offset,
            r#type: entry.kind.to_string(),
            from: entry.from.map(|from| from.to_string()).unwrap_or_default(),
            at_ms: entry.at,
            data: entry.data.0,
        }
    }
}
