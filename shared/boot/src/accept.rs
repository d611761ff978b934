//! A listener with a limit that survives the lack of file descriptors.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// How long the listener rests after an error: file descriptors don't come back at once.
const REST: Duration = Duration::from_millis(100);

pub(crate) struct Counters {
    pub open: metrics::Gauge,
    pub refused: metrics::Counter,
    pub errors: metrics::Counter,
}

/// A connection that counts against its door's limit until it is closed.
pub(crate) struct Connection {
    stream: TcpStream,
    open: metrics::Gauge,
    _permit: OwnedSemaphorePermit,
}

/// Accepts until `end` is cancelled; beyond `limit` open connections, new ones are closed at once.
pub(crate) fn connections(
    listener: TcpListener,
    limit: usize,
    counters: Counters,
    end: CancellationToken,
) -> (ReceiverStream<Result<Connection, Infallible>>, impl Future<Output = ()>) {
    let (sender, receiver) = mpsc::channel(1);
    let permits = Arc::new(Semaphore::new(limit));
    let accepting = async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = end.cancelled() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    counters.errors.increment(1);
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            let Ok(permit) = permits.clone().try_acquire_owned() else {
                counters.refused.increment(1);
                continue;
            };
            // Without it a small answer waits for the peer's delayed ack; if it fails, the connection is broken anyway.
            let _ = stream.set_nodelay(true);
            counters.open.increment(1);
            let connection = Connection { stream, open: counters.open.clone(), _permit: permit };
            if sender.send(Ok(connection)).await.is_err() {
                return;
            }
        }
    };
    (ReceiverStream::new(receiver), accepting)
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.decrement(1);
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
