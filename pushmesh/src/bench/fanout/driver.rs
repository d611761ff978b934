//! The load driver's process: a loop over epoll that holds thousands of bare connections and reads only when it is told to.

use std::{
    io::{BufRead, Write},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    unistd::Pid,
};
use pushmesh_auth::Minter;
use pushmesh_protocol::RoomId;

use super::{
    client::{Client, Counts},
    frames::Protocol,
    manner::Manner,
    orders::{Answer, Due, Order},
};
use crate::bench::{latency::Latencies, machine, population};

/// What one read takes at most.
const SCRATCH_BYTES: usize = 256 * 1024;
/// Connections that are on their way in at once.
const ENTERING: usize = 256;
const EVENTS: usize = 1024;
/// A comet that has heard nothing for 75 s lets go.
const PING_AFTER: Duration = Duration::from_secs(15);
/// A token's life: longer than any bench.
const TOKENS: Duration = Duration::from_secs(24 * 3600);

/// Runs until standard input ends.
pub fn run() -> anyhow::Result<()> {
    let mut driver = Driver::new()?;
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let order = serde_json::from_str(&line?)?;
        let answer = driver.obey(order).unwrap_or_else(|error| Answer::Failed(format!("{error:#}")));
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        out.write_all(&line)?;
        out.flush().context("nobody hears the answers")?;
    }
    Ok(())
}

struct Driver {
    epoll: Epoll,
    events: Vec<EpollEvent>,
    manner: Manner,
    clients: Vec<Client>,
    /// So many of them count.
    members: usize,
    scratch: Vec<u8>,
    pinged: Instant,
}

impl Driver {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll")?,
            events: vec![EpollEvent::empty(); EVENTS],
            manner: Manner::new(Protocol::WebSocket, None),
            clients: Vec::new(),
            members: 0,
            scratch: vec![0; SCRATCH_BYTES],
            pinged: Instant::now(),
        })
    }

    fn obey(&mut self, order: Order) -> anyhow::Result<Answer> {
        match order {
            Order::Settle { cpus } => {
                let mut set = CpuSet::new();
                cpus.into_iter().try_for_each(|cpu| set.set(cpu))?;
                sched_setaffinity(Pid::from_raw(0), &set).context("stay on some CPUs")?;
                Ok(Answer::Done)
            }
            Order::Connect { protocol, address, first, count, decoders, jwks, within_ms } => {
                self.manner = Manner::new(protocol, None);
                let minter = jwks.map(|jwks| Minter::from_jwks(&jwks)).transpose()?;
                let token = |user: u64| {
                    let login = population::own_login(user);
                    minter.as_ref().map(|minter| minter.client(&population::user(user), Some(login.token()), TOKENS))
                };
                let deadline = Instant::now() + Duration::from_millis(within_ms);
                let (target, mut user) = (self.clients.len() + count as usize, first);
                self.until(deadline, &mut Counts::new(None), |driver| {
                    let mut entering = driver.clients.iter().rev().take(ENTERING).filter(|one| !one.is_in()).count();
                    while entering < ENTERING && driver.clients.len() < target {
                        let decodes = (driver.clients.len() as u64) < decoders;
                        driver.open(address, token(user), decodes)?;
                        (user, entering) = (user + 1, entering + 1);
                    }
                    Ok(driver.clients.len() == target && driver.clients.iter().all(Client::is_in))
                })?;
                Ok(Answer::Done)
            }
            Order::Join { room, count, within_ms } => self.join(room, count as usize, within_ms),
            Order::Read { until, due, within_ms } => self.read(until, due, within_ms),
        }
    }

    fn open(&mut self, address: std::net::SocketAddr, token: Option<String>, decodes: bool) -> anyhow::Result<()> {
        let client = Client::open(&self.manner, address, token, decodes)?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, self.clients.len() as u64);
        self.epoll.add(client.stream().as_fd(), event).context("epoll")?;
        self.clients.push(client);
        Ok(())
    }

    fn join(&mut self, room: RoomId, count: usize, within_ms: u64) -> anyhow::Result<Answer> {
        if count > self.clients.len() {
            bail!("{count} are to join of {}", self.clients.len());
        }
        self.manner = Manner::new(self.manner.protocol, Some(room));
        self.members = count;
        let deadline = Instant::now() + Duration::from_millis(within_ms);
        let mut asked = 0;
        self.until(deadline, &mut Counts::new(None), |driver| {
            while asked < count && driver.clients[..asked].iter().rev().take(ENTERING).any(Client::is_in)
                || asked < count.min(ENTERING)
            {
                driver.clients[asked].join(&driver.manner)?;
                asked += 1;
            }
            Ok(asked == count && driver.clients[..count].iter().all(Client::is_in))
        })?;
        Ok(Answer::Done)
    }

    fn read(&mut self, until: u64, due: Option<Due>, within_ms: u64) -> anyhow::Result<Answer> {
        let mut trouble = None;
        if self.pinged.elapsed() > PING_AFTER {
            self.pinged = Instant::now();
            let Self { clients, manner, .. } = self;
            let broken = clients.iter_mut().find_map(|client| client.ping(manner).err());
            if let Some(error) = broken {
                trouble = Some(format!("{error:#}"));
            }
        }
        let mut counts = Counts::new(due);
        let deadline = Instant::now() + Duration::from_millis(within_ms);
        let ended = self.until(deadline, &mut counts, |driver| {
            let has_all = |client: &Client| client.next >= until;
            Ok(driver.clients[..driver.members].iter().all(has_all)
                && driver.clients.iter().all(|client| client.pings == 0))
        });
        let behind: u64 = self.clients[..self.members].iter().map(|client| until.saturating_sub(client.next)).sum();
        let mut latencies = Latencies::default();
        counts.latencies().for_each(|(us, count)| latencies.record_many(Duration::from_micros(us), count));
        let mut tally = counts.tally;
        tally.missing += behind;
        tally.trouble = ended.err().map(|error| format!("{error:#}")).or(trouble);
        tally.latencies = latencies.counted();
        // What is behind is lost once: the next messages are counted from here.
        self.clients.iter_mut().for_each(|client| client.next = client.next.max(until));
        Ok(Answer::Tally(tally))
    }

    /// Reads until it is `over`, or the time is.
    fn until(
        &mut self,
        deadline: Instant,
        counts: &mut Counts,
        mut over: impl FnMut(&mut Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let mut look_at = Instant::now();
        loop {
            // It looks at all connections: not after each wait.
            if Instant::now() >= look_at {
                if over(self)? {
                    return Ok(());
                }
                let begun = Instant::now();
                if begun > deadline {
                    bail!("not within the time there was");
                }
                look_at = begun + Duration::from_millis(2);
            }
            let ready = self.epoll.wait(&mut self.events, EpollTimeout::from(2_u8)).context("epoll")?;
            let Self { events, clients, manner, scratch, .. } = self;
            for event in &events[..ready] {
                let client = &mut clients[event.data() as usize];
                client.read(manner, scratch, counts, || machine::now().as_nanos() as u64)?;
            }
        }
    }
}
