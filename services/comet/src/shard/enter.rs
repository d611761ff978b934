//! From an accepted socket to a login: a newcomer, who may say one thing.
//!
//! A newcomer is not a connection of the slab and has none of its abilities. [`Newcomer::log_in`] consumes it; only what
//! comes out of a granted login becomes a [`Live`] one.

use std::{os::fd::AsRawFd, rc::Rc, time::Duration};

use pushmesh_protocol::frame::{ClientFrame, Error, ErrorCode, LoginOk, ServerFrame};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    Shard, State,
    accept::Transport,
    farewell,
    live::{Connection, Live},
    outlet::{Admitted, LoginRequest},
    receive::{error, of_violation, refusal},
    slab::{Entering, Slot, Spot},
    wall,
};
use crate::{
    backlog::Backlog,
    close::CloseReason,
    framing::{Dialect, Input, handshake},
    lane::Outgoing,
    limit::{Bucket, DoorLimit, Visit},
    metrics,
};

/// Pings, pongs and fragments that may come before LOGIN is whole.
const SMALL_FRAMES_BEFORE_LOGIN: usize = 16;
/// Newcomers refused at the door that are told why at the same time; more are closed at once.
const REFUSALS_AT_ONCE: usize = 512;

/// How long a handshake may take once the comet goes.
const HANDSHAKE_WHEN_GOING: Duration = Duration::from_millis(500);
const GOING: &str = "this comet is going";

/// Sees one socket through to its login or its end.
pub async fn run(shard: Rc<Shard>, stream: TcpStream, transport: Transport, visit: Result<Visit, DoorLimit>) {
    let courtesy = match &visit {
        Ok(_) => None,
        Err(_) => match farewell::Courtesy::take(&shard.courtesies, REFUSALS_AT_ONCE) {
            Some(courtesy) => Some(courtesy),
            None => return shard.metrics.closed(&CloseReason::Full),
        },
    };
    let outcome = match greet(&shard, stream, transport).await {
        Err(leaving) => Err(leaving),
        Ok(newcomer) => match visit {
            Ok(visit) => newcomer.log_in(&shard, visit).await,
            Err(limit) => Err(newcomer.turned_away(&shard, limit)),
        },
    };
    match outcome {
        Ok((stream, spot)) => {
            tokio::task::spawn_local(Connection::new(shard, stream, spot));
        }
        Err(Leaving { stream, words, reason }) => {
            shard.metrics.closed(&reason);
            farewell::say(stream, &words).await;
        }
    }
    drop(courtesy);
}

/// A socket whose dialect is known and whose user is not.
struct Newcomer {
    stream: TcpStream,
    dialect: Dialect,
    /// What came behind the handshake.
    buf: Vec<u8>,
}

/// A socket that will be closed, and what it is told first.
struct Leaving {
    stream: TcpStream,
    words: Vec<u8>,
    reason: CloseReason,
}

async fn greet(shard: &Shard, mut stream: TcpStream, transport: Transport) -> Result<Newcomer, Leaving> {
    if transport == Transport::Tcp {
        return Ok(Newcomer { stream, dialect: Dialect::TcpPack, buf: Vec::new() });
    }
    let deadline = Instant::now() + shard.config.limits.handshake_within;
    let mut buf = Vec::with_capacity(1024);
    loop {
        let read = async {
            tokio::select! {
                read = timeout_at(deadline, stream.read_buf(&mut buf)) => read.ok(),
                () = hurry(shard) => None,
            }
        };
        let words = match read.await {
            None => return Err(Leaving { stream, words: Vec::new(), reason: CloseReason::HandshakeTimeout }),
            Some(Err(_) | Ok(0)) => return Err(Leaving { stream, words: Vec::new(), reason: CloseReason::Broken }),
            Some(Ok(_)) => match handshake::read(&buf, &shard.policy) {
                Ok(None) => continue,
                Ok(Some(upgrade)) => {
                    if stream.write_all(&upgrade.response).await.is_err() {
                        return Err(Leaving { stream, words: Vec::new(), reason: CloseReason::Broken });
                    }
                    buf.drain(..upgrade.taken);
                    return Ok(Newcomer { stream, dialect: Dialect::websocket(upgrade.encoding), buf });
                }
                Err(refused) => refused.response(),
            },
        };
        return Err(Leaving { stream, words, reason: CloseReason::BadHandshake });
    }
}

