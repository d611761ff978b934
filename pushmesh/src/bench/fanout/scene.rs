//! A comet with the load driver's connections, and the rooms they are in.

use std::{collections::HashSet, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use pushmesh_protocol::{Partition, Partitions, RoomId, metric::comet as names, topology::TopologyConfig};

use super::{
    fleet::Fleet,
    frames::Protocol,
    hook::Hook,
    publisher::{Publisher, To},
};
use crate::bench::{Frame, machine, mesh::Mesh, scrape::Counters, until};

/// Without the push services: they have no part in a room's frames.
const SERVICES: [&str; 2] = ["login-ingest", "room-fanout"];
pub const COMET: &str = "comet";
/// Opens the comet's door for the floor.
const FLOOR: (&str, &str) = ("BENCH_FLOOR", "1");
/// Memory has settled when it did not change by more than this between two looks.
const SETTLED_KIB: u64 = 64;
const SETTLE_LOOK: Duration = Duration::from_millis(700);
const SETTLE_WITHIN: Duration = Duration::from_secs(15);

pub struct Scene<'a> {
    pub frame: &'a Frame,
    pub mesh: Mesh,
    pub fleet: Fleet,
    protocol: Protocol,
    partitions: Partitions,
    /// Those with a room whose owner's frames the comet refuses by now.
    used: HashSet<Partition>,
}

/// A room with members, and who speaks in it.
pub struct Hall {
    pub room: RoomId,
    pub members: u64,
    pub publisher: Publisher,
}

impl<'a> Scene<'a> {
    /// A mesh whose comet has all defaults but `settings`, and as many processes as so many connections need.
    pub async fn set(
        frame: &'a Frame,
        protocol: Protocol,
        connections: u64,
        settings: &[&str],
    ) -> anyhow::Result<Self> {
        let settings: Vec<_> = settings.iter().map(|setting| (COMET, *setting)).collect();
        let mut mesh = Mesh::start_with(&SERVICES, "1s", &settings).await?;
        mesh.add_with(COMET, COMET, &[FLOOR]).await?;
        let fleet = Fleet::start(connections)?;
        let partitions = TopologyConfig::default().partitions;
        Ok(Self { frame, mesh, fleet, protocol, partitions, used: HashSet::new() })
    }

    /// Connects until so many are logged in.
    pub async fn connect(&mut self, connections: u64) -> anyhow::Result<()> {
        let door = if self.protocol == Protocol::Tcp { "tcp" } else { "ws" };
        let (address, jwks) = (self.mesh.door(COMET, door)?, PathBuf::from(self.mesh.jwks()));
        let connected = self.fleet.connect(self.protocol, address, Some(jwks), connections).await;
        if connected.is_err() {
            self.frame.say_complaints(&self.mesh);
        }
        connected?;
        self.frame.say(format_args!("{connections} connections are logged in"));
        Ok(())
    }

    /// A new room with the first so many connections.
    pub async fn fill(&mut self, members: u64) -> anyhow::Result<Hall> {
        let rooms = (0_u32..).map(|number| RoomId::new(&format!("hall-{number}")).expect("a token"));
        let mut fresh = rooms.filter(|room| !self.used.contains(&self.partitions.of_room(room)));
        let room = fresh.next().context("no partition is left")?;
        drop(fresh);
        self.used.insert(self.partitions.of_room(&room));
        let joined = self.fleet.join(&room, members).await;
        if joined.is_err() {
            self.frame.say_complaints(&self.mesh);
        }
        joined?;
        let nats = self.mesh.nats_url();
        let nats: SocketAddr = nats.trim_start_matches("nats://").parse().context("the nats-server's address")?;
        let publisher = Publisher::connect(nats, To::Room(room.clone(), self.partitions)).await?;
        Ok(Hall { room, members, publisher })
    }

    pub async fn hook(&self) -> anyhow::Result<Hook> {
        let door = self.mesh.door(COMET, "floor");
        let door = door.context("this build has no floor: build it with --features bench-floor (a default)")?;
        Hook::connect(door).await
    }

    pub fn comet(&self) -> anyhow::Result<u32> {
        self.mesh.pids().get(COMET).copied().context("the mesh has no comet")
    }

    /// Frames that the comet says it dropped so far, whatever for.
    pub async fn dropped(&self) -> anyhow::Result<u64> {
        let counters = Counters::read(self.mesh.door(COMET, "admin")?).await?;
        Ok([&names::DROPPED, &names::ROOM_DROPPED].iter().map(|name| counters.sum(name.name, "")).sum())
    }

    /// The comet's memory in bytes, once it does not change any more.
    pub async fn memory(&self) -> anyhow::Result<u64> {
        settled_memory(&[self.comet()?]).await
    }
}

/// What processes have together, in bytes, once it does not change any more.
pub async fn settled_memory(pids: &[u32]) -> anyhow::Result<u64> {
    let all = || pids.iter().map(|pid| machine::memory_kib(*pid)).sum::<u64>();
    let mut last = all();
    let settled = until(SETTLE_WITHIN, SETTLE_LOOK, async || {
        let before = std::mem::replace(&mut last, all());
        Ok((before.abs_diff(last) <= SETTLED_KIB && before > 0).then_some(last))
    });
    // The first look compares with itself.
    tokio::time::sleep(SETTLE_LOOK).await;
    let settled = settled.await?;
    Ok(settled.unwrap_or(last) * 1024)
}
