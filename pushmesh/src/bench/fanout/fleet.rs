//! The load driver's processes, seen from the bench.

use std::{net::SocketAddr, path::PathBuf, process::Child, time::Duration};

use anyhow::{Context, bail};
use pushmesh_protocol::RoomId;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{ChildStdin, ChildStdout},
};

use super::{
    frames::Protocol,
    orders::{Answer, Due, Order, Tally},
};
use crate::bench::{crew, latency::Latencies};

/// Most connections of one process.
const CONNECTIONS_MAX: u64 = 7_500;
/// Connections that decode everything, of all processes.
const DECODERS: u64 = 16;
/// Between the first users of two processes.
const USERS_APART: u64 = 1_000_000;
/// How long connecting, joining and the reading of what is sent already may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(120);
const JOIN_WITHIN: Duration = Duration::from_secs(60);
pub const DRAIN_WITHIN: Duration = Duration::from_secs(10);

/// All of them; dropped, they are killed.
pub struct Fleet {
    ships: Vec<Ship>,
    connected: u64,
    members: u64,
}

struct Ship {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// What all members have got.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub tally: Tally,
    pub latencies: Latencies,
}

impl Fleet {
    /// As many processes as so many connections need.
    pub fn start(connections: u64) -> anyhow::Result<Self> {
        let ships = connections.div_ceil(CONNECTIONS_MAX).max(1);
        let ships = (0..ships).map(|_| Ship::start()).collect::<anyhow::Result<_>>()?;
        Ok(Self { ships, connected: 0, members: 0 })
    }

    pub fn pids(&self) -> Vec<u32> {
        self.ships.iter().map(|ship| ship.child.id()).collect()
    }

    /// Leaves the first CPU to the server, where there are several.
    pub async fn leave_first_cpu(&mut self) -> anyhow::Result<()> {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        if cpus < 2 {
            return Ok(());
        }
        self.do_all(|_, _| Order::Settle { cpus: (1..cpus).collect() }).await
    }

    /// Connects more, until they are so many. `jwks` for pushmesh.
    pub async fn connect(
        &mut self,
        protocol: Protocol,
        address: SocketAddr,
        jwks: Option<PathBuf>,
        connections: u64,
    ) -> anyhow::Result<()> {
        let before = self.connected;
        self.do_all(|ship, of| {
            let (from, to) = (share(before, ship, of), share(connections, ship, of));
            Order::Connect {
                protocol,
                address,
                first: ship * USERS_APART + from,
                count: to - from,
                decoders: share(DECODERS, ship, of),
                jwks: jwks.clone(),
                within_ms: CONNECT_WITHIN.as_millis() as u64,
            }
        })
        .await?;
        self.connected = connections;
        Ok(())
    }

    /// The first so many go into a room (a peer's are in its only one already).
    pub async fn join(&mut self, room: &RoomId, members: u64) -> anyhow::Result<()> {
        let within_ms = JOIN_WITHIN.as_millis() as u64;
        self.do_all(|ship, of| Order::Join { room: room.clone(), count: share(members, ship, of), within_ms }).await?;
        self.members = members;
        Ok(())
    }

    /// Has them read all messages before `until`.
    pub async fn read(&mut self, until: u64, due: Option<Due>, within: Duration) -> anyhow::Result<Seen> {
        self.begin_reading(until, due, within).await?;
        self.read_now().await
    }

    /// They read from now on; [`Self::read_now`] waits for their end.
    pub async fn begin_reading(&mut self, until: u64, due: Option<Due>, within: Duration) -> anyhow::Result<()> {
        self.say_all(|_, _| Order::Read { until, due, within_ms: within.as_millis() as u64 }).await
    }

    pub async fn read_now(&mut self) -> anyhow::Result<Seen> {
        let mut seen = Seen::default();
        for ship in &mut self.ships {
            match ship.hear().await? {
                Answer::Tally(tally) => seen.add(tally),
                answer => bail!("a process of the load driver answered {answer:?}"),
            }
        }
        Ok(seen)
    }

