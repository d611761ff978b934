//! From an accepted socket to a login: a newcomer, who may say one thing.
//!
//! A newcomer is not a connection of the slab and has none of its abilities. [`Newcomer::log_in`] consumes it; only what
//! comes out of a granted login becomes a [`Live`] one.

use std::{net::IpAddr, os::fd::AsRawFd, rc::Rc, time::Duration};

use pushmesh_protocol::frame::{ClientFrame, Error, ErrorCode, FrameError, LoginOk, ServerFrame};
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
    limit::{Bucket, DoorLimit, Knock, Visit},
    metrics,
    proxy::{self, NoOrigin, ProxyProtocol},
};

/// Pings, pongs and fragments that may come before LOGIN is whole.
const SMALL_FRAMES_BEFORE_LOGIN: usize = 16;
/// Newcomers refused at the door that are told why at the same time; more are closed at once.
const REFUSALS_AT_ONCE: usize = 512;

/// How long a handshake may take once the comet goes.
const HANDSHAKE_WHEN_GOING: Duration = Duration::from_millis(500);
const GOING: &str = "this comet is going";

/// Sees one socket through to its login or its end.
pub async fn run(
    shard: Rc<Shard>,
    mut stream: TcpStream,
    transport: Transport,
    peer: IpAddr,
    knock: Result<Knock, DoorLimit>,
) {
    // Without a place at the door only a bounded number goes on, to be told why.
    let mut courtesy = None;
    if knock.is_err() && !be_courteous(&shard, &mut courtesy) {
        return;
    }
    let deadline = Instant::now() + shard.config.limits.handshake_within;
    let mut buf = Vec::new();
    let ip = match origin(&shard, &mut stream, &mut buf, peer, deadline).await {
        Ok(ip) => ip,
        Err(reason) => return shard.metrics.closed(&reason),
    };
    let visit = knock.and_then(|knock| knock.enter(ip));
    if visit.is_err() && courtesy.is_none() && !be_courteous(&shard, &mut courtesy) {
        return;
    }
    let outcome = match greet(&shard, stream, buf, transport, deadline).await {
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

// `false`: too many are being told already.
fn be_courteous(shard: &Shard, courtesy: &mut Option<farewell::Courtesy>) -> bool {
    *courtesy = farewell::Courtesy::take(&shard.courtesies, REFUSALS_AT_ONCE);
    if courtesy.is_none() {
        shard.metrics.closed(&CloseReason::Full);
    }
    courtesy.is_some()
}

// Where the client is: at the other end of the socket, or where the balancer there says.
async fn origin(
    shard: &Shard,
    stream: &mut TcpStream,
    buf: &mut Vec<u8>,
    peer: IpAddr,
    deadline: Instant,
) -> Result<IpAddr, CloseReason> {
    if shard.config.proxy_protocol == ProxyProtocol::Off {
        return Ok(peer);
    }
    let trusted = &shard.config.trusted_proxies;
    let said = tokio::select! {
        said = timeout_at(deadline, proxy::origin(stream, buf, peer, trusted)) => said,
        () = hurry(shard) => return Err(CloseReason::HandshakeTimeout),
    };
    match said {
        Ok(Ok(ip)) => Ok(ip),
        Ok(Err(NoOrigin::Ended | NoOrigin::Broken(_))) => Err(CloseReason::Broken),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "closed, for service.proxy_protocol is required");
            Err(CloseReason::NoProxyHeader)
        }
        Err(_) => Err(CloseReason::HandshakeTimeout),
    }
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

async fn greet(
    shard: &Shard,
    mut stream: TcpStream,
    mut buf: Vec<u8>,
    transport: Transport,
    deadline: Instant,
) -> Result<Newcomer, Leaving> {
    if transport == Transport::Tcp {
        return Ok(Newcomer { stream, dialect: Dialect::TcpPack, buf });
    }
    let (words, reason) = loop {
        match handshake::read(&buf, &shard.policy) {
            Ok(None) => {}
            Ok(Some(upgrade)) => {
                if stream.write_all(&upgrade.response).await.is_err() {
                    break (Vec::new(), CloseReason::Broken);
                }
                buf.drain(..upgrade.taken);
                return Ok(Newcomer { stream, dialect: Dialect::websocket(upgrade.encoding), buf });
            }
            Err(refused) => break (refused.response(), CloseReason::BadHandshake),
        }
        let read = tokio::select! {
            read = timeout_at(deadline, stream.read_buf(&mut buf)) => read.ok(),
            () = hurry(shard) => None,
        };
        match read {
            None => break (Vec::new(), CloseReason::HandshakeTimeout),
            Some(Err(_) | Ok(0)) => break (Vec::new(), CloseReason::Broken),
            Some(Ok(_)) => {}
        }
    };
    Err(Leaving { stream, words, reason })
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
        if let Some(wait) = visit.penalty(std::time::Instant::now()) {
            return Err(self.penalised(shard, wait));
        }
        // Who has gone while this waited may be back on another connection by now, which this one would replace.
        if self.has_gone() {
            return Err(self.leaving(None, CloseReason::Broken));
        }
        let profile = login.heartbeat;
        let place = Place::reserve(shard, self.dialect);
        let address = shard.address(place.spot, self.dialect);
        let (answer, decided) = oneshot::channel();
        if shard.outlets.logins.try_send(LoginRequest { address, login, answer }).is_err() {
            return Err(self.unavailable(shard, "too many logins wait"));
        }
        let admitted = match decided.await {
            Ok(Ok(admitted)) => admitted,
            Ok(Err(refused)) => {
                if refused.reason == CloseReason::LoginRefused {
                    visit.login_failed(std::time::Instant::now());
                }
                return Err(self.leaving(Some(ServerFrame::Error(refused.error)), refused.reason));
            }
            Err(_) => return Err(self.unavailable(shard, GOING)),
        };
        visit.login_succeeded();
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

    /// Whether the socket has ended, as far as that is known already.
    fn has_gone(&mut self) -> bool {
        match self.stream.try_read_buf(&mut self.buf) {
            Ok(read) => read == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
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
                        Err(wrong) => Err((Some(refusal(&wrong)), unreadable(&wrong))),
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
        let mut state = shard.state.borrow_mut();
        let mut told = again(ErrorCode::Full, message, shard.retry_after(&mut state));
        if limit.is_of_this_comet() {
            told.address = shard.door.elsewhere(self.dialect, &mut state.dice);
        }
        drop(state);
        self.leaving(Some(ServerFrame::Error(told)), CloseReason::Full)
    }

    fn penalised(self, shard: &Shard, wait: Duration) -> Leaving {
        metrics::login("penalised");
        let message = format!("more than limits.failed_logins of {} failed there", shard.config.limits.failed_logins);
        let retry_after_ms = wait.as_millis() as u32 + shard.retry_after(&mut shard.state.borrow_mut());
        let told = again(ErrorCode::TooFast, message, retry_after_ms);
        self.leaving(Some(ServerFrame::Error(told)), CloseReason::Penalty)
    }

    fn unavailable(self, shard: &Shard, message: &str) -> Leaving {
        metrics::login("unavailable");
        let retry_after_ms = shard.retry_after(&mut shard.state.borrow_mut());
        let told = again(ErrorCode::Unavailable, message.to_owned(), retry_after_ms);
        self.leaving(Some(ServerFrame::Error(told)), CloseReason::Unavailable)
    }

    fn leaving(self, told: Option<ServerFrame>, reason: CloseReason) -> Leaving {
        let mut words = told.map(|frame| self.dialect.encode(&frame).to_vec()).unwrap_or_default();
        words.extend(self.dialect.close(reason.code(), &reason.words()).iter().flatten());
        Leaving { stream: self.stream, words, reason }
    }
}

fn again(error: ErrorCode, message: String, retry_after_ms: u32) -> Error {
    Error { error, field: None, message, retry_after_ms: Some(retry_after_ms), address: None, re: None, room: None }
}

/// Who said LOGIN, but badly, is not told that he should have.
fn unreadable(wrong: &FrameError) -> CloseReason {
    match wrong {
        FrameError::Field { code, .. } if code == "LOGIN" => CloseReason::BadLogin(wrong.field()),
        _ => CloseReason::NotLoggedIn,
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
            rooms: None,
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
