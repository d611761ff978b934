//! Growth by clients: connections that only live, and rooms with one member each in which nobody says anything.

use super::{
    Plan,
    crowd::Crowd,
    results::{Part, Row},
};
use crate::bench::{
    Frame,
    mesh::{LOGIN_PUSH, Mesh},
};

/// What a room's frames and members need.
const ROOMS: [&str; 3] = ["login-ingest", "room-fanout", "comet"];

/// All services of login push: each that knows sessions pays for them.
pub async fn connections(frame: &Frame, plan: &Plan) -> anyhow::Result<Part> {
    let mut mesh = Mesh::start(&LOGIN_PUSH, "1s").await?;
    let (mut crowd, mut rows) = (Crowd::start(plan.within)?, Vec::new());
    for size in &plan.connections {
        crowd.enter(frame, &mut mesh, *size, true).await?;
        rows.push(Row::new(*size, plan.heartbeats.take(&mut mesh).await?));
        frame.say(format_args!("{size} connections measured"));
    }
    frame.say_complaints(&mesh);
    Ok(Part::new(["connection", "connections"], rows))
}

/// As many connections as the most rooms have stood before the first room is entered, so that only rooms grow.
pub async fn rooms(frame: &Frame, plan: &Plan) -> anyhow::Result<Part> {
    let mut mesh = Mesh::start(&ROOMS, "1s").await?;
    let (mut crowd, mut rows) = (Crowd::start(plan.within)?, Vec::new());
    let most = plan.rooms.iter().copied().max().unwrap_or_default();
    crowd.enter(frame, &mut mesh, most, true).await?;
    frame.say(format_args!("{most} connections are logged in"));
    for size in &plan.rooms {
        crowd.join(frame, &mut mesh, *size).await?;
        rows.push(Row::new(*size, plan.heartbeats.take(&mut mesh).await?));
        frame.say(format_args!("{size} rooms measured"));
    }
    frame.say_complaints(&mesh);
    Ok(Part::new(["room", "rooms"], rows))
}
