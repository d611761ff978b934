//! `pushmesh.v1.Online`.

use pushmesh_proto::v1::{
    CometCandidate, CometTotals, DeviceOnline, FindCometsRequest, FindCometsResponse, GetTotalsRequest,
    GetTotalsResponse, GetUserRequest, GetUserResponse, ListMyCallsRequest, ListMyCallsResponse, MyCall,
    online_server::Online,
};
use tonic::{Request, Response, Status};

use super::{Desk, required};
use crate::operations::{Operation as Op, find_comets, get_totals, get_user, list_my_calls};

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Online for Desk {
    async fn get_totals(&self, request: Request<GetTotalsRequest>) -> Answer<GetTotalsResponse> {
        self.serve(Op::GetTotals, "pushmesh.v1.Online/GetTotals", request, |api, call, _| async move {
            let found = get_totals::run(&api, &call)?;
            let comet = |comet: get_totals::Comet| CometTotals {
                comet: comet.comet.to_string(),
                connections: comet.connections.into(),
                capacity: comet.capacity.into(),
                rooms: comet.rooms.into(),
                draining: comet.draining,
                age_ms: comet.age_ms,
            };
            let comets = found.comets.into_iter().map(comet).collect();
            Ok(GetTotalsResponse { connections: found.connections, comets })
        })
        .await
    }

    async fn get_user(&self, request: Request<GetUserRequest>) -> Answer<GetUserResponse> {
        self.serve(Op::GetUser, "pushmesh.v1.Online/GetUser", request, |api, call, asked| async move {
            let found = get_user::run(&api, &call, required("user", &asked.user)?).await?;
            let device = |device: get_user::Device| DeviceOnline {
                device: device.device.to_string(),
                comet: device.comet.to_string(),
                login_id: device.login_id.to_string(),
                since_ms: device.since,
                left_ms: device.left,
            };
            Ok(GetUserResponse { devices: found.devices.into_iter().map(device).collect() })
        })
        .await
    }

    async fn find_comets(&self, request: Request<FindCometsRequest>) -> Answer<FindCometsResponse> {
        self.serve(Op::FindComets, "pushmesh.v1.Online/FindComets", request, |api, _, asked| async move {
            let transport = Some(asked.transport.as_str()).filter(|transport| !transport.is_empty());
            let candidate = |found: find_comets::Candidate| CometCandidate {
                comet: found.comet.to_string(),
                address: found.address,
            };
            let found = find_comets::run(&api, transport)?;
            Ok(FindCometsResponse { candidates: found.candidates.into_iter().map(candidate).collect() })
        })
        .await
    }

    async fn list_my_calls(&self, request: Request<ListMyCallsRequest>) -> Answer<ListMyCallsResponse> {
        self.serve(Op::ListMyCalls, "pushmesh.v1.Online/ListMyCalls", request, |api, call, _| async move {
            let found = list_my_calls::run(&api, &call).await?;
            let my_call = |call: list_my_calls::MyCall| MyCall {
                push_id: call.id.to_string(),
                login_id: call.login_id.to_string(),
                device: call.device.to_string(),
                kind: call.kind.to_string(),
                call_id: call.call_id.to_string(),
                unit: call.unit.to_string(),
                started_at_ms: call.started_at,
                data: call.data.map(|data| data.0).unwrap_or_default(),
            };
            Ok(ListMyCallsResponse {
                calls: found.calls.into_iter().map(my_call).collect(),
                missing: found.missing.iter().map(ToString::to_string).collect(),
            })
        })
        .await
    }
}
