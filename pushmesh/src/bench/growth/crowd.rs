//! The processes that hold the clients, seen from the bench: each order has one answer.

use std::{process::Child, time::Duration};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{ChildStdin, ChildStdout},
};

use super::guest::{Answer, Order, Told};
use crate::bench::{Frame, crew, mesh::Mesh, until};

/// So that each stays far below what it may open, and none is the limit where there are several CPUs.
const PROCESSES: u64 = 3;
const LOOK: Duration = Duration::from_millis(200);
const SAY_EVERY: u32 = 25;

/// All of them; dropped, they are killed.
pub struct Crowd {
    hands: Vec<Hand>,
    entered: u64,
    /// How long all may take to do what they are told.
    within: Duration,
}

struct Hand {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Crowd {
    pub fn start(within: Duration) -> anyhow::Result<Self> {
        let hands = (0..PROCESSES).map(|_| Hand::start()).collect::<anyhow::Result<_>>()?;
        Ok(Self { hands, entered: 0, within })
    }

    /// More come, until they are so many; all acknowledge what they get, or nobody does.
    pub async fn enter(
        &mut self,
        frame: &Frame,
        mesh: &mut Mesh,
        clients: u64,
        acknowledge: bool,
    ) -> anyhow::Result<()> {
        let (jwks, address) = (mesh.jwks().to_owned(), format!("ws://{}", mesh.door("comet", "ws")?));
        let (from, children) = (self.entered, self.hands.len() as u64);
        let order = |child| {
            let (jwks, address) = (jwks.clone(), address.clone());
            Order::Enter { child, children, from, to: clients, jwks, address, acknowledge }
        };
        self.ask(order).await?;
        self.entered = clients;
        self.wait(frame, mesh, "logged in", clients, |told| told.online).await
    }

    /// So many are in a room, each in its own.
    pub async fn join(&mut self, frame: &Frame, mesh: &mut Mesh, rooms: u64) -> anyhow::Result<()> {
        self.ask(|_| Order::Join { to: rooms }).await?;
        self.wait(frame, mesh, "in their rooms", rooms, |told| told.joined).await
    }

    /// Waits until all clients have so many pushes together.
    pub async fn pushed(&mut self, frame: &Frame, mesh: &mut Mesh, pushes: u64) -> anyhow::Result<()> {
        self.wait(frame, mesh, "pushed", pushes, |told| told.pushes).await
    }

    async fn wait(
        &mut self,
        frame: &Frame,
        mesh: &mut Mesh,
        what: &str,
        wanted: u64,
        count: fn(&Told) -> u64,
    ) -> anyhow::Result<()> {
        let (within, mut last, mut looks) = (self.within, Told::default(), 0);
        let all = until(within, LOOK, async || {
            mesh.check()?;
            last = self.told().await?;
            looks += 1;
            if looks % SAY_EVERY == 0 {
                frame.say(format_args!("{} of {wanted} {what}", count(&last)));
            }
            Ok((count(&last) == wanted).then_some(()))
        });
        if all.await?.is_none() {
            frame.say_complaints(mesh);
            let trouble = last.trouble.take().unwrap_or_else(|| "none".to_owned());
            bail!("{} of {wanted} are {what} after {within:?}; the last trouble: {trouble}", count(&last));
        }
        Ok(())
    }

    async fn told(&mut self) -> anyhow::Result<Told> {
        let mut all = Told::default();
        for answer in self.ask(|_| Order::Tell).await? {
            let Answer::Told(told) = answer else { bail!("a client process answered {answer:?}") };
            all.online += told.online;
            all.joined += told.joined;
            all.pushes += told.pushes;
            all.trouble = told.trouble.or(all.trouble);
        }
        Ok(all)
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
        let mut child = crew::child("crowd")?;
        let pipes = child.stdin.take().zip(child.stdout.take()).context("a client process has no pipes")?;
        let orders = ChildStdin::from_std(pipes.0).context("the pipe to a client process")?;
        let answers = ChildStdout::from_std(pipes.1).context("the pipe of a client process")?;
        Ok(Self { child, orders, answers: BufReader::new(answers).lines() })
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
        crew::end(&mut self.child);
    }
}
