//! One socket, and the only place that knows how frames travel in it.

use std::{io, time::Duration};

use bytes::{Buf, BytesMut};
use futures_util::{FutureExt, SinkExt, StreamExt};
use pushmesh_protocol::frame::{ClientFrame, Encoding, FRAME_MAX_BYTES, FrameError, ServerFrame};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL},
        protocol::WebSocketConfig,
    },
};

use crate::address::Address;

/// What a connection reads into: thousands of clients may live in one process.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// How long one write may block: a comet that doesn't read for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) enum Wire {
    WebSocket { stream: Box<WebSocketStream<TcpStream>>, encoding: Encoding },
    Tcp { stream: TcpStream, read: BytesMut },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("can't connect to {host}: {error}")]
    Connect { host: String, error: io::Error },
    #[error("WebSocket: {0}")]
    WebSocket(Box<tungstenite::Error>),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("closed by the comet{0}")]
    Closed(String),
    #[error("frame of {bytes} bytes; the limit is {FRAME_MAX_BYTES}")]
    TooLarge { bytes: usize },
    #[error("malformed frame: {0}")]
    Frame(FrameError),
    #[error("the comet did not read for {WRITE_TIMEOUT:?}")]
    Stalled,
}

impl From<tungstenite::Error> for WireError {
    fn from(error: tungstenite::Error) -> Self {
        Self::WebSocket(Box::new(error))
    }
}

impl Wire {
    pub async fn open(address: &Address, encoding: Encoding) -> Result<Self, WireError> {
        let connect = |error| WireError::Connect { host: address.host().to_owned(), error };
        let tcp = TcpStream::connect(address.host()).await.map_err(connect)?;
        tcp.set_nodelay(true)?;
        if let Address::Tcp { .. } = address {
            return Ok(Self::Tcp { stream: tcp, read: BytesMut::new() });
        }
        let mut request = address.to_string().into_client_request()?;
        let subprotocol = HeaderValue::from_static(encoding.subprotocol());
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(READ_BUFFER_BYTES)
            .max_write_buffer_size(4 * FRAME_MAX_BYTES)
            .max_message_size(Some(FRAME_MAX_BYTES))
            .max_frame_size(Some(FRAME_MAX_BYTES));
        let (stream, _) = client_async_with_config(request, tcp, Some(config)).await?;
        Ok(Self::WebSocket { stream: Box::new(stream), encoding })
    }

    /// The next frame; never `Ok` again after an error. Cancel safe.
    ///
    /// Frames of codes that this version doesn't know are skipped.
    pub async fn next(&mut self) -> Result<ServerFrame, WireError> {
        loop {
            let decoded = match self {
                Self::WebSocket { stream, encoding } => match stream.next().await {
                    Some(Ok(Message::Binary(bytes))) => ServerFrame::decode(*encoding, &bytes),
                    Some(Ok(Message::Text(text))) => ServerFrame::decode(*encoding, text.as_bytes()),
                    Some(Ok(Message::Close(close))) => {
                        let why = close.map(|c| format!(": {} {}", u16::from(c.code), c.reason)).unwrap_or_default();
                        return Err(WireError::Closed(why));
                    }
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => return Err(error.into()),
                    None => return Err(WireError::Closed(String::new())),
                },
                Self::Tcp { stream, read } => match take_frame(read)? {
                    Some(frame) => ServerFrame::decode(Encoding::MessagePack, &frame),
                    None => {
                        read.reserve(READ_BUFFER_BYTES);
                        if stream.read_buf(read).await? == 0 {
                            return Err(WireError::Closed(String::new()));
                        }
                        continue;
                    }
                },
            };
            match decoded {
                Ok(frame) => return Ok(frame),
                Err(FrameError::UnknownCode(code)) => tracing::debug!(code, "frame of an unknown code skipped"),
                Err(error) => return Err(WireError::Frame(error)),
            }
        }
    }

    /// The next frame that is here already.
    pub fn ready(&mut self) -> Option<Result<ServerFrame, WireError>> {
        self.next().now_or_never()
    }

    /// Sends frames in one flush. Not cancel safe: half a frame may be written.
    pub async fn send(&mut self, frames: &[ClientFrame]) -> Result<(), WireError> {
        if frames.is_empty() {
            return Ok(());
        }
        tokio::time::timeout(WRITE_TIMEOUT, self.write(frames)).await.map_err(|_| WireError::Stalled)?
    }

    async fn write(&mut self, frames: &[ClientFrame]) -> Result<(), WireError> {
        match self {
            Self::WebSocket { stream, encoding } => {
                for frame in frames {
                    let bytes = frame.encode(*encoding);
                    let message = match encoding {
                        Encoding::MessagePack => Message::Binary(bytes.into()),
                        Encoding::Json => Message::text(String::from_utf8(bytes).expect("JSON is UTF-8")),
                    };
                    stream.feed(message).await?;
                }
                stream.flush().await?;
            }
            Self::Tcp { stream, .. } => {
                let mut out = Vec::new();
                for frame in frames {
                    let bytes = frame.encode(Encoding::MessagePack);
                    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                    out.extend_from_slice(&bytes);
                }
                stream.write_all(&out).await?;
            }
        }
        Ok(())
    }
}

/// Splits off one whole frame; an emptied buffer is given back.
fn take_frame(read: &mut BytesMut) -> Result<Option<BytesMut>, WireError> {
    let Some(head) = read.first_chunk::<4>() else { return Ok(None) };
    let bytes = u32::from_be_bytes(*head) as usize;
    if bytes > FRAME_MAX_BYTES {
        return Err(WireError::TooLarge { bytes });
    }
    if read.len() < 4 + bytes {
        read.reserve(4 + bytes - read.len());
        return Ok(None);
    }
    read.advance(4);
    Ok(Some(read.split_to(bytes)))
}
