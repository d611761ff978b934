//! A connection at a door, and how it ends.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::Sleep,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::{accept::Counters, opening::Opening};

/// How long a connection whose every answer is written waits for its caller to close it.
const LINGER: Duration = Duration::from_secs(2);

/// Who is at the other end of a connection: in the extensions of every request at a gRPC door.
#[derive(Debug, Clone)]
pub struct Caller {
    cut: CancellationToken,
}

impl Caller {
    /// Drops the connection with every call on it: for a caller who neither reads his answers nor goes.
    pub fn cut(&self) {
        self.cut.cancel();
    }
}

/// It counts against its door's limit until it is closed, and closes so that the caller can read all that was written.
///
/// Who says nothing is closed: the server waits for a first byte for ever, and a place at the door is not to be had for that.
///
/// A socket that is closed while its caller still writes is reset, and what the caller has not read yet is lost to him: the
/// last answers, and the status that says why there are no more. So our side is closed first; what then still comes is read
/// and thrown away until he closes too, for 2 s at most.
pub(crate) struct Connection {
    stream: TcpStream,
    caller: Caller,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Until the caller has begun.
    opening: Option<Opening>,
    silent: metrics::Counter,
    /// Our side is closed; until then the other one may be open.
    linger: Option<Pin<Box<Sleep>>>,
    open: metrics::Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// Ends with an error once `cut` is cancelled, or after `first_byte_within` of nothing.
    pub(crate) fn new(
        stream: TcpStream,
        cut: CancellationToken,
        first_byte_within: Duration,
        counters: &Counters,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        counters.open.increment(1);
        let caller = Caller { cut: cut.clone() };
        Self {
            stream,
            caller,
            cut: Box::pin(cut.cancelled_owned()),
            opening: Some(Opening::new(first_byte_within)),
            silent: counters.silent.clone(),
            linger: None,
            open: counters.open.clone(),
            _permit: permit,
        }
    }

    fn poll_stream<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match poll(Pin::new(&mut self.stream), cx) {
            Poll::Pending if self.cut.as_mut().poll(cx).is_ready() => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut off")))
            }
            polled => polled,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.decrement(1);
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = self.poll_stream(cx, |stream, cx| stream.poll_read(cx, buf));
        let Some(opening) = &mut self.opening else { return polled };
        match polled {
            Poll::Pending => {
                ready!(opening.poll_over(cx));
                self.silent.increment(1);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the caller said nothing")))
            }
            Poll::Ready(read) => {
                if opening.hear(&buf.filled()[before..]) {
                    self.opening = None;
                }
                Poll::Ready(read)
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_stream(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_stream(cx, |stream, cx| stream.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(self.poll_stream(cx, |stream, cx| stream.poll_shutdown(cx)))?;
            self.linger = Some(Box::pin(tokio::time::sleep(LINGER)));
        }
        let mut unheard = [0; 8 * 1024];
        loop {
            let over = self.linger.as_mut().is_none_or(|linger| linger.as_mut().poll(cx).is_ready());
            let mut buf = ReadBuf::new(&mut unheard);
            let read = self.poll_stream(cx, |stream, cx| stream.poll_read(cx, &mut buf));
            if over || (matches!(read, Poll::Ready(Ok(()))) && buf.filled().is_empty()) {
                return Poll::Ready(Ok(()));
            }
            // Broken by the caller, or cut: no less closed.
            if ready!(read).is_err() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_stream(cx, |stream, cx| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
