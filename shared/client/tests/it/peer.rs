//! A comet that does what the test says.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use pushmesh_client::{Address, BackoffOptions, Encoding, Options};
use pushmesh_protocol::{
    CallId, Kind, LoginId, PushId, Unit,
    frame::{Call, CallEnded, ClientFrame, Heartbeat, Login, LoginOk, Push, PushBody, ServerFrame},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
    },
};

/// More than anything takes on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Peer {
    listener: TcpListener,
    address: Address,
    websocket: bool,
    connections: std::sync::atomic::AtomicU32,
}

pub enum Socket {
    WebSocket { stream: Box<WebSocketStream<TcpStream>>, encoding: Encoding, number: u32 },
    Tcp { stream: TcpStream, number: u32 },
}

/// A client of `peer` that tries again soon.
pub fn options(peer: &Peer) -> Options {
    let mut options = Options::new(peer.address().clone(), "token", "phone".parse().expect("a token"));
    options.backoff = BackoffOptions { first: Duration::from_millis(20), cap: Duration::from_millis(100) };
    options
}

pub fn call(n: u32) -> (PushId, Call) {
    let (kind, call_id) = (Kind::new("group").unwrap(), CallId::new(&format!("c{n}")).unwrap());
    let id = PushId::of_call(&kind, &call_id, &"u1".parse().unwrap(), &LoginId::new("l1").unwrap());
    (id, Call { kind, call_id, unit: Unit::new("g1").unwrap(), started_at: 1, data: None })
}

pub fn call_push(n: u32) -> ServerFrame {
    let (id, call) = call(n);
    ServerFrame::Push(Push { id, seq: u64::from(n), body: PushBody::Call(call), at: 2 })
}

pub fn call_ended(n: u32) -> ServerFrame {
    let (ends, call) = call(n);
    let id = ends.withdrawal();
    ServerFrame::CallEnded(CallEnded { id, seq: 9, ends, kind: call.kind, call_id: call.call_id, at: 3 })
}

impl Peer {
    pub async fn tcp() -> Self {
        Self::bind("tcp", false).await
    }

    pub async fn websocket() -> Self {
        Self::bind("ws", true).await
    }

    async fn bind(scheme: &str, websocket: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("{scheme}://{}", listener.local_addr().unwrap()).parse().unwrap();
        Self { listener, address, websocket, connections: 0.into() }
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    pub async fn accept(&self) -> Socket {
        let (stream, _) = timeout(PATIENCE, self.listener.accept()).await.expect("a connection in time").unwrap();
        let number = self.connections.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        if !self.websocket {
            return Socket::Tcp { stream, number };
        }
        let mut encoding = None;
        #[allow(clippy::result_large_err)]
        let negotiate = |request: &Request, mut response: Response| {
            let asked = request.headers()[SEC_WEBSOCKET_PROTOCOL].to_str().expect("text");
            encoding = Encoding::from_subprotocol(asked);
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(asked).expect("a name"));
            Ok(response)
        };
        let stream = accept_hdr_async(stream, negotiate).await.unwrap();
        Socket::WebSocket { stream: Box::new(stream), encoding: encoding.expect("a known subprotocol"), number }
    }
}

impl Socket {
    pub fn encoding(&self) -> Encoding {
        match self {
            Self::WebSocket { encoding, .. } => *encoding,
            Self::Tcp { .. } => Encoding::MessagePack,
        }
    }

    fn number(&self) -> u32 {
        match self {
            Self::WebSocket { number, .. } | Self::Tcp { number, .. } => *number,
        }
    }

    pub async fn next(&mut self) -> ClientFrame {
        timeout(PATIENCE, self.read()).await.expect("a frame in time")
    }

    async fn read(&mut self) -> ClientFrame {
        let encoding = self.encoding();
        let bytes = match self {
            Self::WebSocket { stream, .. } => match stream.next().await.expect("an open socket").unwrap() {
                Message::Binary(bytes) => bytes.to_vec(),
                Message::Text(text) => text.as_bytes().to_vec(),
                other => panic!("unexpected {other:?}"),
            },
            Self::Tcp { stream, .. } => {
                let bytes = stream.read_u32().await.unwrap();
                let mut frame = vec![0; bytes as usize];
                stream.read_exact(&mut frame).await.unwrap();
                frame
            }
        };
        ClientFrame::decode(encoding, &bytes).unwrap()
    }

    /// All frames in one write.
    pub async fn send(&mut self, frames: &[ServerFrame]) {
        let encoding = self.encoding();
        match self {
            Self::WebSocket { stream, .. } => {
                for frame in frames {
                    let bytes = frame.encode(encoding);
                    let message = match encoding {
                        Encoding::MessagePack => Message::Binary(bytes.into()),
                        Encoding::Json => Message::text(String::from_utf8(bytes).unwrap()),
                    };
                    stream.feed(message).await.unwrap();
                }
                stream.flush().await.unwrap();
            }
            Self::Tcp { stream, .. } => {
                let mut out = Vec::new();
                for frame in frames {
                    let bytes = frame.encode(encoding);
                    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                    out.extend_from_slice(&bytes);
                }
                stream.write_all(&out).await.unwrap();
            }
        }
    }

    pub async fn send_raw(&mut self, bytes: &[u8]) {
        let Self::Tcp { stream, .. } = self else { panic!("raw bytes go over TCP") };
        stream.write_all(bytes).await.unwrap();
    }

    pub async fn expect_login(&mut self) -> Login {
        match self.next().await {
            ClientFrame::Login(login) => login,
            other => panic!("expected LOGIN, not {other:?}"),
        }
    }

    /// Answers LOGIN, with `and` in the same write.
    pub async fn log_in(&mut self, and: &[ServerFrame]) -> Login {
        self.answer_login(25_000, 3, and).await
    }

    pub async fn log_in_with_heartbeat(&mut self, interval_ms: u32, misses: u8) -> Login {
        self.answer_login(interval_ms, misses, &[]).await
    }

    async fn answer_login(&mut self, interval_ms: u32, misses: u8, and: &[ServerFrame]) -> Login {
        let login = self.expect_login().await;
        let ok = ServerFrame::LoginOk(LoginOk {
            user: "u1".parse().unwrap(),
            login_id: "l1".parse().unwrap(),
            conn_id: format!("conn-{}", self.number()).parse().unwrap(),
            resumed: login.resume.is_some(),
            heartbeat: Heartbeat { interval_ms, misses },
            server_time: 0,
            frame_max_bytes: 4096,
        });
        let frames: Vec<_> = std::iter::once(ok).chain(and.iter().cloned()).collect();
        self.send(&frames).await;
        login
    }

    /// Reads until `count` ids are acknowledged.
    pub async fn acks(&mut self, count: usize) -> Vec<PushId> {
        let mut ids = Vec::new();
        while ids.len() < count {
            match self.next().await {
                ClientFrame::Ack(ack) => ids.extend(ack.ids),
                ClientFrame::Ping(_) => {}
                other => panic!("expected ACK, not {other:?}"),
            }
        }
        ids
    }
}
