//! The run itself: one task that carries out the plan, hears what clients and doors say, and tells the oracle.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use anyhow::{Context, bail};
use pushmesh_auth::Minter;
use pushmesh_protocol::{CallId, DeviceId, Kind, LoginId, PushId, UserId, frame::Encoding};
use tokio::{sync::mpsc, task::JoinSet, time::MissedTickBehavior};

use super::{
    clients::{Command, Report},
    clock,
    crew::Crew,
    doors::{Answered, DEVICE, Doors, Reports},
    oracle::{Moment, Oracle, Shown},
    plan::{Plan, Step},
    sabotage::Saboteur,
    table::{Progress, Table},
};

/// How long after the last step the clients have to show what they must.
const SETTLE: Duration = Duration::from_secs(30);
/// With nothing outstanding and nothing said for this long, the run is over.
const QUIET: Duration = Duration::from_millis(1500);

/// What a run leaves for the verdict.
#[derive(Debug, Default)]
pub struct Outcome {
    pub oracle: Oracle,
    pub shown: Vec<Shown>,
    pub logins: u64,
    pub logins_implied: u64,
    pub acked: u64,
    pub withdrawn: u64,
    /// What each user's clients said last of their connections, where they had trouble.
    pub troubles: HashMap<UserId, String>,
}

/// Where clients connect, and how they prove who they are.
pub struct Edge {
    pub websocket: String,
    pub tcp: String,
    pub minter: Minter,
}

/// What became of a step that went through a door.
enum Done {
    Member { kind: Kind, unit: pushmesh_protocol::Unit, users: Vec<UserId>, moment: Moment },
    Started { kind: Kind, call: CallId, unit: pushmesh_protocol::Unit, moment: Moment },
    Ended { call: CallId, moment: Moment },
}

enum Reported {
    Online { user: UserId, login: LoginId, implied: bool },
    Offline { user: UserId, conn: Option<u64> },
}

pub struct Run {
    edge: Edge,
    doors: Doors,
    crew: Crew<Command>,
    reports: Reports,
    saboteur: Option<Saboteur>,
    table: Table,
    begun: Duration,
    outcome: Outcome,
    shown: HashSet<PushId>,
    /// Records on their way, by their reference.
    waiting: HashMap<u64, Reported>,
    /// Steps on their way through the doors.
    doing: JoinSet<anyhow::Result<Done>>,
    next: u64,
    connected: BTreeMap<UserId, u64>,
    active: HashMap<CallId, Kind>,
    refused: u64,
}

impl Run {
    pub fn new(
        edge: Edge,
        doors: Doors,
        crew: Crew<Command>,
        reports: Reports,
        saboteur: Option<Saboteur>,
        table: Table,
    ) -> Self {
        let oracle = Oracle::new(doors.kinds().all().into_iter().cloned());
        Self {
            edge,
            doors,
            crew,
            reports,
            saboteur,
            table,
            begun: clock::now(),
            outcome: Outcome { oracle, ..Outcome::default() },
            shown: HashSet::new(),
            waiting: HashMap::new(),
            doing: JoinSet::new(),
            next: 0,
            connected: BTreeMap::new(),
            active: HashMap::new(),
            refused: 0,
        }
    }

    /// Carries out the whole plan and waits until the clients have shown what they must, or had the time to.
    pub async fn carry_out(
        mut self,
        plan: Plan,
        mut answers: mpsc::Receiver<Answered>,
        mut said: mpsc::Receiver<Report>,
    ) -> anyhow::Result<Outcome> {
        for ((kind, unit), users) in &plan.members {
            let users: Vec<_> = users.iter().cloned().collect();
            let moment = self.doors.members(kind, unit, &users).await.context("can't fill the directories")?;
            users.iter().for_each(|user| self.outcome.oracle.member(kind, unit, user, moment));
        }
        self.begun = clock::now();
        let mut steps = plan.steps.into_iter().peekable();
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (mut last_word, mut last_step) = (clock::now(), None);
        loop {
            let due = steps.peek().map(|(at, _)| (self.begun + *at).saturating_sub(clock::now()));
            tokio::select! {
                () = tokio::time::sleep(due.unwrap_or(Duration::MAX)), if due.is_some() => {
                    let (_, step) = steps.next().expect("a step is due");
                    self.step(step).await?;
                    if steps.peek().is_none() {
                        last_step = Some(clock::now());
                    }
                }
                report = said.recv() => {
                    last_word = clock::now();
                    self.hear(report.context("the processes of the demo's clients are gone")?).await?;
                }
                answer = answers.recv() => {
                    self.answered(answer.context("the report stream to login-ingest has ended")?).await?;
                }
                Some(done) = self.doing.join_next(), if !self.doing.is_empty() => {
                    self.done(done.context("a step panicked")??);
                }
                _ = tick.tick() => {
                    self.show(plan.length, steps.peek().is_none());
                    if let Some(since) = last_step && self.over(since, last_word) {
                        break;
                    }
                }
            }
        }
        self.table.finish();
        self.crew.stop().await?;
        if self.refused > 0 {
            bail!("{} records were refused or unknown", self.refused);
        }
        Ok(self.outcome)
    }

