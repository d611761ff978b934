//! Shards with real sockets; the test plays the mesh behind them.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use comet::{
    address::Address,
    close::CloseReason,
    config::Config,
    framing::Dialect,
    limit::{Door, DoorLimits},
    room::Tally,
    shard::{
        self, Setup,
        command::{self, Batch, Delivery, Queues, Receipt, Urgent, What},
        outlet::{
            AckEvent, Admitted, Ending, JoinRequest, LoginRequest, Question, Refused, RoomNews, SessionNote, outlets,
        },
        wall,
    },
    socket,
};
use futures_util::{SinkExt, StreamExt};
use pushmesh_protocol::{
    DeviceId, Partition, PushId, RoomId,
    frame::{
        ClientFrame, Encoding, Error, ErrorCode, HeartbeatProfile, KickReason, Login, LoginOk, Message, Push, PushBody,
        ServerFrame,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest};
use tokio_util::sync::CancellationToken;

/// More than anything takes on a machine that is busy with other things.
pub const SOON: Duration = Duration::from_secs(60);

/// What the mesh side has seen.
#[derive(Default)]
pub struct Seen {
    pub logins: Vec<Address>,
    pub acks: Vec<AckEvent>,
    pub questions: Vec<Question>,
    pub joins: Vec<JoinRequest>,
    /// The newest of each shard and room.
    pub tallies: HashMap<(u16, RoomId), Tally>,
    pub endings: Vec<Ending>,
    held: Vec<LoginRequest>,
}

impl Seen {
    fn hear(&mut self, news: RoomNews) {
        match news {
            RoomNews::Join(request) => self.joins.push(*request),
            RoomNews::Tallies { shard, rooms } => {
                self.tallies.extend(rooms.into_iter().map(|tally| ((shard, tally.room.clone()), tally)));
            }
        }
    }
}

pub struct Comet {
    pub websocket: SocketAddr,
    pub tcp: SocketAddr,
    pub queues: Vec<Queues>,
    pub door: Arc<Door>,
    pub seen: Arc<Mutex<Seen>>,
}

/// Two shards, ports of their own, and no limit of time that a busy machine could pass: a test sets those it is about.
pub fn config() -> Config {
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let mut config = Config { websocket: local, tcp: local, shards: 2, pin_shards: false, ..Config::default() };
    config.limits.handshake_within = SOON;
    config.limits.login_within = SOON;
    config.limits.blocked_for = 5 * SOON;
    config.heartbeat.normal = 5 * SOON;
    config.rooms.join_within = SOON;
    config.report_within = SOON;
    config.app_within = SOON;
    config.calls_within = SOON;
    config
}

/// Where a comet is.
pub trait Doors {
    fn websocket(&self) -> SocketAddr;
    fn tcp(&self) -> SocketAddr;
}

impl Doors for Comet {
    fn websocket(&self) -> SocketAddr {
        self.websocket
    }
    fn tcp(&self) -> SocketAddr {
        self.tcp
    }
}

impl Comet {
    /// Its logins are answered by their token: `user:ann`, `user:ann:expires:1500` (ms), `no`, or `hold` until
    /// [`release`](Self::release).
    pub fn start(config: Config) -> Self {
        let limits = &config.limits;
        let door = Door::new(DoorLimits::from(limits));
        let (outlets, mut intake) = outlets(limits.connections as usize, limits.before_login as usize);
        let websocket = socket::listeners(config.websocket, config.shards, &config.socket).unwrap();
        let tcp = socket::listeners(config.tcp, config.shards, &config.socket).unwrap();
        let doors = (websocket[0].local_addr().unwrap(), tcp[0].local_addr().unwrap());
        let config = Arc::new(config);
        let mut all = Vec::new();
        for (id, (websocket, tcp)) in websocket.into_iter().zip(tcp).enumerate() {
            let (queues, inbox) = command::queues(config.rooms.queue);
            let (config, door, outlets) = (config.clone(), door.clone(), outlets.clone());
            shard::spawn(Setup {
                id: id as u16,
                config,
                door,
                outlets,
                inbox,
                websocket,
                tcp,
                ended: CancellationToken::new().drop_guard(),
            })
            .unwrap();
            all.push(queues);
        }
        let seen = Arc::<Mutex<Seen>>::default();
        let note = seen.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(request) = intake.logins.recv() => decide(&note, request),
                    Some(event) = intake.acks.recv() => note.lock().unwrap().acks.push(event),
                    Some(question) = intake.questions.recv() => note.lock().unwrap().questions.push(question),
                    Some(news) = intake.rooms.recv() => note.lock().unwrap().hear(news),
                    Some(ending) = intake.endings.recv() => note.lock().unwrap().endings.push(ending),
                    else => return,
                }
            }
        });
        Self { websocket: doors.0, tcp: doors.1, queues: all, door, seen }
    }

    pub fn release(&self) {
        let held = std::mem::take(&mut self.seen.lock().unwrap().held);
        for mut request in held {
            request.login.token = "user:ann".into();
            decide(&self.seen, request);
        }
    }

    pub async fn push(&self, to: Address, frames: impl IntoIterator<Item = Bytes>) {
        let deliveries = frames
            .into_iter()
            .enumerate()
            .map(|(number, frame)| {
                let receipt =
                    Receipt { partition: Partition(1), user: "ann".parse().unwrap(), push: push_id(number as u64) };
                Delivery { to, what: What::Push { frame, receipt }, span: None }
            })
            .collect();
        self.deliver(to, deliveries).await;
    }

    pub async fn kick(&self, to: Address, reason: KickReason) {
        self.deliver(to, vec![Delivery { to, what: What::Kick(reason), span: None }]).await;
    }

    async fn deliver(&self, to: Address, deliveries: Vec<Delivery>) {
        let batch = Batch { received: Instant::now(), deliveries };
        self.queues[usize::from(to.shard)].deliveries.send(batch).await.unwrap();
    }

    pub async fn tell(&self, to: Address, urgent: Urgent) {
        self.queues[usize::from(to.shard)].urgent.send(urgent).await.unwrap();
    }

    /// Waits until what was seen gives an answer.
    pub async fn until<T>(&self, what: &str, found: impl Fn(&mut Seen) -> Option<T>) -> T {
        pushmesh_testkit::wait_for(what, SOON, || async { found(&mut self.seen.lock().unwrap()).ok_or("not seen yet") })
            .await
    }
}

