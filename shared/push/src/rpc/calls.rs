//! `pushmesh.v1.Calls`: the same in every kind.

use std::{sync::Arc, time::Duration};

use pushmesh_auth::{Door, Scope};
use pushmesh_bus::{Kv, KvError};
use pushmesh_proto::v1::{
    CallEntry, EndCallRequest, EndCallResponse, ListCallsRequest, ListCallsResponse, StartCallRequest,
    StartCallResponse, calls_server::Calls,
};
use pushmesh_protocol::{
    CallId, Payload,
    message::{CallRecord, Millis},
    name::Key,
    wire,
};
use pushmesh_telemetry::{
    propagate,
    span::{self, Role},
};
use tonic::{Request, Response, Status};

use super::check;
use crate::{book::CallNote, clock, feed::Feed, kind::PushKind};

const LIST_DEFAULT: usize = 100;
const LIST_MAX: u32 = 1000;
/// How often a write that somebody else came before is tried.
const TRIES: usize = 5;

#[derive(Clone)]
pub struct CallsService {
    calls: Kv,
    kind: Arc<dyn PushKind>,
    feed: Arc<Feed>,
    /// How long an ended call's record stands.
    ended_lifetime: Duration,
    door: Door,
}

impl CallsService {
    pub(crate) fn new(
        calls: Kv,
        kind: Arc<dyn PushKind>,
        feed: Arc<Feed>,
        ended_lifetime: Duration,
        door: Door,
    ) -> Self {
        Self { calls, kind, feed, ended_lifetime, door }
    }

    /// Returns when the call started: now, or at the first time this was asked.
    async fn start(&self, id: &CallId, record: CallRecord) -> Result<Millis, Status> {
        let (key, calls) = (Key::call(id), self.calls.patient());
        for _ in 0..TRIES {
            match calls.create(&key, wire::encode(&record).into()).await {
                Ok(_) => return Ok(record.started_at),
                Err(KvError::Exists) => {}
                Err(error) => return Err(check::kv_status(&error)),
            }
            // It may have gone in between: then the id is free.
            if let Some((known, _)) = read(&calls, &key).await? {
                return match known.ended_at {
                    Some(_) => Err(Status::already_exists(format!("call_id {id} has ended and is never used again"))),
                    None if (&known.unit, &known.data) == (&record.unit, &record.data) => Ok(known.started_at),
                    None => Err(Status::already_exists(format!("call_id {id} is active with another unit or data"))),
                };
            }
        }
        Err(Status::aborted(format!("call_id {id} is being written by others")))
    }

    /// Returns when the call ended: now, or before.
    async fn end(&self, id: &CallId, trace: Option<pushmesh_protocol::TraceContext>) -> Result<Millis, Status> {
        let (key, calls) = (Key::call(id), self.calls.patient());
        for _ in 0..TRIES {
            let Some((known, revision)) = read(&calls, &key).await? else {
                return Err(Status::not_found(format!("call_id {id} is not known")));
            };
            if let Some(ended_at) = known.ended_at {
                return Ok(ended_at);
            }
            let ended_at = clock::now().max(known.started_at);
            // Its data is told to nobody any more.
            let record = CallRecord { ended_at: Some(ended_at), data: None, trace, ..known };
            let written = calls.update_for(&key, wire::encode(&record).into(), revision, self.ended_lifetime);
            match written.await {
                Ok(_) => return Ok(ended_at),
                Err(KvError::WrongRevision) => {}
                Err(error) => return Err(check::kv_status(&error)),
            }
        }
        Err(Status::aborted(format!("call_id {id} is being written by others")))
    }
}

async fn read(calls: &Kv, key: &Key) -> Result<Option<(CallRecord, u64)>, Status> {
    let entry = calls.get(key).await.map_err(|error| check::kv_status(&error))?;
    let Some(entry) = entry else { return Ok(None) };
    let record = wire::decode(&entry.value).map_err(|error| Status::data_loss(error.to_string()))?;
    Ok(Some((record, entry.revision)))
}

#[tonic::async_trait]
impl Calls for CallsService {
    async fn start_call(&self, request: Request<StartCallRequest>) -> Result<Response<StartCallResponse>, Status> {
        self.door.check(request.metadata(), Scope::CallWrite)?;
        let parent = propagate::from_metadata(request.metadata());
        let span = span::root_or_child("pushmesh.v1.Calls/StartCall", Role::Server, parent);
        span::set(&span, "pushmesh.kind", self.kind.kind().to_string());
        let StartCallRequest { call_id, unit, data } = request.into_inner();
        let id = check::call_id("call_id", &call_id)?;
        let unit = check::unit(&*self.kind, "unit", &unit)?;
        if data.len() > check::DATA_MAX_BYTES {
            let (bytes, limit) = (data.len(), check::DATA_MAX_BYTES);
            return Err(check::invalid("data", format_args!("has {bytes} bytes; the limit is {limit}")));
        }
        let record = CallRecord {
            unit,
            started_at: clock::now(),
            ended_at: None,
            data: (!data.is_empty()).then_some(Payload(data)),
            trace: span::context(&span),
        };
        let started_at_ms = self.start(&id, record).await.inspect_err(|error| span::fail(&span, error))?;
        Ok(Response::new(StartCallResponse { started_at_ms }))
    }

    async fn end_call(&self, request: Request<EndCallRequest>) -> Result<Response<EndCallResponse>, Status> {
        self.door.check(request.metadata(), Scope::CallWrite)?;
        let parent = propagate::from_metadata(request.metadata());
        let span = span::root_or_child("pushmesh.v1.Calls/EndCall", Role::Server, parent);
        span::set(&span, "pushmesh.kind", self.kind.kind().to_string());
        let id = check::call_id("call_id", &request.into_inner().call_id)?;
        let ended_at_ms = self.end(&id, span::context(&span)).await.inspect_err(|error| span::fail(&span, error))?;
        Ok(Response::new(EndCallResponse { ended_at_ms }))
    }

    async fn list_calls(&self, request: Request<ListCallsRequest>) -> Result<Response<ListCallsResponse>, Status> {
        check::either(&self.door, request.metadata())?;
        let ListCallsRequest { unit, limit } = request.into_inner();
        let limit = match limit {
            0 => LIST_DEFAULT,
            1..=LIST_MAX => limit as usize,
            _ => return Err(check::invalid("limit", format_args!("is {limit}; it must be 0 to {LIST_MAX}"))),
        };
        if !*self.feed.current().borrow() {
            return Err(check::unavailable("the calls are still being read"));
        }
        let calls = if unit.is_empty() {
            self.feed.book().active().take(limit).map(|call| entry(call)).collect()
        } else {
            let unit = check::unit(&*self.kind, "unit", &unit)?;
            self.feed.book().active_in(unit.dotted()).iter().take(limit).map(|call| entry(call)).collect()
        };
        Ok(Response::new(ListCallsResponse { calls }))
    }
}

fn entry(call: &CallNote) -> CallEntry {
    CallEntry { call_id: call.id.to_string(), unit: call.unit.to_string(), started_at_ms: call.started_at }
}
