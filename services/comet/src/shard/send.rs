//! Writing: straight to the socket; only what blocks gets a backlog.

use std::io::ErrorKind;

use pushmesh_protocol::frame::{Gap, Kick, KickReason, ServerFrame};
use tokio::net::TcpStream;

use super::{
    Shard, State,
    command::{Batch, Delivery, What},
    outlet::AckEvent,
    slab::Spot,
};
use crate::{
    address::Address,
    backlog::Backlog,
    close::CloseReason,
    lane::{DropReason, Outgoing},
    limit::Micros,
    socket,
};
use pushmesh_protocol::message::AckOutcome;

/// Most bytes of one write that joins several frames.
const JOIN_MAX_BYTES: usize = 16 * 1024;

impl Spot {
    pub fn of(address: &Address) -> Self {
        Self { slot: address.slot, nonce: address.nonce }
    }
}

impl Shard {
    /// Writes all batches: frames for one connection go out in one write.
    pub fn deliver(&self, state: &mut State, batches: &mut Vec<Batch>) {
        let Some(received) = batches.iter().map(|batch| batch.received).min() else { return };
        let mut all: Vec<Delivery> = batches.drain(..).flat_map(|batch| batch.deliveries).collect();
        // Stable: a connection's own frames keep their order.
        all.sort_by_key(|delivery| delivery.to.slot);
        let mut run: Vec<Outgoing> = Vec::new();
        let mut spans = Vec::new();
        let mut rest = all.into_iter().peekable();
        while let Some(Delivery { to, what, span }) = rest.next() {
            match what {
                What::Kick(reason) => self.kick(state, Spot::of(&to), reason, self.now()),
                What::Push { frame, receipt } if self.is_here(state, &to) => {
                    let _ = receipt;
                    run.push(Outgoing::high(frame));
                    spans.extend(span);
                }
                What::Push { receipt, .. } => {
                    state.tally.undelivered += 1;
                    self.acknowledge(
                        state,
                        AckEvent::Undelivered {
                            partition: receipt.partition,
                            user: receipt.user,
                            conn: to.conn_id(),
                            push: receipt.push,
                            outcome: AckOutcome::Gone,
                        },
                    );
                }
            }
            let more = rest.peek().is_some_and(|next| next.to == to && matches!(next.what, What::Push { .. }));
            if !run.is_empty() && !more {
                self.send_all(state, Spot::of(&to), &run, self.now());
                run.clear();
                spans.clear();
            }
        }
        self.metrics.delivery.record(received.elapsed());
    }

    fn is_here(&self, state: &mut State, to: &Address) -> bool {
        let spot = Spot::of(to);
        match state.slab.live(spot) {
            Some(live) => live.closing.is_none(),
            None => state.slab.entering(spot).is_some(),
        }
    }

    /// Encodes for one connection and sends.
    pub fn tell(&self, state: &mut State, spot: Spot, frame: &ServerFrame, now: Micros) {
        if let Some(dialect) = state.slab.live(spot).map(|live| live.dialect) {
            self.send(state, spot, Outgoing::high(dialect.encode(frame)), now);
        }
    }

    pub fn send(&self, state: &mut State, spot: Spot, frame: Outgoing, now: Micros) {
        self.send_all(state, spot, std::slice::from_ref(&frame), now);
    }

    /// Sends frames in order.
    pub fn send_all(&self, state: &mut State, spot: Spot, frames: &[Outgoing], now: Micros) {
        let State { slab, tally, out, .. } = state;
        if let Some(entering) = slab.entering(spot) {
            for frame in frames {
                if entering.held.push(frame.clone(), now, &mut tally.drops).is_err() {
                    tally.drops.count(frame.lane.class(), DropReason::Full);
                }
            }
            return;
        }
        let Some(live) = slab.live(spot) else { return };
        if live.closing.is_some() {
            return frames.iter().for_each(|frame| tally.drops.count(frame.lane.class(), DropReason::Closed));
        }
        let mut rest = frames;
        while live.backlog.is_none() && !rest.is_empty() {
            let (now_sent, later) = rest.split_at(joined(rest));
            let bytes = match now_sent {
                [one] => &one.bytes[..],
                several => {
                    out.clear();
                    several.iter().for_each(|frame| out.extend_from_slice(&frame.bytes));
                    &out[..]
                }
            };
            tally.writes += 1;
            let sent = match socket::send(live.fd, bytes) {
                Ok(sent) => sent,
                Err(error) if socket::is_full(&error) => 0,
                Err(_) => return live.close(CloseReason::Broken),
            };
            if sent < bytes.len() {
                return self.send_later(state, spot, rest, sent, now);
            }
            tally.sent(now_sent, sent);
            rest = later;
        }
        for frame in rest {
            let Some(backlog) = &mut live.backlog else { return };
            if backlog.push(frame.clone(), now, &mut tally.drops).is_err() {
                tally.drops.count(frame.lane.class(), DropReason::Full);
                return live.close(CloseReason::Kicked(KickReason::TooSlow));
            }
        }
    }