fn decide(seen: &Mutex<Seen>, request: LoginRequest) {
    let mut seen = seen.lock().unwrap();
    seen.logins.push(request.address);
    let token = request.login.token.clone();
    let mut words = token.split(':');
    let result = match (words.next(), words.next(), words.next(), words.next()) {
        (Some("hold"), ..) => return seen.held.push(request),
        (Some("user"), Some(user), expiry, millis) => {
            let life = expiry.and(millis).map_or(60_000, |millis| millis.parse().unwrap());
            Ok(Admitted {
                session: SessionNote {
                    address: request.address,
                    partition: Partition(1),
                    user: user.parse().unwrap(),
                    device: request.login.device.clone(),
                    login_id: format!("login-of-{user}").parse().unwrap(),
                    since: wall(),
                    revision: 7,
                    comet_epoch: 3,
                },
                expires: wall() + life,
                resumed: false,
            })
        }
        _ => Err(Refused {
            error: Error {
                error: ErrorCode::Unauthorized,
                field: Some("LOGIN.token".into()),
                message: "signature is wrong".into(),
                retry_after_ms: None,
                address: None,
                re: None,
                room: None,
            },
            reason: CloseReason::LoginRefused,
        }),
    };
    let _ = request.answer.send(result);
}

pub fn push_id(number: u64) -> PushId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    PushId::from_bytes(bytes)
}

/// A push of about `size` bytes.
pub fn push(number: u64, size: usize) -> ServerFrame {
    ServerFrame::Push(Push {
        id: push_id(number),
        seq: number,
        body: PushBody::Message(Message { sender: "test".parse().unwrap(), data: vec![7; size].into() }),
        at: 0,
    })
}

pub fn login(token: &str) -> ClientFrame {
    ClientFrame::Login(Login {
        token: token.into(),
        device: DeviceId::new("phone").unwrap(),
        resume: None,
        heartbeat: HeartbeatProfile::Normal,
    })
}

/// One length-prefixed frame.
pub fn tcp_frame(frame: &ClientFrame) -> Vec<u8> {
    comet::framing::tcp::write(&frame.encode(Encoding::MessagePack))
}

/// One masked WebSocket frame.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = comet::framing::websocket::write(comet::framing::websocket::Opcode::Binary, payload);
    let size = out.len() - payload.len();
    out[0] = first;
    out[1] |= 0x80;
    let mask = [0x12, 0x34, 0x56, 0x78];
    out.splice(size..size, mask);
    for (at, byte) in out[size + 4..].iter_mut().enumerate() {
        *byte ^= mask[at % 4];
    }
    out
}

/// A client of the plain TCP door.
pub struct Tcp {
    pub stream: TcpStream,
}

impl Tcp {
    pub async fn connect(comet: &impl Doors) -> Self {
        Self { stream: TcpStream::connect(comet.tcp()).await.unwrap() }
    }

