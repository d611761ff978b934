//! Growth by pushes that nobody acknowledges.
//!
//! They come through the RPC `Push`, go to clients that are there and never answer, and after 2 s stand in the bucket
//! `pending` while the owner holds them in memory with their content. By default one would be over after 30 s: the interval
//! between transmissions is an hour here, so that all are pending at once.

use std::ops::Range;

use anyhow::{Context, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use pushmesh_auth::Scope;
use pushmesh_proto::v1::{PushPolicy, PushRequest, pushes_client::PushesClient};
use pushmesh_protocol::metric::ack_retry as metric;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{
    Plan,
    crowd::Crowd,
    owner::Owner,
    rest::Used,
    results::{Owned, Part, Row},
};
use crate::bench::{
    Frame,
    backend::{authorization, channel},
    latency::rounded,
    machine,
    mesh::Mesh,
    population, until,
};

const SERVICE: &str = "ack-retry";
/// An hour is the longest that it takes.
const PATIENT: [(&str, &str); 1] = [(SERVICE, "service.retry_interval=1h")];
const AT_ONCE: usize = 128;
const DATA_BYTES: usize = 128;
const SENDER: &str = "bench";

pub async fn measure(frame: &Frame, plan: &Plan) -> anyhow::Result<Part> {
    let mut mesh = Mesh::start_with(&["login-ingest", "comet"], "1s", &PATIENT).await?;
    let rows = grow(frame, plan, &mut mesh).await;
    frame.say_complaints(&mesh);
    Ok(Part::new(["pending push", "pending pushes"], rows?))
}

async fn grow(frame: &Frame, plan: &Plan, mesh: &mut Mesh) -> anyhow::Result<Vec<Row>> {
    let mut owner = Owner::start(mesh, SERVICE, metric::LOAD_SECONDS).await?;
    let mut crowd = Crowd::start(plan.within)?;
    crowd.enter(frame, mesh, plan.deaf, false).await?;
    frame.say(format_args!("{} clients are logged in that acknowledge nothing", plan.deaf));
    let (mut rows, mut before) = (Vec::new(), 0);
    for size in &plan.pending {
        let begun = machine::now();
        push(mesh, &owner, before..*size, plan.deaf).await?;
        holds(mesh, &owner, plan, *size).await?;
        let stored_per_s = rounded((size - before) as f64 / (machine::now() - begun).as_secs_f64());
        crowd.pushed(frame, mesh, *size).await?;
        frame.say(format_args!("{size} pushes are pending"));
        // Until all stand in `pending` and the memory of their way there is given back.
        plan.rest.take(mesh).await?;
        let loaded_rss_mib = rounded(owner.memory_mib(mesh)?);
        let taken = owner.replace(mesh, *size, &[metric::PENDING], plan.within).await?;
        let take_over_s = taken.map(|taken| rounded(taken.as_secs_f64()));
        let owned = Some(Owned { stored_per_s, loaded_rss_mib, take_over_s });
        let Some(seconds) = take_over_s else {
            frame.say(format_args!("not taken over within {:?}: more is not tried", plan.within));
            rows.push(Row { owned, ..Row::new(*size, Used::default()) });
            break;
        };
        frame.say(format_args!("taken over within {seconds} s"));
        rows.push(Row { owned, ..Row::new(*size, plan.rest.take(mesh).await?) });
        before = *size;
    }
    Ok(rows)
}

/// One after the other for each client in turn.
async fn push(mesh: &Mesh, owner: &Owner, numbers: Range<u64>, users: u64) -> anyhow::Result<()> {
    let (door, token) = (channel(mesh, &owner.name())?, authorization(mesh, &[Scope::PushWrite])?);
    let calls = numbers.map(|number| push_one(door.clone(), token.clone(), number, users));
    let done = stream::iter(calls).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await;
    done.map(drop).context("can't push")
}

async fn push_one(door: Channel, token: MetadataValue<Ascii>, number: u64, users: u64) -> Result<(), tonic::Status> {
    let mut request = Request::new(PushRequest {
        user: population::user(number % users).to_string(),
        sender: SENDER.to_owned(),
        id: number.to_string(),
        data: vec![b'x'; DATA_BYTES].into(),
        policy: PushPolicy::Inbox.into(),
        lifetime_ms: 0,
    });
    request.metadata_mut().insert("authorization", token);
    PushesClient::new(door).push(request).await.map(drop)
}

/// Waits until the owner holds so many, none of them in an inbox.
async fn holds(mesh: &mut Mesh, owner: &Owner, plan: &Plan, pushes: u64) -> anyhow::Result<()> {
    let mut last = 0;
    let all = until(plan.within, plan.look, async || {
        mesh.check()?;
        last = owner.holds(mesh, &[metric::PENDING]).await?;
        Ok((last == pushes).then_some(()))
    });
    match all.await? {
        Some(()) => Ok(()),
        None => bail!("{} holds {last} of {pushes} pending pushes after {:?}", owner.name(), plan.within),
    }
}
