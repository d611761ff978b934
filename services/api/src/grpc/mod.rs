//! The gRPC door: the same operations, checks and answers as over HTTP.
//!
//! A refusal is a status: its metadata has `error`, `field`, `limit`, `until-ms` and `retry-after-ms`.

mod bounded;
mod broadcasts;
mod online;
mod rooms;

use std::time::Instant;

use bounded::Bounded;
use pushmesh_boot::Contracts;
use pushmesh_proto::v1::{broadcasts_server::BroadcastsServer, online_server::OnlineServer, rooms_server::RoomsServer};
use pushmesh_telemetry::{propagate, span};
use tonic::{Request, Response, Status};

use crate::{
    api::Shared,
    http::{BODY_LIMIT, LARGE_BODY_BYTES, LARGE_BODY_LIMIT},
    metrics::Door,
    operations::Operation,
    refusal::Refusal,
    request::{Call, Trail, now},
};

/// Serves all contracts.
#[derive(Clone)]
struct Desk(Shared);

/// All that the door serves.
pub fn contracts(api: &Shared) -> Contracts {
    let desk = Desk(api.clone());
    // As over HTTP: the same message has fewer bytes here.
    let most = api.config.limits.body_max_bytes;
    let rooms = RoomsServer::new(desk.clone()).max_decoding_message_size(most);
    let online = OnlineServer::new(desk.clone()).max_decoding_message_size(most);
    let broadcasts = BroadcastsServer::new(desk).max_decoding_message_size(LARGE_BODY_BYTES);
    Contracts::new(pushmesh_proto::DESCRIPTORS)
        .with(Bounded::new(rooms, BODY_LIMIT, most))
        .with(Bounded::new(online, BODY_LIMIT, most))
        .with(Bounded::new(broadcasts, LARGE_BODY_LIMIT, LARGE_BODY_BYTES))
}

impl Desk {
    /// One call, from its token to its answer: counted, with a span of its own, under way until it is answered.
    async fn serve<Q, A, W>(
        &self,
        operation: Operation,
        name: &'static str,
        request: Request<Q>,
        work: impl FnOnce(Shared, Call, Q) -> W,
    ) -> Result<Response<A>, Status>
    where
        W: Future<Output = Result<A, Refusal>>,
    {
        let api = &self.0;
        let _visit = api.visits.token();
        let begun = Instant::now();
        let parent = propagate::from_metadata(request.metadata());
        let trail = Trail::begin(name, parent);
        let answer = match self.call(&request, trail.clone()) {
            Ok(call) => work(api.clone(), call, request.into_inner()).await,
            Err(refusal) => Err(refusal),
        };
        if let Err(refusal) = &answer
            && refusal.code.http().is_server_error()
        {
            span::fail(&trail.span, &refusal.message);
        }
        let refused = answer.as_ref().err().map(|refusal| refusal.code);
        api.metrics.answered(operation, Door::Grpc, refused, begun.elapsed().as_secs_f64());
        Ok(Response::new(answer?))
    }

    fn call<Q>(&self, request: &Request<Q>, trail: Trail) -> Result<Call, Refusal> {
        let caller = self.0.admit(self.0.door.who(request.metadata())?)?;
        Ok(Call { caller, now: now(), trail })
    }
}

/// A field that must be there.
fn required<T: std::str::FromStr<Err: std::fmt::Display>>(field: &'static str, text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|error| Refusal::invalid(field, error))
}

/// A field whose default says that it is not there.
fn optional<T: std::str::FromStr<Err: std::fmt::Display>>(
    field: &'static str,
    text: &str,
) -> Result<Option<T>, Refusal> {
    if text.is_empty() { Ok(None) } else { required(field, text).map(Some) }
}

/// A refusal of a field that has another name at this door.
fn renamed(from: &'static str, to: &'static str) -> impl Fn(Refusal) -> Refusal {
    move |refusal| {
        if refusal.field.as_deref() != Some(from) {
            return refusal;
        }
        let message = match refusal.message.strip_prefix(from) {
            Some(rest) => format!("{to}{rest}"),
            None => refusal.message,
        };
        Refusal { field: Some(to.into()), message, ..refusal }
    }
}
