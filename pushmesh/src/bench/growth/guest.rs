//! The child process that holds a share of the clients: orders in on standard input, one answer to each out on standard
//! output, one JSON object a line each.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context;
use futures_util::FutureExt;
use pushmesh_auth::Minter;
use pushmesh_client::{Address, Client, Event, Options};
use pushmesh_protocol::RoomId;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    sync::{Semaphore, watch},
};

use crate::bench::population;

/// What the bench says. Of `children` processes this is number `child`, which has every so manieth client.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Its clients from number `from` to before `to` connect, a few at a time, and stay.
    Enter { child: u64, children: u64, from: u64, to: u64, jwks: PathBuf, address: String, acknowledge: bool },
    /// Every client before this number goes into a room of its own.
    Join { to: u64 },
    /// Says how that stands.
    Tell,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Done,
    Told(Told),
}

/// What this process' clients are and have seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub online: u64,
    pub joined: u64,
    /// Pushes that came, once each.
    pub pushes: u64,
    /// The last thing that went wrong.
    pub trouble: Option<String>,
}

/// Clients of one process that are on their way in at once: growth is measured, not a storm.
const ENTERING: usize = 32;
/// A token's life: longer than any bench.
const TOKENS: Duration = Duration::from_secs(24 * 3600);

/// What all clients of the process share.
struct House {
    told: Mutex<Told>,
    entering: Arc<Semaphore>,
    /// Clients before this number are to be in their rooms.
    rooms: watch::Sender<u64>,
}

/// Runs until standard input ends.
pub async fn run() -> anyhow::Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut out = tokio::io::stdout();
    let house = Arc::new(House {
        told: Mutex::default(),
        entering: Arc::new(Semaphore::new(ENTERING)),
        rooms: watch::Sender::new(0),
    });
    while let Some(line) = lines.next_line().await? {
        let answer = match serde_json::from_str(&line)? {
            Order::Enter { child, children, from, to, jwks, address, acknowledge } => {
                let (minter, address) = (Arc::new(Minter::from_jwks(&jwks)?), address.parse::<Address>()?);
                for number in (from..to).filter(|number| number % children == child) {
                    let (house, minter, address) = (house.clone(), minter.clone(), address.clone());
                    tokio::spawn(stay(house, number, minter, address, acknowledge));
                }
                Answer::Done
            }
            Order::Join { to } => {
                house.rooms.send_replace(to);
                Answer::Done
            }
            Order::Tell => Answer::Told(house.told().clone()),
        };
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        out.write_all(&line).await?;
        out.flush().await.context("nobody hears the answers")?;
    }
    Ok(())
}

impl House {
    fn told(&self) -> MutexGuard<'_, Told> {
        // What a panicking client has noted is still true.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client, from its connection until the process ends.
async fn stay(house: Arc<House>, number: u64, minter: Arc<Minter>, address: Address, acknowledge: bool) {
    let mut rooms = house.rooms.subscribe();
    // Let go once it is in, and by a client that ends before.
    let mut entering = house.entering.clone().acquire_owned().await.ok();
    let login = population::own_login(number);
    let token = minter.client(&population::user(number), Some(login.token()), TOKENS);
    let options = Options { auto_ack: acknowledge, ..Options::new(address, token, population::device()) };
    let (client, mut events) = Client::connect(options);
    let (mut online, mut joined, mut asked) = (false, false, false);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            Ok(()) = rooms.wait_for(|to| number < *to).map(|waited| waited.map(drop)), if !asked => {
                asked = true;
                client.join(room(number)).await;
                continue;
            }
        };
        let Some(event) = event else { return };
        let mut told = house.told();
        match event {
            Event::LoggedIn(_) => {
                entering = None;
                told.online += u64::from(!std::mem::replace(&mut online, true));
            }
            Event::Joined(_) => told.joined += u64::from(!std::mem::replace(&mut joined, true)),
            Event::Push(_) => told.pushes += 1,
            Event::Disconnected { reason, .. } => {
                told.online -= u64::from(std::mem::take(&mut online));
                told.joined -= u64::from(std::mem::take(&mut joined));
                told.trouble = Some(reason);
            }
            Event::Refused(error) => told.trouble = Some(error.message),
            Event::RoomUnavailable { reason, .. } => told.trouble = Some(reason),
            Event::Kicked(reason) => told.trouble = Some(format!("kicked: {reason:?}")),
            Event::Ended(end) => {
                told.online -= u64::from(online);
                told.joined -= u64::from(joined);
                told.trouble = Some(format!("ended: {end:?}"));
                drop(entering);
                return;
            }
            _ => {}
        }
    }
}

fn room(number: u64) -> RoomId {
    RoomId::new(&format!("room-{number}")).expect("a token")
}
