//! A shard: one thread that owns listeners, connections and their timers, and shares nothing on the way of a delivery.
//!
//! Tasks on its runtime only choose what happens next: a socket became readable ([`live`]), a newcomer's login was
//! decided ([`enter`]), a command came, a second passed. What then happens is applied to [`State`] by synchronous
//! methods ([`receive`], [`send`], [`rooms`], [`sweep`]), so no borrow lasts across an await.

pub mod accept;
pub mod command;
pub mod enter;
pub mod farewell;
pub mod live;
pub mod outlet;
pub mod receive;
pub mod rooms;
pub mod send;
pub mod slab;
pub mod sweep;

use std::{
    cell::{Cell, RefCell},
    io,
    net::TcpListener,
    ops::ControlFlow,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use pushmesh_protocol::{
    frame::{Pong, Reconnect, ServerFrame},
    message::Millis,
};
use tokio::task::LocalSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{
    command::{Closed, Inbox, Renewal, Urgent, Work},
    outlet::{Outlets, RoomNews, SessionNote},
    slab::{Slab, Spot},
    sweep::SweepScratch,
};
use crate::{
    address::{Address, Dice},
    backlog::BacklogLimits,
    close::CloseReason,
    config::Config,
    framing::{Dialect, handshake::Policy},
    lane::Outgoing,
    limit::{Bucket, Door, Micros, Rate},
    metrics::{ShardMetrics, Tally},
    room::table::Rooms,
    socket,
    wheel::{Second, Wheel},
};

/// What one read takes at most, in bytes: one buffer for all connections of the shard.
const SCRATCH_BYTES: usize = 64 * 1024;
/// How often timers are looked at and counts published.
const TICK: Duration = Duration::from_millis(250);
/// How long a shard that ends waits for clients to take their last words.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Milliseconds since 1970.
pub fn wall() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}

/// What a thread needs to become a shard.
pub struct Setup {
    pub id: u16,
    pub config: Arc<Config>,
    pub door: Arc<Door>,
    pub outlets: Outlets,
    pub inbox: Inbox,
    pub websocket: TcpListener,
    pub tcp: TcpListener,
    /// Cancelled when the thread ends, in whatever way.
    pub ended: DropGuard,
}

/// Starts the thread. It ends with [`Urgent::Stop`], or when nobody holds its queues any more.
pub fn spawn(setup: Setup) -> io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("shard-{}", setup.id)).spawn(move || {
        if setup.config.pin_shards
            && let Err(error) = socket::pin_to_core(usize::from(setup.id))
        {
            tracing::warn!(shard = setup.id, %error, "not pinned to a core");
        }
        let local = LocalSet::new();
        local.block_on(&runtime, run(setup));
    })
}

/// One thread's world.
pub struct Shard {
    pub id: u16,
    pub config: Arc<Config>,
    pub door: Arc<Door>,
    pub outlets: Outlets,
    pub policy: Policy,
    pub metrics: ShardMetrics,
    pub scratch: RefCell<Box<[u8]>>,
    pub state: RefCell<State>,
    pub courtesies: Rc<Cell<usize>>,
    /// The comet is going: nobody is accepted, and who has not said LOGIN yet is sent away.
    pub leaving: CancellationToken,
    pongs: [Bytes; Dialect::ALL.len()],
    start: Instant,
}

/// What changes.
pub struct State {
    pub slab: Slab,
    pub rooms: Rooms,
    pub wheel: Wheel<Spot>,
    /// Connections with a backlog.
    pub blocked: Vec<Spot>,
    pub tally: Tally,
    pub dice: Dice,
    pub accepts: Bucket,
    /// Where several frames for one connection become one write.
    pub out: Vec<u8>,
    pub sweeping: SweepScratch,
    /// The goodbye has come to this slot.
    goodbye_at: u32,
    backlog_bytes: usize,
    /// As last published.
    members: u64,
    /// Writes that were published.
    #[cfg(feature = "bench-floor")]
    pub written: u64,
}