    async fn do_all(&mut self, order: impl Fn(u64, u64) -> Order) -> anyhow::Result<()> {
        self.say_all(order).await?;
        for ship in &mut self.ships {
            match ship.hear().await? {
                Answer::Done => {}
                Answer::Failed(why) => bail!("the load driver: {why}"),
                answer => bail!("a process of the load driver answered {answer:?}"),
            }
        }
        Ok(())
    }

    async fn say_all(&mut self, order: impl Fn(u64, u64) -> Order) -> anyhow::Result<()> {
        let of = self.ships.len() as u64;
        for (number, ship) in self.ships.iter_mut().enumerate() {
            ship.say(&order(number as u64, of)).await?;
        }
        Ok(())
    }
}

/// How many of `all` belong to one of several.
fn share(all: u64, one: u64, of: u64) -> u64 {
    all / of + u64::from(one < all % of)
}

impl Ship {
    fn start() -> anyhow::Result<Self> {
        let mut child = crew::child("fanout")?;
        let pipes = child.stdin.take().zip(child.stdout.take()).context("the load driver has no pipes")?;
        let orders = ChildStdin::from_std(pipes.0).context("the pipe to the load driver")?;
        let answers = ChildStdout::from_std(pipes.1).context("the pipe of the load driver")?;
        Ok(Self { child, orders, answers: BufReader::with_capacity(64 * 1024, answers).lines() })
    }

    async fn say(&mut self, order: &Order) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(order).expect("an order is JSON");
        line.push(b'\n');
        self.orders.write_all(&line).await.context("the load driver takes no orders any more")
    }

    async fn hear(&mut self) -> anyhow::Result<Answer> {
        let line = self.answers.next_line().await?.context("a process of the load driver has ended")?;
        serde_json::from_str(&line).with_context(|| format!("the load driver said {line:?}"))
    }
}

impl Drop for Ship {
    fn drop(&mut self) {
        crew::end(&mut self.child);
    }
}

impl Seen {
    fn add(&mut self, tally: Tally) {
        let all = &mut self.tally;
        self.latencies.add(&tally.latencies);
        all.frames += tally.frames;
        all.bytes += tally.bytes;
        all.missing += tally.missing;
        all.duplicated += tally.duplicated;
        all.told_missing += tally.told_missing;
        all.decoded += tally.decoded;
        all.spoilt += tally.spoilt;
        all.foreign += tally.foreign;
        all.first_ns = if all.first_ns == 0 { tally.first_ns } else { all.first_ns.min(tally.first_ns.max(1)) };
        all.last_ns = all.last_ns.max(tally.last_ns);
        all.trouble = tally.trouble.or(all.trouble.take());
    }

    /// An error unless each of `members` got each of `messages`, once and whole.
    pub fn must_be_whole(&self, members: u64, messages: u64) -> anyhow::Result<()> {
        let Tally { frames, missing, duplicated, told_missing, spoilt, trouble, .. } = &self.tally;
        if (*frames, missing + duplicated + told_missing + spoilt) == (members * messages, 0) && trouble.is_none() {
            return Ok(());
        }
        bail!(
            "{members} connections should have got {messages} messages each: {frames} came, {missing} are missing, \
             {duplicated} came twice, {spoilt} were spoilt; {}",
            trouble.as_deref().unwrap_or("no trouble")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_all() {
        for all in [0, 1, 7, 15_000] {
            assert_eq!((0..3).map(|one| share(all, one, 3)).sum::<u64>(), all);
        }
    }

    #[test]
    fn what_is_not_whole_is_said() {
        let tally = Tally { frames: 6, decoded: 6, ..Tally::default() };
        let mut seen = Seen::default();
        seen.add(tally.clone());
        assert!(seen.must_be_whole(2, 3).is_ok());
        seen.add(Tally { missing: 1, frames: 0, ..tally });
        assert!(seen.must_be_whole(2, 3).unwrap_err().to_string().contains("1 are missing"));
    }
}
