//! The gRPC door: the same operations, checks and answers as over HTTP.
//!
//! A refusal is a status: its metadata has `error`, `field`, `limit`, `until-ms` and `retry-after-ms`.

mod broadcasts;
mod online;
mod rooms;

use std::time::Instant;

use pushmesh_boot::{Contracts, MESSAGE_MAX_BYTES};
use pushmesh_proto::v1::{broadcasts_server::BroadcastsServer, online_server::OnlineServer, rooms_server::RoomsServer};
use pushmesh_telemetry::{propagate, span};
use tonic::{Request, Response, Status};

use crate::{
    api::Shared,
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
    Contracts::new(pushmesh_proto::DESCRIPTORS)
        .with(RoomsServer::new(desk.clone()).max_decoding_message_size(MESSAGE_MAX_BYTES))
        .with(OnlineServer::new(desk.clone()).max_decoding_message_size(MESSAGE_MAX_BYTES))
        .with(BroadcastsServer::new(desk).max_decoding_message_size(MESSAGE_MAX_BYTES))
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
