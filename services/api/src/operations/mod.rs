//! What can be asked for: one file an operation, with its request, its answer, what it does, and its HTTP handler. Both doors
//! call the same `run`.

pub mod find_comets;
pub mod get_history;
pub mod get_ranking;
pub mod get_room;
pub mod get_totals;
pub mod get_user;
pub mod kick;
pub mod list_my_calls;
pub mod mute;
pub mod push_many;
pub mod send_gift;
pub mod send_likes;
pub mod send_message;
pub mod send_note;
pub mod set_role;
pub mod set_state;
pub mod unmute;

use axum::routing::{delete, get, post, put};

use crate::{http::Route, openapi};

/// As metrics call them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    SendGift,
    SendMessage,
    SendLikes,
    SendNote,
    SetState,
    SetRole,
    Mute,
    Unmute,
    Kick,
    GetRoom,
    GetRanking,
    GetHistory,
    GetTotals,
    GetUser,
    FindComets,
    ListMyCalls,
    PushMany,
    GetOpenapi,
}

impl Operation {
    /// In the order of their declaration.
    pub const ALL: &[Self] = &[
        Self::SendGift,
        Self::SendMessage,
        Self::SendLikes,
        Self::SendNote,
        Self::SetState,
        Self::SetRole,
        Self::Mute,
        Self::Unmute,
        Self::Kick,
        Self::GetRoom,
        Self::GetRanking,
        Self::GetHistory,
        Self::GetTotals,
        Self::GetUser,
        Self::FindComets,
        Self::ListMyCalls,
        Self::PushMany,
        Self::GetOpenapi,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::SendGift => "send_gift",
            Self::SendMessage => "send_message",
            Self::SendLikes => "send_likes",
            Self::SendNote => "send_note",
            Self::SetState => "set_state",
            Self::SetRole => "set_role",
            Self::Mute => "mute",
            Self::Unmute => "unmute",
            Self::Kick => "kick",
            Self::GetRoom => "get_room",
            Self::GetRanking => "get_ranking",
            Self::GetHistory => "get_history",
            Self::GetTotals => "get_totals",
            Self::GetUser => "get_user",
            Self::FindComets => "find_comets",
            Self::ListMyCalls => "list_my_calls",
            Self::PushMany => "push_many",
            Self::GetOpenapi => "get_openapi",
        }
    }
}

/// Every method of every path.
pub fn routes() -> Vec<Route> {
    use Operation as Op;
    vec![
        Route::new("POST /v1/rooms/{room}/gifts", Op::SendGift, post(send_gift::http)),
        Route::new("POST /v1/rooms/{room}/messages", Op::SendMessage, post(send_message::http)),
        Route::new("POST /v1/rooms/{room}/likes", Op::SendLikes, post(send_likes::http)),
        Route::new("POST /v1/rooms/{room}/notes", Op::SendNote, post(send_note::http)),
        Route::new("PUT /v1/rooms/{room}/state", Op::SetState, put(set_state::http)),
        Route::new("PUT /v1/rooms/{room}/roles/{user}", Op::SetRole, put(set_role::http)),
        Route::new("DELETE /v1/rooms/{room}/roles/{user}", Op::SetRole, delete(set_role::http_delete)),
        Route::new("PUT /v1/rooms/{room}/mutes/{user}", Op::Mute, put(mute::http_in_room)),
        Route::new("PUT /v1/mutes/{user}", Op::Mute, put(mute::http_everywhere)),
        Route::new("DELETE /v1/rooms/{room}/mutes/{user}", Op::Unmute, delete(unmute::http_in_room)),
        Route::new("DELETE /v1/mutes/{user}", Op::Unmute, delete(unmute::http_everywhere)),
        Route::new("POST /v1/rooms/{room}/kicks", Op::Kick, post(kick::http)),
        Route::new("GET /v1/rooms/{room}", Op::GetRoom, get(get_room::http)),
        Route::new("GET /v1/rooms/{room}/ranking", Op::GetRanking, get(get_ranking::http)),
        Route::new("GET /v1/rooms/{room}/history", Op::GetHistory, get(get_history::http)),
        Route::new("GET /v1/online", Op::GetTotals, get(get_totals::http)),
        Route::new("GET /v1/online/users/{user}", Op::GetUser, get(get_user::http)),
        Route::new("GET /v1/connect", Op::FindComets, get(find_comets::http)),
        Route::new("GET /v1/me/calls", Op::ListMyCalls, get(list_my_calls::http)),
        Route::new("POST /v1/pushes", Op::PushMany, post(push_many::http)),
        Route::new("GET /v1/openapi.json", Op::GetOpenapi, get(openapi::http)),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn metrics_find_an_operation_by_its_place() {
        for (place, operation) in Operation::ALL.iter().enumerate() {
            assert_eq!(*operation as usize, place);
        }
    }

    #[test]
    fn every_operation_has_a_route_and_no_route_stands_twice() {
        let routes = routes();
        let names: BTreeSet<_> = routes.iter().map(|route| route.name).collect();
        assert_eq!(names.len(), routes.len());
        for operation in Operation::ALL {
            assert!(routes.iter().any(|route| route.operation == *operation), "{}", operation.name());
        }
    }
}