// When the comet goes, a handshake may still end, so that the client can be told; a slow one may not.
async fn hurry(shard: &Shard) {
    shard.leaving.cancelled().await;
    tokio::time::sleep(HANDSHAKE_WHEN_GOING).await;
}

impl Newcomer {
    /// Takes the one frame it may send, has it decided, and makes it a connection.
    async fn log_in(mut self, shard: &Rc<Shard>, visit: Visit) -> Result<(TcpStream, Spot), Leaving> {
        let login = match shard.leaving.run_until_cancelled(self.read_login(shard)).await {
            Some(Ok(login)) => login,
            Some(Err((told, reason))) => return Err(self.leaving(told, reason)),
            None => return Err(self.unavailable(shard, GOING)),
        };
        let profile = login.heartbeat;
        let place = Place::reserve(shard, self.dialect);
        let address = shard.address(place.spot, self.dialect);
        let (answer, decided) = oneshot::channel();
        if shard.outlets.logins.try_send(LoginRequest { address, login, answer }).is_err() {
            return Err(self.unavailable(shard, "too many logins wait"));
        }
        let admitted = match decided.await {
            Ok(Ok(admitted)) => admitted,
            Ok(Err(refused)) => return Err(self.leaving(Some(ServerFrame::Error(refused.error)), refused.reason)),
            Err(_) => return Err(self.unavailable(shard, GOING)),
        };
        let heartbeat = shard.config.heartbeat.of(profile);
        let ok = ServerFrame::LoginOk(LoginOk {
            user: admitted.session.user.clone(),
            login_id: admitted.session.login_id.clone(),
            conn_id: admitted.session.address.conn_id(),
            resumed: admitted.resumed,
            heartbeat,
            server_time: wall(),
            frame_max_bytes: shard.config.limits.frame_bytes,
        });
        let silence = Duration::from_millis(u64::from(heartbeat.interval_ms)) * u32::from(heartbeat.misses);
        let spot = place.spot;
        place.become_live(self.stream.as_raw_fd(), admitted, visit, silence, &ok);
        if !self.buf.is_empty() {
            shard.feed(spot, &mut self.buf);
        }
        Ok((self.stream, spot))
    }

    async fn read_login(
        &mut self,
        shard: &Shard,
    ) -> Result<pushmesh_protocol::frame::Login, (Option<ServerFrame>, CloseReason)> {
        let deadline = Instant::now() + shard.config.limits.login_within;
        let max = shard.config.limits.login_frame_bytes as usize;
        let (mut assembly, mut small) = (None, 0);
        loop {
            match self.dialect.read(&mut self.buf, &mut assembly, max) {
                Err(violation) => return Err((Some(of_violation(&violation)), CloseReason::Violation(violation))),
                Ok(Some((taken, Input::Message(message)))) => {
                    let frame = ClientFrame::decode(self.dialect.encoding(), &message);
                    let found = match frame {
                        Ok(ClientFrame::Login(login)) => Ok(login),
                        Ok(_) => Err((Some(not_logged_in()), CloseReason::NotLoggedIn)),
                        Err(wrong) => Err((Some(refusal(&wrong)), CloseReason::NotLoggedIn)),
                    };
                    self.buf.drain(..taken);
                    return found;
                }
                Ok(Some((taken, input))) => {
                    let pong = match input {
                        Input::Close(code) => return Err((None, CloseReason::Client(code))),
                        Input::Ping(payload) => self.dialect.transport_pong(payload),
                        _ => None,
                    };
                    self.buf.drain(..taken);
                    small += 1;
                    if small > SMALL_FRAMES_BEFORE_LOGIN {
                        return Err((Some(not_logged_in()), CloseReason::NotLoggedIn));
                    }
                    if let Some(pong) = pong {
                        // A newcomer that doesn't read its pong misses it.
                        let _ = self.stream.try_write(&pong);
                    }
                    continue;
                }
                Ok(None) => {}
            }
            match timeout_at(deadline, self.stream.read_buf(&mut self.buf)).await {
                Err(_) => {
                    let message =
                        format!("no LOGIN within limits.login_within of {:?}", shard.config.limits.login_within);
                    return Err((Some(error(ErrorCode::NotLoggedIn, None, message)), CloseReason::LoginTimeout));
                }
                Ok(Err(_) | Ok(0)) => return Err((None, CloseReason::Broken)),
                Ok(Ok(_)) => {}
            }
        }
    }