    fn over(&self, last_step: Duration, last_word: Duration) -> bool {
        let now = clock::now();
        if !self.waiting.is_empty() || !self.doing.is_empty() || now < last_word + QUIET {
            return now > last_step + 2 * SETTLE;
        }
        now > last_step + SETTLE || self.outcome.oracle.outstanding(&self.shown) == 0
    }

    async fn step(&mut self, step: Step) -> anyhow::Result<()> {
        let doors = self.doors.clone();
        match step {
            Step::Online { user, login, implied } => return self.online(user, login, implied).await,
            Step::Offline { user } => {
                self.next += 1;
                self.reports.offline(self.next, &user).await?;
                let conn = self.connected.remove(&user);
                self.waiting.insert(self.next, Reported::Offline { user, conn });
            }
            Step::Discuss { discussion, members } => {
                let kind = Kind::new("discuss").expect("a token");
                self.doing.spawn(async move {
                    let moment = doors.members(&kind, &discussion, &members).await.context("can't add members")?;
                    Ok(Done::Member { kind, unit: discussion, users: members, moment })
                });
            }
            Step::StartCall { kind, call, unit } => {
                self.doing.spawn(async move {
                    let moment = doors.start_call(&kind, &call, &unit).await.context("can't start a call")?;
                    Ok(Done::Started { kind, call, unit, moment })
                });
            }
            Step::EndCall { kind, call } => {
                self.active.remove(&call);
                self.doing.spawn(async move {
                    let moment = doors.end_call(&kind, &call).await.context("can't end a call")?;
                    Ok(Done::Ended { call, moment })
                });
            }
        }
        Ok(())
    }

    async fn online(&mut self, user: UserId, login: LoginId, implied: bool) -> anyhow::Result<()> {
        let device = DeviceId::new(DEVICE).expect("a token");
        if let Some(saboteur) = &mut self.saboteur {
            let calls = self.active.iter().map(|(call, kind)| (kind.clone(), call.clone()));
            saboteur.before_login(&user, &device, &login, calls).await?;
        }
        self.next += 1;
        self.reports.online(self.next, &user, &login).await?;
        if !self.connected.contains_key(&user) {
            let conn = self.next;
            let token = self.edge.minter.client(&user, Some(login.token()), Duration::from_secs(24 * 3600));
            // All three ways in are used.
            let (address, encoding) = match conn % 4 {
                0 | 1 => (&self.edge.websocket, Encoding::MessagePack),
                2 => (&self.edge.websocket, Encoding::Json),
                _ => (&self.edge.tcp, Encoding::MessagePack),
            };
            let (user, address) = (user.clone(), address.clone());
            self.connected.insert(user.clone(), conn);
            self.crew.tell(Command::Connect { conn, user, device, token, address, encoding }).await?;
        }
        self.waiting.insert(self.next, Reported::Online { user, login, implied });
        Ok(())
    }

    async fn answered(&mut self, answer: Answered) -> anyhow::Result<()> {
        let reported = self.waiting.remove(&answer.reference).context("an answer to no record")?;
        if let Err(reason) = answer.outcome {
            self.refused += 1;
            tracing::error!(reason, "a record was not accepted");
            return Ok(());
        }
        match reported {
            Reported::Online { user, login, implied } => {
                self.outcome.logins += 1;
                self.outcome.logins_implied += u64::from(implied);
                self.outcome.oracle.online(&user, login, answer.moment);
            }
            Reported::Offline { user, conn } => {
                self.outcome.oracle.offline(&user, answer.moment);
                if let Some(conn) = conn {
                    self.crew.tell(Command::Leave { conn, user }).await?;
                }
            }
        }
        Ok(())
    }

    fn done(&mut self, done: Done) {
        let oracle = &mut self.outcome.oracle;
        match done {
            Done::Member { kind, unit, users, moment } => {
                users.iter().for_each(|user| oracle.member(&kind, &unit, user, moment));
            }
            Done::Started { kind, call, unit, moment } => {
                oracle.call_started(&kind, &call, &unit, moment);
                self.active.insert(call, kind);
            }
            Done::Ended { call, moment } => oracle.call_ended(&call, moment),
        }
    }

    async fn hear(&mut self, report: Report) -> anyhow::Result<()> {
        match report {
            Report::Shown { user, id, kind, call, at_us } => {
                if let Some(saboteur) = &mut self.saboteur {
                    saboteur.after_shown(&user, &kind, &call).await?;
                }
                self.shown.insert(id);
                self.outcome.shown.push(Shown { user, id, kind, call, at: Duration::from_micros(at_us) });
            }
            Report::Acked { count } => self.outcome.acked += count,
            Report::Withdrawn { .. } => self.outcome.withdrawn += 1,
            Report::LoggedIn { user } => tracing::debug!(%user, "logged in"),
            Report::Trouble { user, text } => {
                tracing::debug!(%user, text, "trouble");
                self.outcome.troubles.insert(user, text);
            }
        }
        Ok(())
    }

    fn show(&self, length: Duration, settling: bool) {
        self.table.show(&Progress {
            elapsed: clock::now().saturating_sub(self.begun),
            length,
            settling,
            online: self.connected.len(),
            logins: self.outcome.logins,
            calls: self.active.len(),
            withdrawn: self.outcome.withdrawn,
            acked: self.outcome.acked,
            oracle: &self.outcome.oracle,
            shown: &self.outcome.shown,
        });
    }
}
