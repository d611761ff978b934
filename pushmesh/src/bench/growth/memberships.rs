//! Growth by directory memberships: groups of 1,000, each user in ten of them.

use std::ops::Range;

use anyhow::{Context, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use pushmesh_auth::Scope;
use pushmesh_proto::v1::{GroupMember, UpsertGroupMembersRequest, group_directory_client::GroupDirectoryClient};
use pushmesh_protocol::metric::push as metric;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{
    Plan,
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

const SERVICE: &str = "group-push";
/// Members of a group, and the most that a request takes.
pub const GROUP: u64 = 1000;
/// Groups of each user.
const GROUPS_OF_USER: u64 = 10;
const AT_ONCE: usize = 4;

pub async fn measure(frame: &Frame, plan: &Plan) -> anyhow::Result<Part> {
    let mut mesh = Mesh::start(&[], "1s").await?;
    let rows = grow(frame, plan, &mut mesh).await;
    frame.say_complaints(&mesh);
    Ok(Part::new(["membership", "memberships"], rows?))
}

async fn grow(frame: &Frame, plan: &Plan, mesh: &mut Mesh) -> anyhow::Result<Vec<Row>> {
    let mut owner = Owner::start(mesh, SERVICE, metric::LOAD_SECONDS).await?;
    let (mut rows, mut before) = (Vec::new(), 0);
    for size in &plan.memberships {
        let begun = machine::now();
        upsert(mesh, &owner, before / GROUP..size / GROUP).await?;
        holds(mesh, &owner, plan, *size).await?;
        let stored_per_s = rounded((size - before) as f64 / (machine::now() - begun).as_secs_f64());
        frame.say(format_args!("{size} memberships are held, {stored_per_s:.0} came a second"));
        plan.rest.take(mesh).await?;
        let loaded_rss_mib = rounded(owner.memory_mib(mesh)?);
        let taken = owner.replace(mesh, *size, &[metric::MEMBERSHIPS], plan.within).await?;
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

async fn upsert(mesh: &Mesh, owner: &Owner, groups: Range<u64>) -> anyhow::Result<()> {
    let (door, token) = (channel(mesh, &owner.name())?, authorization(mesh, &[Scope::DirectoryWrite])?);
    let calls = groups.map(|group| upsert_one(door.clone(), token.clone(), group));
    let done = stream::iter(calls).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await;
    done.map(drop).context("can't fill the directory")
}

/// Ten groups, one after the other, have the same members.
async fn upsert_one(door: Channel, token: MetadataValue<Ascii>, group: u64) -> Result<(), tonic::Status> {
    let first = group / GROUPS_OF_USER * GROUP;
    let member = |number| GroupMember { user: population::user(number).to_string(), role: String::new() };
    let members = (first..first + GROUP).map(member).collect();
    let mut request = Request::new(UpsertGroupMembersRequest { group: format!("g{group}"), members });
    request.metadata_mut().insert("authorization", token);
    GroupDirectoryClient::new(door).upsert_members(request).await.map(drop)
}

async fn holds(mesh: &mut Mesh, owner: &Owner, plan: &Plan, memberships: u64) -> anyhow::Result<()> {
    let mut last = 0;
    let all = until(plan.within, plan.look, async || {
        mesh.check()?;
        last = owner.holds(mesh, &[metric::MEMBERSHIPS]).await?;
        Ok((last == memberships).then_some(()))
    });
    match all.await? {
        Some(()) => Ok(()),
        None => bail!("{} holds {last} of {memberships} memberships after {:?}", owner.name(), plan.within),
    }
}
