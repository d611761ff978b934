//! A connection that has logged in.

use std::{
    future::Future,
    os::fd::RawFd,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
};

use super::{
    Shard,
    farewell::hang_up,
    outlet::{Ending, EndingKind, SessionNote},
    slab::{Slot, Spot},
    wall,
};
use crate::{
    backlog::Backlog,
    close::CloseReason,
    framing::{Dialect, partial::Partial, websocket::Assembly},
    limit::{Bucket, Seat},
    room::membership::Memberships,
    wheel::Second,
};

/// What a shard keeps of it. A few hundred bytes; boxes are there only while they hold something.
#[derive(Debug)]
pub struct Live {
    pub nonce: u64,
    pub session: SessionNote,
    pub seat: Seat,
    pub fd: RawFd,
    pub dialect: Dialect,
    /// Malformed frames so far.
    pub bad_frames: u8,
    /// Questions not answered yet.
    pub questions: u8,
    pub frames: Bucket,
    pub last_seen: Second,
    /// Seconds it may be silent.
    pub silence: Second,
    pub expires: Second,
    pub inbound: Option<Box<Inbound>>,
    pub backlog: Option<Box<Backlog>>,
    pub rooms: Option<Box<Memberships>>,
    pub closing: Option<Box<CloseReason>>,
    pub waker: Option<Waker>,
}

/// What came, but not whole.
#[derive(Debug, Default)]
pub struct Inbound {
    pub partial: Partial,
    pub assembly: Option<Box<Assembly>>,
}

impl Live {
    /// It ends as soon as its task gets its turn; the first reason counts.
    pub fn close(&mut self, reason: CloseReason) {
        if self.closing.is_none() {
            self.closing = Some(Box::new(reason));
            self.wake();
        }
    }

    pub fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

/// The task of one connection: waits for its socket, and holds no buffer while it waits.
pub struct Connection {
    shard: Rc<Shard>,
    stream: Option<TcpStream>,
    spot: Spot,
}

impl Connection {
    pub fn new(shard: Rc<Shard>, stream: TcpStream, spot: Spot) -> Self {
        Self { shard, stream: Some(stream), spot }
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = self.get_mut();
        let Some(stream) = &mut me.stream else { return Poll::Ready(()) };
        match me.shard.turn(me.spot, stream, cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                let stream = me.stream.take().expect("it was there above");
                me.shard.clone().finish(me.spot, stream);
                Poll::Ready(())
            }
        }
    }
}

impl Shard {
    /// Reads what came and writes what waits, until the socket has no more of either. Ready: the connection ends.
    fn turn(&self, spot: Spot, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.begin_turn(spot, cx) {
                Turn::End => return Poll::Ready(()),
                Turn::Read => {}
                Turn::Write => match stream.poll_write_ready(cx) {
                    Poll::Ready(Ok(())) => {
                        self.flush(spot, stream);
                        continue;
                    }
                    Poll::Ready(Err(_)) => {
                        self.state.borrow_mut().close(spot, CloseReason::Broken);
                        continue;
                    }
                    Poll::Pending => {}
                },
            }
            let mut scratch = self.scratch.borrow_mut();
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut *stream).poll_read(cx, &mut buf) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => self.state.borrow_mut().close(spot, CloseReason::Broken),
                Poll::Ready(Ok(())) if buf.filled().is_empty() => {
                    self.state.borrow_mut().close(spot, CloseReason::Eof);
                }
                Poll::Ready(Ok(())) => self.feed(spot, buf.filled_mut()),
            }
        }
    }

    fn begin_turn(&self, spot: Spot, cx: &Context<'_>) -> Turn {
        let mut state = self.state.borrow_mut();
        let Some(live) = state.slab.live(spot) else { return Turn::End };
        if live.waker.is_none() {
            live.waker = Some(cx.waker().clone());
        }
        match (&live.closing, &live.backlog) {
            (Some(_), _) => Turn::End,
            (None, Some(_)) => Turn::Write,
            (None, None) => Turn::Read,
        }
    }

    /// Forgets the connection, before its socket closes, and says so to all who must know.
    fn finish(self: Rc<Self>, spot: Spot, stream: TcpStream) {
        let Slot::Live(mut live) = self.state.borrow_mut().slab.remove(spot) else { return };
        self.depart_all(&mut self.state.borrow_mut(), &mut live);
        let Live { session, seat, dialect, backlog, closing, .. } = *live;
        let reason = closing.map_or(CloseReason::Broken, |reason| *reason);
        self.metrics.disconnected(dialect.transport());
        self.metrics.closed(&reason);
        let how = if reason == CloseReason::Logout { EndingKind::Logout } else { EndingKind::Left };
        let ending = Ending { session, at: wall(), how, seat };
        if self.outlets.endings.try_send(ending).is_err() {
            tracing::error!("the end of a session could not be handed over");
        }
        if !reason.is_audible() {
            if let Some(backlog) = backlog {
                backlog.discard(&mut self.state.borrow_mut().tally.drops);
                // Or the kernel would go on holding what the client doesn't read.
                hang_up(&stream);
            }
            return;
        }
        let mut words = backlog.map(|backlog| backlog.into_bytes()).unwrap_or_default();
        words.extend(dialect.close(reason.code(), &reason.words()).iter().flatten());
        self.part(stream, words);
    }
}

enum Turn {
    Read,
    Write,
    End,
}

#[cfg(test)]
mod tests {
    use super::*;

    // With the runtime's own 600 bytes and three short ids this keeps an idle connection near 1 KiB.
    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Connection>() <= 64, "{}", size_of::<Connection>());
        assert!(size_of::<Live>() <= 288, "{}", size_of::<Live>());
    }
}
