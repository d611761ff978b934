//! The child processes that hold the clients, seen from the parent: each order has one answer.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use pushmesh_broker::server::spawn_bound;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{ChildStdin, ChildStdout},
};

use super::{
    clients::{Answer, Order, Tally},
    latency::Latencies,
};

/// Most sockets of one process: well below what one may open.
pub const SOCKETS_MAX: u64 = 15_000;
/// So that one process is not the limit where there are several CPUs.
const PROCESSES_MIN: u64 = 2;

/// All children; dropped, they are killed.
pub struct Crew {
    hands: Vec<Hand>,
}

struct Hand {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// The first of its users, and how many they are.
    users: (u64, u64),
}

/// What the clients of all children have seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub online: u64,
    pub last_login: Duration,
    pub shown: u64,
    pub last_shown: Duration,
    pub duplicated: u64,
    pub strange: u64,
    pub trouble: Option<String>,
    pub latencies: Latencies,
}

impl Crew {
    /// Starts as many processes as so many clients need.
    pub fn start(clients: u64) -> anyhow::Result<Self> {
        let processes = clients.div_ceil(SOCKETS_MAX).max(PROCESSES_MIN);
        let hands = shares(clients, processes).into_iter().map(Hand::start).collect::<anyhow::Result<_>>()?;
        Ok(Self { hands })
    }

    pub fn pids(&self) -> Vec<u32> {
        self.hands.iter().map(|hand| hand.child.id()).collect()
    }

    /// Tells all what `order` makes for each, by its first user and their number, and waits until all have done it.
    pub async fn tell(&mut self, order: impl Fn(u64, u64) -> Order) -> anyhow::Result<()> {
        match self.ask(order).await?.iter().find(|answer| !matches!(answer, Answer::Done)) {
            None => Ok(()),
            Some(answer) => bail!("a client process answered {answer:?}"),
        }
    }

    /// What all clients have seen so far; with latencies if these are asked for, which takes longer.
    pub async fn seen(&mut self, latencies: bool) -> anyhow::Result<Seen> {
        let mut seen = Seen::default();
        for answer in self.ask(|_, _| Order::Tell { latencies }).await? {
            match answer {
                Answer::Tally(tally) => seen.add(tally),
                answer => bail!("a client process answered {answer:?}"),
            }
        }
        Ok(seen)
    }

    /// Has all connect to an echo server at a moment; when the last had its echo.
    pub async fn echo(&mut self, address: SocketAddr, at: Duration) -> anyhow::Result<Duration> {
        let at_us = at.as_micros() as u64;
        let mut last = Duration::ZERO;
        for answer in self.ask(|_, count| Order::Echo { address, count, at_us }).await? {
            match answer {
                Answer::Echoed { last_us, failed: 0 } => last = last.max(Duration::from_micros(last_us)),
                answer => bail!("an echo failed: {answer:?}"),
            }
        }
        Ok(last)
    }

    async fn ask(&mut self, order: impl Fn(u64, u64) -> Order) -> anyhow::Result<Vec<Answer>> {
        for hand in &mut self.hands {
            let (first, count) = hand.users;
            hand.say(&order(first, count)).await?;
        }
        let mut answers = Vec::with_capacity(self.hands.len());
        for hand in &mut self.hands {
            answers.push(hand.hear().await?);
        }
        Ok(answers)
    }
}

impl Hand {
    fn start(users: (u64, u64)) -> anyhow::Result<Self> {
        let mut child = child("clients")?;
        let pipes = child.stdin.take().zip(child.stdout.take()).context("a client process has no pipes")?;
        let orders = ChildStdin::from_std(pipes.0).context("the pipe to a client process")?;
        let answers = ChildStdout::from_std(pipes.1).context("the pipe of a client process")?;
        Ok(Self { child, orders, answers: BufReader::with_capacity(64 * 1024, answers).lines(), users })
    }

    async fn say(&mut self, order: &Order) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(order).expect("an order is JSON");
        line.push(b'\n');
        self.orders.write_all(&line).await.context("a client process takes no orders any more")
    }

    async fn hear(&mut self) -> anyhow::Result<Answer> {
        let line = self.answers.next_line().await?.context("a client process has ended")?;
        serde_json::from_str(&line).with_context(|| format!("a client process said {line:?}"))
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Seen {
    fn add(&mut self, tally: Tally) {
        self.online += tally.online;
        self.last_login = self.last_login.max(Duration::from_micros(tally.last_login_us));
        self.shown += tally.shown;
        self.last_shown = self.last_shown.max(Duration::from_micros(tally.last_shown_us));
        self.duplicated += tally.duplicated;
        self.strange += tally.strange;
        self.trouble = tally.trouble.or(self.trouble.take());
        self.latencies.add(&tally.latencies);
    }
}

/// A child of this program in a hidden role, with pipes; it ends with this process.
pub fn child(role: &str) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("can't find this program")?;
    let mut command = Command::new(program);
    command.args(["bench-child", role]).stdin(Stdio::piped()).stdout(Stdio::piped());
    spawn_bound(command).with_context(|| format!("can't start a process for {role}"))
}

/// Kills a child and reaps it.
pub fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ended = child.kill();
    let _reaped = child.wait();
}

/// Users from 0 on in even shares: the first of each, and how many.
fn shares(users: u64, processes: u64) -> Vec<(u64, u64)> {
    let first = |process: u64| users * process / processes;
    (0..processes).map(|process| (first(process), first(process + 1) - first(process))).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_user_is_in_one_process() {
        assert_eq!(super::shares(10, 3), [(0, 3), (3, 3), (6, 4)]);
        assert_eq!(super::shares(1, 2), [(0, 0), (0, 1)]);
    }
}
