//! The child processes that hold the clients, seen from the parent.

use std::process::Stdio;

use anyhow::Context;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command as Process},
    sync::mpsc,
};

use super::clients::{Command, Report};

/// Commands and reports that may wait.
const QUEUE: usize = 8192;

/// All children; dropping it kills them.
pub struct Crew {
    commands: Vec<mpsc::Sender<Command>>,
    children: Vec<Child>,
}

impl Crew {
    /// Starts `count` processes of this program's hidden `demo-clients`.
    pub fn start(count: usize) -> anyhow::Result<(Crew, mpsc::Receiver<Report>)> {
        let (reports, received) = mpsc::channel(QUEUE);
        let mut crew = Crew { commands: Vec::new(), children: Vec::new() };
        for _ in 0..count {
            let program = std::env::current_exe().context("can't find this program to start the demo's clients")?;
            let mut child = Process::new(program)
                .arg("demo-clients")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
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

    /// Hands a command to the child that has the connection.
    pub async fn tell(&self, command: Command) -> anyhow::Result<()> {
        let (Command::Connect { conn, .. } | Command::Leave { conn }) = &command;
        let child = (*conn % self.commands.len() as u64) as usize;
        self.commands[child].send(command).await.context("a process of the demo's clients is gone")
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

async fn feed(mut stdin: ChildStdin, mut commands: mpsc::Receiver<Command>) {
    while let Some(command) = commands.recv().await {
        let mut line = serde_json::to_vec(&command).expect("a command is JSON");
        line.push(b'\n');
        if stdin.write_all(&line).await.is_err() {
            tracing::error!("a process of the demo's clients takes no commands any more");
            return;
        }
    }
}
