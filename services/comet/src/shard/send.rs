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
    pub fn deliver(&self, batches: &mut Vec<Batch>) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
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

    /// Sends frames of one class, in order.
    pub fn send_all(&self, state: &mut State, spot: Spot, frames: &[Outgoing], now: Micros) {
        let limits = self.backlog_limits();
        let State { slab, tally, blocked, out, .. } = state;
        if let Some(entering) = slab.entering(spot) {
            for frame in frames {
                if entering.held.push(frame.clone(), now, &mut tally.drops).is_err() {
                    tally.drops.count(frame.class, DropReason::Full);
                }
            }
            return;
        }
        let Some(live) = slab.live(spot) else { return };
        if live.closing.is_some() {
            return frames.iter().for_each(|frame| tally.drops.count(frame.class, DropReason::Closed));
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
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
                Err(_) => return live.close(CloseReason::Broken),
            };
            tally.bytes_out += sent as u64;
            if sent == bytes.len() {
                tally.frames_out += now_sent.len() as u64;
                rest = later;
                continue;
            }
            let mut backlog = Backlog::new(limits, now);
            for frame in now_sent {
                if backlog.push(frame.clone(), now, &mut tally.drops).is_err() {
                    return live.close(CloseReason::Kicked(KickReason::TooSlow));
                }
            }
            tally.frames_out += backlog.advance(sent, now) as u64;
            live.backlog = Some(Box::new(backlog));
            blocked.push(spot);
            live.wake();
            rest = later;
        }
        for frame in rest {
            let Some(backlog) = &mut live.backlog else { return };
            if backlog.push(frame.clone(), now, &mut tally.drops).is_err() {
                tally.drops.count(frame.class, DropReason::Full);
                return live.close(CloseReason::Kicked(KickReason::TooSlow));
            }
        }
    }

    /// Writes what waits, as the socket takes it; then tells the client what it missed.
    pub fn flush(&self, spot: Spot, stream: &TcpStream) {
        let now = self.now();
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let State { slab, tally, out, .. } = state;
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
                    tally.frames_out += backlog.advance(sent, now) as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return live.close(CloseReason::Broken),
            }
        }
        if !backlog.is_empty() {
            return;
        }
        let gap = backlog.gap();
        live.backlog = None;
        if let Some([high, normal, low]) = gap {
            self.tell(state, spot, &ServerFrame::Gap(Gap { room: None, high, normal, low }), now);
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
