//! The child processes that hold the clients, seen from the parent.

use std::{marker::PhantomData, process::Stdio};

use anyhow::Context;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command as Process},
    sync::mpsc,
};

/// Commands and reports that may wait.
const QUEUE: usize = 8192;

/// What a child is told: clients of the same number are of the same child; `None` means all.
pub trait Order: Serialize + Send + 'static {
    fn client(&self) -> Option<u64>;
}

/// All children; dropping it kills them.
pub struct Crew<C> {
    commands: Vec<mpsc::Sender<String>>,
    children: Vec<Child>,
    order: PhantomData<fn(C)>,
}

impl<C: Order> Crew<C> {
    /// Starts `count` processes of a hidden command of this program.
    pub fn start<R>(command: &str, count: usize) -> anyhow::Result<(Self, mpsc::Receiver<R>)>
    where
        R: DeserializeOwned + Send + 'static,
    {
        let (reports, received) = mpsc::channel(QUEUE);
        let mut crew = Self { commands: Vec::new(), children: Vec::new(), order: PhantomData };
        for _ in 0..count {
            let program = std::env::current_exe().context("can't find this program to start the demo's clients")?;
            let mut child = Process::new(program)
                .arg(command)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                // Ctrl-C in a terminal goes to the whole process group: the demo itself ends its children.
                .process_group(0)
                .kill_on_drop(true)
                .spawn()
                .context("can't start the demo's clients")?;
            let stdin = child.stdin.take().expect("its standard input is piped");
            let stdout = child.stdout.take().expect("its standard output is piped");
            let (commands, queue) = mpsc::channel(QUEUE);
            tokio::spawn(feed(stdin, queue));
            let reports = reports.clone();
            tokio::spawn(async move {
                let mut lines = BufReader::with_capacity(64 * 1024, stdout).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let Ok(report) = serde_json::from_str(&line) else {
                        tracing::error!(line, "a client process said something else than a report");
                        return;
                    };
                    if reports.send(report).await.is_err() {
                        return;
                    }
                }
            });
            crew.commands.push(commands);
            crew.children.push(child);
        }
        Ok((crew, received))
    }

    /// Hands an order to the child that has the client, or to all.
    pub async fn tell(&self, order: C) -> anyhow::Result<()> {
        let line = serde_json::to_string(&order).expect("an order is JSON");
        let children = match order.client() {
            Some(client) => std::slice::from_ref(&self.commands[(client % self.commands.len() as u64) as usize]),
            None => &self.commands[..],
        };
        for child in children {
            child.send(line.clone()).await.ok().context("a process of the demo's clients is gone")?;
        }
        Ok(())
    }

    /// Ends the children and waits for them.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.commands.clear();
        for mut child in self.children {
            child.wait().await?;
        }
        Ok(())
    }
}

async fn feed(mut stdin: ChildStdin, mut commands: mpsc::Receiver<String>) {
    while let Some(mut line) = commands.recv().await {
        line.push('\n');
        if stdin.write_all(line.as_bytes()).await.is_err() {
            tracing::error!("a process of the demo's clients takes no commands any more");
            return;
        }
    }
}