async fn run(setup: Setup) {
    let Setup { id, config, door, outlets, mut inbox, websocket, tcp, ended: _ended } = setup;
    let shard = Rc::new(Shard::new(id, config, door, outlets));
    for (listener, transport) in [(websocket, accept::Transport::WebSocket), (tcp, accept::Transport::Tcp)] {
        let listener = tokio::net::TcpListener::from_std(listener).expect("the listener is non-blocking");
        tokio::task::spawn_local(accept::run(shard.clone(), listener, transport));
    }
    let (mut work, mut next_tick) = (Work::default(), tokio::time::Instant::now());
    loop {
        if tokio::time::Instant::now() >= next_tick {
            shard.tick();
            next_tick = tokio::time::Instant::now() + TICK;
        }
        // A bounded number of everything, and then sockets get their turn.
        let appetite = shard.appetite();
        inbox.take(&mut work, appetite);
        if work.is_empty() && !shard.is_sweeping() {
            tokio::select! {
                come = inbox.wait(&mut work, appetite) => if let Err(Closed) = come { break },
                () = tokio::time::sleep_until(next_tick) => {}
            }
            // More may have come with it.
            inbox.take(&mut work, appetite);
        }
        if shard.work(&mut work).is_break() {
            break;
        }
        tokio::task::yield_now().await;
    }
    shard.tick();
    shard.hear_out().await;
}