    pub async fn login(comet: &impl Doors, token: &str) -> (Self, Address) {
        let (client, ok) = Self::log_in(comet, login(token)).await;
        (client, Address::of(&ok.conn_id).unwrap())
    }

    pub async fn log_in(comet: &impl Doors, login: ClientFrame) -> (Self, LoginOk) {
        let mut client = Self::connect(comet).await;
        client.send(&login).await;
        match client.next().await {
            Some(ServerFrame::LoginOk(ok)) => (client, ok),
            other => panic!("no LOGIN_OK but {other:?}"),
        }
    }

    pub async fn send(&mut self, frame: &ClientFrame) {
        self.stream.write_all(&tcp_frame(frame)).await.unwrap();
    }

    /// `None`: the comet closed.
    pub async fn next(&mut self) -> Option<ServerFrame> {
        let read = async {
            let length = self.stream.read_u32().await?;
            let mut body = vec![0; length as usize];
            self.stream.read_exact(&mut body).await?;
            Ok::<_, io::Error>(ServerFrame::decode(Encoding::MessagePack, &body).unwrap())
        };
        tokio::time::timeout(SOON, read).await.expect("a frame, or the end, in time").ok()
    }

    pub async fn error(&mut self) -> Error {
        match self.next().await {
            Some(ServerFrame::Error(error)) => error,
            other => panic!("no ERROR but {other:?}"),
        }
    }

    pub async fn expect_end(&mut self) {
        assert_eq!(self.next().await, None);
    }
}

/// A client of the WebSocket door, by another implementation of the RFC.
pub struct Ws {
    pub socket: tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<TcpStream>>,
    encoding: Encoding,
}

impl Ws {
    pub async fn connect(comet: &impl Doors, encoding: Encoding) -> Self {
        let mut request = format!("ws://{}/", comet.websocket()).into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", encoding.subprotocol().parse().unwrap());
        let (socket, response) = tokio_tungstenite::connect_async(request).await.unwrap();
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], encoding.subprotocol());
        Self { socket, encoding }
    }

    pub async fn login(comet: &impl Doors, encoding: Encoding, token: &str) -> (Self, Address) {
        let mut client = Self::connect(comet, encoding).await;
        client.send(&login(token)).await;
        match client.next().await {
            Ok(ServerFrame::LoginOk(ok)) => {
                let address = Address::of(&ok.conn_id).unwrap();
                (client, address)
            }
            other => panic!("no LOGIN_OK but {other:?}"),
        }
    }

    pub async fn send(&mut self, frame: &ClientFrame) {
        let bytes = frame.encode(self.encoding);
        let message = match self.encoding {
            Encoding::MessagePack => tungstenite::Message::binary(bytes),
            Encoding::Json => tungstenite::Message::text(String::from_utf8(bytes).unwrap()),
        };
        self.raw(message).await;
    }

    pub async fn raw(&mut self, message: tungstenite::Message) {
        self.socket.send(message).await.unwrap();
    }

    /// The next frame, or the close code and words.
    pub async fn next(&mut self) -> Result<ServerFrame, (u16, String)> {
        let next = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(tungstenite::Message::Binary(bytes))) => {
                        return Ok(ServerFrame::decode(Encoding::MessagePack, &bytes).unwrap());
                    }
                    Some(Ok(tungstenite::Message::Text(text))) => {
                        return Ok(ServerFrame::decode(Encoding::Json, text.as_bytes()).unwrap());
                    }
                    Some(Ok(tungstenite::Message::Close(frame))) => {
                        let frame = frame.expect("a comet names its reason");
                        return Err((frame.code.into(), frame.reason.to_string()));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Err((1006, String::new())),
                }
            }
        };
        tokio::time::timeout(SOON, next).await.expect("a frame, or the end, in time")
    }

    pub async fn error(&mut self) -> Error {
        match self.next().await {
            Ok(ServerFrame::Error(error)) => error,
            other => panic!("no ERROR but {other:?}"),
        }
    }

    pub async fn expect_close(&mut self, code: u16) -> String {
        match self.next().await {
            Err((found, words)) if found == code => words,
            other => panic!("no close {code} but {other:?}"),
        }
    }
}

pub async fn sessions(comet: &Comet) -> usize {
    let mut count = 0;
    for queues in &comet.queues {
        let (answer, answered) = oneshot::channel();
        queues.urgent.send(Urgent::Sessions(answer)).await.unwrap();
        count += answered.await.unwrap().len();
    }
    count
}

pub fn encode(to: Address, frame: &ServerFrame) -> Bytes {
    to.dialect.encode(frame)
}

pub const DIALECTS: [Dialect; 3] = Dialect::ALL;
