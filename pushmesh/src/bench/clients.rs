//! The child process that holds a share of a bench's clients: orders in on standard input, one answer to each out on
//! standard output, one JSON object a line each.

use std::{
    collections::HashSet,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use pushmesh_auth::Minter;
use pushmesh_client::{Address, Client, Event, Options, Push, PushBody};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    sync::watch,
    time::sleep,
};

use super::{
    echo,
    latency::{Counted, Latencies},
    machine,
    population::{self, Logins},
    schedule::Schedule,
};

/// What the parent says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Makes the tokens of its users.
    Prepare { first: u64, count: u64, jwks: PathBuf },
    /// Connects them all at a moment on [`machine::now`].
    Connect { address: String, at_us: u64 },
    /// Whoever loses his connection comes back to another comet.
    Move { address: String },
    /// What counts from now on: pushes of these logins for a round of calls, with latencies from the schedule.
    Watch { round: String, logins: Logins, schedule: Option<Schedule> },
    /// Says what was seen since the last `Watch`.
    Tell { latencies: bool },
    /// Connects so many times to an echo server at a moment.
    Echo { address: SocketAddr, count: u64, at_us: u64 },
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Done,
    Tally(Tally),
    Echoed { last_us: u64, failed: u64 },
}

/// What this process' clients have seen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Clients that are logged in.
    pub online: u64,
    pub last_login_us: u64,
    /// Logins whose push was shown.
    pub shown: u64,
    pub last_shown_us: u64,
    /// Displays beyond a login's first.
    pub duplicated: u64,
    /// Pushes that nobody was to see.
    pub strange: u64,
    /// The last thing that went wrong.
    pub trouble: Option<String>,
    pub latencies: Counted,
}

/// A token's life: longer than any bench.
const TOKENS: Duration = Duration::from_secs(24 * 3600);

/// Runs until standard input ends.
pub async fn run() -> anyhow::Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut out = tokio::io::stdout();
    let (comet, _) = watch::channel(None);
    let hall = Arc::new(Hall { desk: Mutex::default(), comet });
    let mut tokens = Vec::new();
    while let Some(line) = lines.next_line().await? {
        let answer = match serde_json::from_str(&line)? {
            Order::Prepare { first, count, jwks } => {
                let minter = Minter::from_jwks(&jwks)?;
                let token = |user| {
                    let login = population::own_login(user);
                    (user, minter.client(&population::user(user), Some(login.token()), TOKENS))
                };
                tokens = (first..first + count).map(token).collect();
                Answer::Done
            }
            Order::Connect { address, at_us } => {
                hall.comet.send_replace(Some(address.parse()?));
                for (user, token) in tokens.drain(..) {
                    tokio::spawn(attend(hall.clone(), user, token, Duration::from_micros(at_us)));
                }
                Answer::Done
            }
            Order::Move { address } => {
                hall.comet.send_replace(Some(address.parse()?));
                Answer::Done
            }
            Order::Watch { round, logins, schedule } => {
                hall.desk().watch(round, logins, schedule);
                Answer::Done
            }
            Order::Tell { latencies } => Answer::Tally(hall.desk().tell(latencies)),
            Order::Echo { address, count, at_us } => echo::connect(address, count, Duration::from_micros(at_us)).await,
        };
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        out.write_all(&line).await?;
        out.flush().await.context("nobody hears the answers")?;
    }
    Ok(())
}

/// What all clients of the process share.
struct Hall {
    desk: Mutex<Desk>,
    comet: watch::Sender<Option<Address>>,
}

impl Hall {
    fn desk(&self) -> std::sync::MutexGuard<'_, Desk> {
        // What a panicking client has noted is still true.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to be seen, and what was.
#[derive(Default)]
struct Desk {
    round: Arc<str>,
    logins: Option<Logins>,
    schedule: Option<Schedule>,
    /// Counts the watches: a client begins anew with each.
    watch: u64,
    seen: HashSet<u64>,
    latencies: Latencies,
    tally: Tally,
}

/// What a client needs to know which login a push is for.
#[derive(Clone)]
struct Watched {
    round: Arc<str>,
    logins: Option<Logins>,
    watch: u64,
    turn: u64,
}

impl Desk {
    fn watch(&mut self, round: String, logins: Logins, schedule: Option<Schedule>) {
        (self.round, self.logins, self.schedule) = (round.into(), Some(logins), schedule);
        self.watch += 1;
        self.seen.clear();
        self.latencies = Latencies::default();
        let Tally { online, last_login_us, .. } = self.tally;
        self.tally = Tally { online, last_login_us, ..Tally::default() };
    }