impl Shard {
    fn new(id: u16, config: Arc<Config>, door: Arc<Door>, outlets: Outlets) -> Self {
        let pong = ServerFrame::Pong(Pong {});
        Self {
            id,
            policy: Policy {
                path: config.path.clone(),
                origins: config.allowed_origins.clone(),
                without_origin: config.allow_missing_origin,
            },
            metrics: ShardMetrics::default(),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice()),
            state: RefCell::new(State {
                slab: Slab::default(),
                rooms: Rooms::default(),
                wheel: Wheel::new(0),
                blocked: Vec::new(),
                tally: Tally::default(),
                dice: Dice::default(),
                accepts: Bucket::default(),
                out: Vec::new(),
                sweeping: SweepScratch::default(),
                goodbye_at: 0,
                backlog_bytes: 0,
                members: 0,
                #[cfg(feature = "bench-floor")]
                written: 0,
            }),
            courtesies: Rc::default(),
            leaving: CancellationToken::new(),
            pongs: Dialect::ALL.map(|dialect| dialect.encode(&pong)),
            start: Instant::now(),
            config,
            door,
            outlets,
        }
    }

    // Last words are on their way to clients that have been let go.
    async fn hear_out(&self) {
        let heard = async {
            while self.courtesies.get() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, heard).await;
    }

    pub fn now(&self) -> Micros {
        self.start.elapsed().as_micros() as Micros
    }

    pub fn second(&self) -> Second {
        self.start.elapsed().as_secs() as Second
    }

    pub fn pong(&self, dialect: Dialect) -> Bytes {
        self.pongs[dialect as usize].clone()
    }

    pub fn backlog_limits(&self) -> BacklogLimits {
        let limits = &self.config.limits;
        BacklogLimits { messages: limits.backlog_messages as usize, bytes: limits.backlog_bytes as usize }
    }

    pub fn frame_rate(&self) -> Rate {
        Rate { per_second: self.config.limits.frames_per_second, burst: self.config.limits.frames_burst }
    }

    pub fn address(&self, spot: Spot, dialect: Dialect) -> Address {
        Address { shard: self.id, slot: spot.slot, nonce: spot.nonce, dialect }
    }

    fn is_sweeping(&self) -> bool {
        self.state.borrow().rooms.is_busy()
    }

    /// Does what was taken, and goes on with what is under way. Break: the shard ends.
    fn work(&self, work: &mut Work) -> ControlFlow<()> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        for urgent in work.urgent.drain(..) {
            match urgent {
                Urgent::Stop => return ControlFlow::Break(()),
                urgent => self.apply(state, urgent),
            }
        }
        self.deliver(state, &mut work.batches);
        for delivery in work.rooms.drain(..) {
            self.take_room(state, delivery, self.now());
        }
        self.sweep(state);
        ControlFlow::Continue(())
    }

    fn apply(&self, state: &mut State, urgent: Urgent) {
        match urgent {
            Urgent::Answer { to, frame } => {
                let spot = Spot::of(&to);
                if let Some(live) = state.slab.live(spot) {
                    live.questions = live.questions.saturating_sub(1);
                    self.send(state, spot, Outgoing::high(frame), self.now());
                }
            }
            Urgent::Joined(joined) => self.joined(state, *joined, self.now()),
            Urgent::NotJoined(refused) => self.not_joined(state, *refused, self.now()),
            Urgent::StopAccepting => self.leaving.cancel(),
            Urgent::Goodbye { count, after_most_ms } => self.goodbye(state, count, after_most_ms),
            Urgent::RoomsOf(addresses, answer) => {
                let _ = answer.send(rooms::rooms_of(state, &addresses));
            }
            Urgent::Sessions(answer) => {
                // The asker may have given up; then nobody misses the answer.
                let _ = answer.send(sessions(&state.slab).collect());
            }
            Urgent::Renewed(renewals, answer) => {
                let mut gone = Vec::new();
                for (address, Renewal { revision, comet_epoch }) in renewals {
                    match state.slab.live(Spot::of(&address)) {
                        Some(live) => {
                            live.session.revision = revision;
                            live.session.comet_epoch = comet_epoch;
                        }
                        None => gone.push(address),
                    }
                }
                let _ = answer.send(gone);
            }
            #[cfg(feature = "bench-floor")]
            Urgent::Floor(order) => self.floor(state, *order),
            Urgent::Stop => unreachable!("taken by the caller"),
        }
    }

    fn goodbye(&self, state: &mut State, count: usize, after_most_ms: u32) {
        for _ in 0..count {
            let found = state.slab.next_live(state.goodbye_at).or_else(|| state.slab.next_live(0));
            let Some(spot) = found else { return };
            let Some(dialect) = state.slab.live(spot).map(|live| live.dialect) else { return };
            state.goodbye_at = spot.slot + 1;
            // Each its own: the clients of one slice spread over all that have room.
            let address = self.door.elsewhere(dialect, &mut state.dice);
            let frame = Reconnect { after_ms: state.dice.up_to(after_most_ms), address };
            self.tell(state, spot, &ServerFrame::Reconnect(frame), self.now());
            state.close(spot, CloseReason::Goodbye);
        }
    }

    fn tick(&self) {
        let (now, second) = (self.now(), self.second());
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        self.look_after_timers(state, now, second);
        self.look_after_the_slow(state, now);
        state.rooms.tell(|rooms| self.outlets.rooms.try_send(RoomNews::Tallies { shard: self.id, rooms }).is_ok());
        let members = state.rooms.members();
        if members != state.members {
            self.metrics.members_changed(members as f64 - state.members as f64);
            state.members = members;
        }
        #[cfg(feature = "bench-floor")]
        {
            state.written += state.tally.writes;
        }
        self.metrics.publish(&mut state.tally);
    }

    fn look_after_timers(&self, state: &mut State, now: Micros, second: Second) {
        let mut due = Vec::new();
        state.wheel.advance(second, &mut due);
        for spot in due {
            let Some(live) = state.slab.live(spot) else { continue };
            if live.expires <= second {
                self.kick(state, spot, pushmesh_protocol::frame::KickReason::TokenExpired, now);
            } else if live.last_seen + live.silence <= second {
                live.close(CloseReason::Heartbeat);
            } else {
                let next = live.expires.min(live.last_seen + live.silence);
                state.wheel.put(next, spot);
            }
        }
    }

    fn look_after_the_slow(&self, state: &mut State, now: Micros) {
        let patience = self.config.limits.blocked_for.as_micros() as Micros;
        let State { slab, blocked, backlog_bytes, .. } = state;
        let mut waiting = 0;
        blocked.retain(|spot| {
            let Some(live) = slab.live(*spot) else { return false };
            let Some(backlog) = &live.backlog else { return false };
            waiting += backlog.bytes();
            if now.saturating_sub(backlog.progress()) > patience {
                live.close(CloseReason::Kicked(pushmesh_protocol::frame::KickReason::TooSlow));
            }
            true
        });
        if waiting != *backlog_bytes {
            self.metrics.backlog_changed(waiting as f64 - *backlog_bytes as f64);
            *backlog_bytes = waiting;
        }
    }
}

impl State {
    pub fn close(&mut self, spot: Spot, reason: CloseReason) {
        if let Some(live) = self.slab.live(spot) {
            live.close(reason);
        }
    }
}

fn sessions(slab: &Slab) -> impl Iterator<Item = SessionNote> + '_ {
    let mut slot = 0;
    std::iter::from_fn(move || {
        let spot = slab.next_live(slot)?;
        slot = spot.slot + 1;
        slab.session(spot)
    })
}
