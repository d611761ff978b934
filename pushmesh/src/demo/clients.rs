//! The child process that holds a share of the demo's clients: commands in on standard input, what the clients
//! see out on standard output, one JSON object a line each.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use pushmesh_client::{Client, Event, Events, Memory, Options};
use pushmesh_protocol::{
    CallId, DeviceId, Kind, PushId, UserId,
    frame::{Encoding, PushBody},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, BufWriter},
    sync::mpsc,
};

use super::{clock, crew::Order};

/// What the parent says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    Connect { conn: u64, user: UserId, device: DeviceId, token: String, address: String, encoding: Encoding },
    Leave { conn: u64, user: UserId },
}

impl Order for Command {
    // A user's clients are of one device: they share a process, and its memory of what was shown.
    fn client(&self) -> Option<u64> {
        let (Self::Connect { user, .. } | Self::Leave { user, .. }) = self;
        let mut hasher = DefaultHasher::new();
        user.hash(&mut hasher);
        Some(hasher.finish())
    }
}

/// What a client saw; `at_us` is on [`clock::now`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    Shown {
        user: UserId,
        id: PushId,
        kind: Kind,
        call: CallId,
        at_us: u64,
    },
    /// The client acknowledged what it had shown.
    Acked {
        count: u64,
    },
    /// A call that was shown is shown as ended.
    Withdrawn {
        user: UserId,
        call: CallId,
    },
    LoggedIn {
        user: UserId,
    },
    Trouble {
        user: UserId,
        text: String,
    },
}

/// Reports that may wait to be written: a parent that does not read holds its clients up, and loses nothing.
const REPORTS: usize = 4096;

/// Runs until standard input ends.
pub async fn run() -> anyhow::Result<()> {
    let (reports, queue) = mpsc::channel(REPORTS);
    let writer = tokio::spawn(write(queue));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut clients: HashMap<u64, Client> = HashMap::new();
    let mut memories: HashMap<UserId, Memory> = HashMap::new();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line)? {
            Command::Connect { conn, user, device, token, address, encoding } => {
                let memory = memories.entry(user.clone()).or_default().clone();
                let options =
                    Options { encoding, auto_ack: false, memory, ..Options::new(address.parse()?, token, device) };
                let (client, events) = Client::connect(options);
                tokio::spawn(watch(user, client.clone(), events, reports.clone()));
                clients.insert(conn, client);
            }
            Command::Leave { conn, .. } => {
                if let Some(client) = clients.remove(&conn) {
                    client.close();
                }
            }
        }
    }
    clients.values().for_each(Client::close);
    drop(reports);
    writer.await?
}

async fn watch(user: UserId, client: Client, mut events: Events, reports: mpsc::Sender<Report>) {
    while let Some(event) = events.next().await {
        let report = match event {
            Event::LoggedIn(_) => Report::LoggedIn { user: user.clone() },
            Event::Push(push) => {
                let PushBody::Call(call) = push.body else { continue };
                let at_us = clock::now().as_micros() as u64;
                let shown =
                    Report::Shown { user: user.clone(), id: push.id, kind: call.kind, call: call.call_id, at_us };
                client.ack(&[push.id]).await;
                if reports.send(shown).await.is_err() {
                    return;
                }
                Report::Acked { count: 1 }
            }
            Event::CallEnded(ended) => {
                client.ack(&[ended.id]).await;
                Report::Withdrawn { user: user.clone(), call: ended.call_id }
            }
            Event::Refused(error) => Report::Trouble { user: user.clone(), text: error.message },
            Event::Kicked(reason) => Report::Trouble { user: user.clone(), text: format!("kicked: {reason:?}") },
            Event::Disconnected { reason, .. } => Report::Trouble { user: user.clone(), text: reason },
            _ => continue,
        };
        if reports.send(report).await.is_err() {
            return;
        }
    }
}

/// Writes reports as lines until nobody has any more.
pub async fn write<R: Serialize>(mut queue: mpsc::Receiver<R>) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(64 * 1024, tokio::io::stdout());
    while let Some(report) = queue.recv().await {
        let mut line = serde_json::to_vec(&report)?;
        line.push(b'\n');
        out.write_all(&line).await?;
        if queue.is_empty() {
            out.flush().await?;
        }
    }
    out.flush().await?;
    Ok(())
}