    fn watched(&self) -> Watched {
        Watched { round: self.round.clone(), logins: self.logins, watch: self.watch, turn: 0 }
    }

    fn tell(&self, latencies: bool) -> Tally {
        let counted = if latencies { self.latencies.counted() } else { Counted::default() };
        Tally { shown: self.seen.len() as u64, latencies: counted, ..self.tally.clone() }
    }

    fn shown(&mut self, sequence: Option<u64>, now: Duration) {
        let Some(sequence) = sequence else {
            self.tally.strange += 1;
            return;
        };
        if !self.seen.insert(sequence) {
            self.tally.duplicated += 1;
            return;
        }
        self.tally.last_shown_us = now.as_micros() as u64;
        if let Some(schedule) = &self.schedule {
            self.latencies.record(now.saturating_sub(schedule.at(sequence)));
        }
    }

    fn logged_in(&mut self, now: Duration) {
        self.tally.online += 1;
        self.tally.last_login_us = now.as_micros() as u64;
    }
}

/// One client, from its first connection until the process ends.
async fn attend(hall: Arc<Hall>, user: u64, token: String, at: Duration) {
    sleep(at.saturating_sub(machine::now())).await;
    let mut watched = hall.desk().watched();
    let mut resume = None;
    loop {
        let Some(address) = hall.comet.borrow().clone() else { return };
        let options =
            Options { resume: resume.clone(), ..Options::new(address.clone(), token.clone(), population::device()) };
        let (_client, mut events) = Client::connect(options);
        let mut online = false;
        while let Some(event) = events.next().await {
            let now = machine::now();
            match event {
                Event::LoggedIn(login) => {
                    resume = Some(login.resume());
                    online = true;
                    hall.desk().logged_in(now);
                }
                Event::Push(push) => see(&hall, &mut watched, user, &push, now),
                Event::Disconnected { reason, .. } => {
                    let mut desk = hall.desk();
                    desk.tally.online -= u64::from(std::mem::take(&mut online));
                    desk.tally.trouble = Some(reason);
                    if hall.comet.borrow().as_ref() != Some(&address) {
                        break;
                    }
                }
                Event::Refused(error) => hall.desk().tally.trouble = Some(error.message),
                Event::Kicked(reason) => hall.desk().tally.trouble = Some(format!("kicked: {reason:?}")),
                Event::Ended(end) => {
                    let mut desk = hall.desk();
                    desk.tally.online -= u64::from(online);
                    desk.tally.trouble = Some(format!("ended: {end:?}"));
                    return;
                }
                _ => {}
            }
        }
    }
}

fn see(hall: &Hall, watched: &mut Watched, user: u64, push: &Push, now: Duration) {
    if !matches!(push.body, PushBody::Call(_)) {
        return;
    }
    // The hashes are tried without the desk; a watch that began meanwhile is rare, and looked at again.
    loop {
        let found = watched.logins.and_then(|logins| logins.find(&watched.round, user, watched.turn, push.id));
        let mut desk = hall.desk();
        if desk.watch == watched.watch {
            if let Some((_, next)) = found {
                watched.turn = watched.turn.max(next);
            }
            desk.shown(found.map(|(sequence, _)| sequence), now);
            return;
        }
        *watched = desk.watched();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_desk_counts_each_login_once() {
        let mut desk = Desk::default();
        let schedule = Schedule { start: Duration::from_secs(1), per_s: 10.0 };
        desk.logged_in(Duration::from_secs(1));
        desk.watch("a".into(), Logins::Records { run: 1, users: 2 }, Some(schedule));
        for sequence in [Some(0), Some(1), Some(1), None] {
            desk.shown(sequence, Duration::from_millis(1150));
        }
        let tally = desk.tell(true);
        assert_eq!((tally.online, tally.shown, tally.duplicated, tally.strange), (1, 2, 1, 1));
        let mut latencies = Latencies::default();
        latencies.add(&tally.latencies);
        assert!((latencies.percentile_ms(1.0) - 150.0).abs() < 0.2, "counted from when it was due");
        desk.watch("b".into(), Logins::Own, None);
        assert_eq!((desk.tell(false).shown, desk.tell(false).online), (0, 1));
    }
}
