//! Reading: what a logged-in client's bytes mean, and what is done about them.

use pushmesh_protocol::frame::{App, ClientFrame, Error, ErrorCode, FrameError, ServerFrame};

use super::{
    Shard, State,
    live::Inbound,
    outlet::{AckEvent, Asked, Question},
    slab::Spot,
};
use crate::{
    close::CloseReason,
    framing::{Input, Violation},
    lane::Outgoing,
    limit::Micros,
};

impl Shard {
    /// Takes bytes as they came off the socket. Only what is not whole is kept.
    pub fn feed(&self, spot: Spot, bytes: &mut [u8]) {
        let (now, second) = (self.now(), self.second());
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.tally.bytes_in += bytes.len() as u64;
        let Some(live) = state.slab.live(spot) else { return };
        let (dialect, inbound) = (live.dialect, live.inbound.take());
        let Inbound { mut partial, mut assembly } = inbound.map_or_else(Inbound::default, |inbound| *inbound);
        let (mut at, max) = (0, self.config.limits.frame_bytes as usize);
        let buf = partial.join(bytes, max);
        loop {
            match dialect.read(&mut buf[at..], &mut assembly, max) {
                Ok(None) => break,
                Ok(Some((taken, input))) => {
                    at += taken;
                    let Some(live) = state.slab.live(spot) else { return };
                    live.last_seen = second;
                    self.take(state, spot, input, now);
                }
                Err(violation) => {
                    self.violated(state, spot, violation, now);
                    break;
                }
            }
            if state.slab.live(spot).is_none_or(|live| live.closing.is_some()) {
                return;
            }
        }
        partial.keep(bytes, at);
        if (!partial.is_empty() || assembly.is_some())
            && let Some(live) = state.slab.live(spot)
        {
            live.inbound = Some(Box::new(Inbound { partial, assembly }));
        }
    }

    fn take(&self, state: &mut State, spot: Spot, input: Input<'_>, now: Micros) {
        state.tally.frames_in += 1;
        let Some(live) = state.slab.live(spot) else { return };
        if !live.frames.take(self.frame_rate(), now) {
            let message = format!("limits.frames_per_second is {}", self.config.limits.frames_per_second);
            self.tell(state, spot, &error(ErrorCode::TooFast, None, message), now);
            return state.close(spot, CloseReason::TooFast);
        }
        let dialect = live.dialect;
        match input {
            Input::Fragment | Input::Pong => {}
            Input::Ping(payload) => {
                if let Some(pong) = dialect.transport_pong(payload) {
                    self.send(state, spot, Outgoing::high(pong), now);
                }
            }
            Input::Close(code) => state.close(spot, CloseReason::Client(code)),
            Input::Message(message) => match ClientFrame::decode(dialect.encoding(), &message) {
                Ok(frame) => self.obey(state, spot, frame, now),
                Err(wrong) => self.refuse_frame(state, spot, refusal(&wrong), now),
            },
        }
    }

    fn obey(&self, state: &mut State, spot: Spot, frame: ClientFrame, now: Micros) {
        let Some(live) = state.slab.live(spot) else { return };
        match frame {
            ClientFrame::Ping(_) => {
                let pong = self.pong(live.dialect);
                self.send(state, spot, Outgoing::high(pong), now);
            }
            ClientFrame::Pong(_) => {}
            ClientFrame::Ack(ack) => {
                let event = AckEvent::Acked {
                    partition: live.session.partition,
                    user: live.session.user.clone(),
                    from: live.session.address,
                    pushes: ack.ids,
                };
                self.acknowledge(state, event);
            }
            ClientFrame::Calls(query) => self.ask(state, spot, Some(query.re), Asked::Calls { re: query.re }, now),
            ClientFrame::App(App { code, body }) => {
                self.ask(state, spot, body.re, Asked::App { code, re: body.re, data: body.data }, now);
            }
            ClientFrame::Join(join) => self.join(state, spot, join, now),
            ClientFrame::Leave(leave) => self.leave(state, spot, leave.room, now),
            ClientFrame::Logout(_) => state.close(spot, CloseReason::Logout),
            ClientFrame::Login(_) => {
                let message = "this connection is logged in already".to_owned();
                self.refuse_frame(state, spot, error(ErrorCode::BadFrame, Some("LOGIN"), message), now);
            }
        }
    }

    fn ask(&self, state: &mut State, spot: Spot, re: Option<u32>, what: Asked, now: Micros) {
        let Some(live) = state.slab.live(spot) else { return };
        let refused = if live.questions >= self.config.limits.questions {
            let message = format!("limits.questions is {}: wait for an answer first", self.config.limits.questions);
            Some((ErrorCode::TooFast, message))
        } else {
            let session = &live.session;
            let question = Question {
                from: session.address,
                partition: session.partition,
                user: session.user.clone(),
                device: session.device.clone(),
                login_id: session.login_id.clone(),
                what,
            };
            match self.outlets.questions.try_send(question) {
                Ok(()) => {
                    live.questions += 1;
                    None
                }
                Err(_) => Some((ErrorCode::Unavailable, "too many questions wait: try again".to_owned())),
            }
        };
        if let Some((code, message)) = refused {
            let retry_after_ms = Some(self.retry_after(state));
            let frame = Error { error: code, field: None, message, retry_after_ms, address: None, re, room: None };
            self.tell(state, spot, &ServerFrame::Error(frame), now);
        }
    }

    // A well-framed message with a bad body: the next one may be good. Not for ever.
    fn refuse_frame(&self, state: &mut State, spot: Spot, told: ServerFrame, now: Micros) {
        self.tell(state, spot, &told, now);
        let Some(live) = state.slab.live(spot) else { return };
        live.bad_frames = live.bad_frames.saturating_add(1);
        if live.bad_frames > self.config.limits.bad_frames {
            live.close(CloseReason::BadFrames);
        }
    }

    fn violated(&self, state: &mut State, spot: Spot, violation: Violation, now: Micros) {
        self.tell(state, spot, &of_violation(&violation), now);
        state.close(spot, CloseReason::Violation(violation));
    }

    /// Half a second and some more by chance, so that those refused together don't come back together.
    pub fn retry_after(&self, state: &mut State) -> u32 {
        500 + state.dice.up_to(self.config.limits.retry_jitter.as_millis() as u32)
    }
}

/// An ERROR frame without further advice.
pub fn error(code: ErrorCode, field: Option<&str>, message: String) -> ServerFrame {
    ServerFrame::Error(Error {
        error: code,
        field: field.map(str::to_owned),
        message,
        retry_after_ms: None,
        address: None,
        re: None,
        room: None,
    })
}

/// What is told of bytes that break the framing.
pub fn of_violation(violation: &Violation) -> ServerFrame {
    let code = if matches!(violation, Violation::TooLarge(..)) { ErrorCode::TooLarge } else { ErrorCode::BadFrame };
    error(code, Some(violation.field()), violation.to_string())
}

/// What is told of a frame that can't be read.
pub fn refusal(wrong: &FrameError) -> ServerFrame {
    let message = match wrong {
        FrameError::Field { reason, .. } => reason.clone(),
        _ => wrong.to_string(),
    };
    error(ErrorCode::BadFrame, Some(&wrong.field()), message)
}