    /// The socket took the first `taken` bytes of these frames and no more: the rest waits.
    pub fn send_later(&self, state: &mut State, spot: Spot, frames: &[Outgoing], taken: usize, now: Micros) {
        let limits = self.backlog_limits();
        let State { slab, rooms, tally, blocked, .. } = state;
        let Some(live) = slab.live(spot) else { return };
        let (whole, of_next) = taken_whole(frames, taken);
        tally.sent(&frames[..whole], taken);
        let mut backlog = Backlog::new(limits, now);
        let mut rest = frames[whole..].iter();
        if of_next > 0
            && let Some(begun) = rest.next()
        {
            backlog.push_begun(begun.clone(), of_next);
        }
        let mut is_too_slow = false;
        for frame in rest {
            is_too_slow |= backlog.push(frame.clone(), now, &mut tally.drops).is_err();
            if is_too_slow {
                tally.drops.count(frame.lane.class(), DropReason::Full);
            }
        }
        live.backlog = Some(Box::new(backlog));
        rooms.set_slow(live, true);
        blocked.push(spot);
        if is_too_slow {
            live.close(CloseReason::Kicked(KickReason::TooSlow));
        }
        live.wake();
    }

    /// Writes what waits, as the socket takes it; then tells the client what it missed.
    pub fn flush(&self, spot: Spot, stream: &TcpStream) {
        let now = self.now();
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let State { slab, rooms, tally, out, .. } = state;
        let Some(live) = slab.live(spot) else { return };
        let Some(backlog) = &mut live.backlog else { return };
        backlog.expire(now, &mut tally.drops);
        out.clear();
        backlog.gather(out, JOIN_MAX_BYTES);
        if !out.is_empty() {
            tally.writes += 1;
            // Through the runtime, so that it notices when the socket blocks again.
            match stream.try_write(out) {
                Ok(sent) => {
                    tally.bytes_out += sent as u64;
                    tally.count(&backlog.advance(sent, now));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return live.close(CloseReason::Broken),
            }
        }
        if !backlog.is_empty() {
            return;
        }
        let gaps: Vec<_> = backlog.gaps().to_vec();
        live.backlog = None;
        rooms.set_slow(live, false);
        for crate::backlog::Gap { room, missed: [high, normal, low] } in gaps {
            self.tell(state, spot, &ServerFrame::Gap(Gap { room, high, normal, low }), now);
        }
    }

    /// Tells why, and closes.
    pub fn kick(&self, state: &mut State, spot: Spot, reason: KickReason, now: Micros) {
        if let Some(entering) = state.slab.entering(spot) {
            entering.kick = Some(reason);
            return;
        }
        self.tell(state, spot, &ServerFrame::Kick(Kick { reason }), now);
        state.close(spot, CloseReason::Kicked(reason));
    }

    /// Hands something to the owners of pushes; where too much waits it is dropped, and the push is sent again.
    pub fn acknowledge(&self, state: &mut State, event: AckEvent) {
        if self.outlets.acks.try_send(event).is_err() {
            state.tally.acks_dropped += 1;
        }
    }
}

// How many frames go into the next write: at least one.
fn joined(frames: &[Outgoing]) -> usize {
    let mut bytes = 0;
    let fits = |frame: &&Outgoing| {
        bytes += frame.bytes.len();
        bytes <= JOIN_MAX_BYTES
    };
    frames.iter().take_while(fits).count().max(1)
}

// How many frames are within the first `taken` bytes of them all, and how many bytes of the next one.
fn taken_whole(frames: &[Outgoing], mut taken: usize) -> (usize, usize) {
    let mut whole = 0;
    while let Some(frame) = frames.get(whole)
        && frame.bytes.len() <= taken
    {
        taken -= frame.bytes.len();
        whole += 1;
    }
    (whole, taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_the_socket_took_whole_do_not_wait() {
        let frames = vec![Outgoing::high(vec![0; 10].into()); 500];
        let taken = [0, 9, 10, 11, 4999, 5000].map(|taken| taken_whole(&frames, taken));
        assert_eq!(taken, [(0, 0), (0, 9), (1, 0), (1, 1), (499, 9), (500, 0)]);
        assert_eq!(joined(&vec![Outgoing::high(vec![0; 10_000].into()); 3]), 1);
        assert_eq!(joined(&[Outgoing::high(vec![0; 60_000].into())]), 1);
        assert_eq!(joined(&frames), 500);
    }
}
