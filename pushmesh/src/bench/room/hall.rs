//! The processes that hold a room's clients, seen from the parent: each order has one answer.

use std::{process::Child, time::Duration};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{ChildStdin, ChildStdout},
};

use super::{
    audience::{Answer, GROUPS, Order, Range, Seen},
    tally::Class,
};
use crate::bench::{crew, latency::Latencies, machine, mesh::Mesh};

/// So that one process is not the limit where there are several CPUs, and each stays below what it may open.
const PROCESSES: u64 = 2;
/// A thread that is busy for a larger share of the time reads late.
const BUSY: f64 = 0.85;

/// All children; dropped, they are killed.
pub struct Hall {
    hands: Vec<Hand>,
}

struct Hand {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// What the clients of all children have seen.
#[derive(Debug, Default)]
pub struct AllSeen {
    pub of: Seen,
    pub groups: [Group; GROUPS],
}

#[derive(Debug, Default)]
pub struct Group {
    classes: [ClassSeen; Class::ALL.len()],
}

#[derive(Debug, Default)]
pub struct ClassSeen {
    pub delivered: u64,
    pub merged: u64,
    pub recovered: u64,
    pub sum_us: u64,
    pub latencies: Latencies,
}

impl Group {
    pub fn of(&self, class: Class) -> &ClassSeen {
        &self.classes[class as usize]
    }
}

impl Hall {
    pub fn start() -> anyhow::Result<Self> {
        Ok(Self { hands: (0..PROCESSES).map(|_| Hand::start()).collect::<anyhow::Result<_>>()? })
    }

    pub fn pids(&self) -> Vec<u32> {
        self.hands.iter().map(|hand| hand.child.id()).collect()
    }

    /// A look at the clocks of all children, for [`Self::bottleneck`].
    pub fn busy(&self) -> Vec<(Duration, Duration)> {
        let look = |pid| (machine::now(), machine::cpu_time(pid).unwrap_or_default());
        self.pids().into_iter().map(look).collect()
    }

    /// Whether a child was busy all the time since: it has one thread, and then its clients read late.
    pub fn bottleneck(&self, since: &[(Duration, Duration)]) -> Option<String> {
        let share = |((at, used), (before, was)): (&(Duration, Duration), &(Duration, Duration))| {
            (*used - *was).as_secs_f64() / (*at - *before).as_secs_f64().max(f64::MIN_POSITIVE)
        };
        let most = self.busy().iter().zip(since).map(share).fold(0.0, f64::max);
        (most > BUSY).then(|| format!("a process of clients used {:.0} % of a CPU", most * 100.0))
    }

    /// Has these clients connect and log in; they share the processes in turn.
    pub async fn enter(&mut self, range: Range, mesh: &Mesh) -> anyhow::Result<()> {
        let (jwks, address, children) = (mesh.jwks().to_owned(), mesh.door("comet", "ws")?, self.hands.len() as u64);
        self.ask(|child| Order::Enter { child, children, range, jwks: jwks.clone(), address }).await.map(drop)
    }

    pub async fn tell(&mut self, order: Order) -> anyhow::Result<()> {
        match self.ask(|_| order.clone()).await?.iter().find(|answer| !matches!(answer, Answer::Done)) {
            None => Ok(()),
            Some(answer) => bail!("a client process answered {answer:?}"),
        }
    }

    /// What all clients have seen so far; with latencies if these are asked for, which takes longer.
    pub async fn seen(&mut self, latencies: bool) -> anyhow::Result<AllSeen> {
        let mut seen = AllSeen::default();
        for answer in self.ask(|_| Order::Tell { latencies }).await? {
            match answer {
                Answer::Seen(of) => seen.add(of),
                Answer::Done => bail!("a client process did not say what it saw"),
            }
        }
        Ok(seen)
    }

    async fn ask(&mut self, order: impl Fn(u64) -> Order) -> anyhow::Result<Vec<Answer>> {
        for (child, hand) in (0..).zip(&mut self.hands) {
            hand.say(&order(child)).await?;
        }
        let mut answers = Vec::with_capacity(self.hands.len());
        for hand in &mut self.hands {
            answers.push(hand.hear().await?);
        }
        Ok(answers)
    }
}

impl Hand {
    fn start() -> anyhow::Result<Self> {
        let mut child = crew::child("audience")?;
        let pipes = child.stdin.take().zip(child.stdout.take()).context("a client process has no pipes")?;
        let orders = ChildStdin::from_std(pipes.0).context("the pipe to a client process")?;
        let answers = ChildStdout::from_std(pipes.1).context("the pipe of a client process")?;
        Ok(Self { child, orders, answers: BufReader::with_capacity(64 * 1024, answers).lines() })
    }

    async fn say(&mut self, order: &Order) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(order).expect("an order is JSON");
        line.push(b'\n');
        self.orders.write_all(&line).await.context("a client process takes no orders any more")
    }

    async fn hear(&mut self) -> anyhow::Result<Answer> {
        let line = self.answers.next_line().await?.context("a client process has ended")?;
        serde_json::from_str(&line).with_context(|| format!("a client process said {line:.200?}"))
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        crew::end(&mut self.child);
    }
}

impl AllSeen {
    fn add(&mut self, seen: Seen) {
        for (group, told) in self.groups.iter_mut().zip(&seen.groups) {
            for (class, told) in group.classes.iter_mut().zip(&told.classes) {
                class.delivered += told.delivered;
                class.merged += told.merged;
                class.recovered += told.recovered;
                class.sum_us += told.sum_us;
                class.latencies.add(&told.latencies);
            }
        }
        let of = &mut self.of;
        of.online += seen.online;
        of.joined += seen.joined;
        of.broken += seen.broken;
        of.trouble = seen.trouble.or(of.trouble.take());
        for (room, cuts) in seen.cuts {
            of.cuts.entry(room).or_default().extend(cuts);
        }
    }
}