    fn turned_away(self, shard: &Shard, limit: DoorLimit) -> Leaving {
        let limits = &shard.config.limits;
        let message = match limit {
            DoorLimit::Connections => format!("this comet has limits.connections of {}", limits.connections),
            DoorLimit::BeforeLogin => format!("limits.before_login of {} wait to log in", limits.before_login),
            DoorLimit::PerAddress => format!("limits.per_address of {} are connected from there", limits.per_address),
        };
        metrics::login("full");
        self.refused(shard, ErrorCode::Full, message, CloseReason::Full)
    }

    fn unavailable(self, shard: &Shard, message: &str) -> Leaving {
        metrics::login("unavailable");
        self.refused(shard, ErrorCode::Unavailable, message.to_owned(), CloseReason::Unavailable)
    }

    fn refused(self, shard: &Shard, code: ErrorCode, message: String, reason: CloseReason) -> Leaving {
        let retry_after_ms = Some(shard.retry_after(&mut shard.state.borrow_mut()));
        let told = Error { error: code, field: None, message, retry_after_ms, address: None, re: None };
        self.leaving(Some(ServerFrame::Error(told)), reason)
    }

    fn leaving(self, told: Option<ServerFrame>, reason: CloseReason) -> Leaving {
        let mut words = told.map(|frame| self.dialect.encode(&frame).to_vec()).unwrap_or_default();
        words.extend(self.dialect.close(reason.code(), &reason.words()).iter().flatten());
        Leaving { stream: self.stream, words, reason }
    }
}

fn not_logged_in() -> ServerFrame {
    error(ErrorCode::NotLoggedIn, Some("code"), "the first frame must be LOGIN".into())
}

/// A slot held for a newcomer; given back unless it becomes a connection.
struct Place {
    shard: Rc<Shard>,
    spot: Spot,
}

impl Place {
    fn reserve(shard: &Rc<Shard>, dialect: Dialect) -> Self {
        let held = Backlog::new(shard.backlog_limits(), shard.now());
        let mut state = shard.state.borrow_mut();
        let nonce = state.dice.roll();
        let spot = state.slab.reserve(Entering { nonce, dialect, held, kick: None });
        drop(state);
        Self { shard: shard.clone(), spot }
    }

    fn become_live(
        self,
        fd: std::os::fd::RawFd,
        admitted: Admitted,
        visit: Visit,
        silence: Duration,
        ok: &ServerFrame,
    ) {
        let (now, second) = (self.shard.now(), self.shard.second());
        let life = Duration::from_millis(admitted.expires.saturating_sub(wall())).as_secs();
        let expires = second.saturating_add(u32::try_from(life).unwrap_or(u32::MAX / 2));
        let silence = (silence.as_millis().div_ceil(1000) as u32).max(1);
        let mut state = self.shard.state.borrow_mut();
        let State { slab, wheel, .. } = &mut *state;
        let (spot, dialect) = (self.spot, admitted.session.address.dialect);
        let entering = slab.admit(spot, || Live {
            nonce: spot.nonce,
            session: admitted.session,
            seat: visit.seat(),
            fd,
            dialect,
            bad_frames: 0,
            questions: 0,
            frames: Bucket::default(),
            last_seen: second,
            silence,
            expires,
            inbound: None,
            backlog: None,
            closing: None,
            waker: None,
        });
        let Some(entering) = entering else { return };
        wheel.put(expires.min(second + silence), spot);
        self.shard.metrics.connected(dialect.transport());
        self.shard.tell(&mut state, spot, ok, now);
        let (held, kick) = (entering.held, entering.kick);
        if !held.is_empty() {
            self.shard.send(&mut state, spot, Outgoing::high(held.into_bytes().into()), now);
        }
        if let Some(reason) = kick {
            self.shard.kick(&mut state, spot, reason, now);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.shard.state.borrow_mut();
        // Not if it became a connection: then the connection's end frees it.
        if state.slab.entering(self.spot).is_some() {
            let tenant = state.slab.remove(self.spot);
            debug_assert!(matches!(tenant, Slot::Entering(_)));
        }
    }
}
