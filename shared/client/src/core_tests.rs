use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pushmesh_protocol::{
    CallId, Kind, LoginId, Unit,
    frame::{ActiveCall, Call},
};

use super::*;

fn call(n: u32) -> (PushId, Call) {
    let (kind, call_id) = (Kind::new("group").unwrap(), CallId::new(&format!("c{n}")).unwrap());
    let id = PushId::of_call(&kind, &call_id, &"u1".parse().unwrap(), &LoginId::new("l1").unwrap());
    (id, Call { kind, call_id, unit: Unit::new("g1").unwrap(), started_at: 1, data: None })
}

fn push(n: u32) -> ServerFrame {
    let (id, call) = call(n);
    ServerFrame::Push(Push { id, seq: u64::from(n), body: PushBody::Call(call), at: 2 })
}

fn ended(n: u32) -> ServerFrame {
    let (ends, call) = call(n);
    let id = ends.withdrawal();
    ServerFrame::CallEnded(CallEnded { id, seq: 9, ends, kind: call.kind, call_id: call.call_id, at: 3 })
}

fn login_ok() -> ServerFrame {
    ServerFrame::LoginOk(LoginOk {
        user: "u1".parse().unwrap(),
        login_id: "l1".parse().unwrap(),
        conn_id: "c1".parse().unwrap(),
        resumed: false,
        heartbeat: Heartbeat { interval_ms: 25_000, misses: 3 },
        server_time: 0,
        frame_max_bytes: 4096,
    })
}

fn core(auto_ack: bool) -> Core {
    core_with(Memory::default(), auto_ack)
}

fn core_with(memory: Memory, auto_ack: bool) -> Core {
    let mut core = Core::new(auto_ack, None, memory, Arc::default(), 1);
    assert!(matches!(core.apply(login_ok(), Instant::now()), Step::LoggedIn(_)));
    core.events.clear();
    core
}

fn acks(core: &mut Core) -> Vec<PushId> {
    let of = |frame| if let ClientFrame::Ack(ack) = frame { ack.ids } else { vec![] };
    core.take_frames().into_iter().flat_map(of).collect()
}

fn refusal(error: ErrorCode, retry_after_ms: Option<u32>, address: Option<&str>) -> Error {
    let address = address.map(str::to_owned);
    Error { error, field: None, message: "no".into(), retry_after_ms, address, re: None, room: None }
}

fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(5))
}

#[test]
fn a_duplicate_is_acknowledged_again_and_not_shown() {
    let mut core = core(true);
    core.apply(push(1), Instant::now());
    assert!(acks(&mut core).is_empty(), "not before the application has it");
    core.events.clear();
    assert_eq!(acks(&mut core), [call(1).0]);
    core.apply(push(1), Instant::now());
    assert!(core.events.is_empty());
    assert_eq!(acks(&mut core), [call(1).0]);
}

#[test]
fn by_hand_a_duplicate_is_acknowledged_only_if_the_first_was() {
    let mut core = core(false);
    for _ in 0..3 {
        core.apply(push(1), Instant::now());
        core.events.clear();
        assert!(acks(&mut core).is_empty());
    }
    core.ack(call(1).0);
    core.apply(push(1), Instant::now());
    assert_eq!(acks(&mut core), [call(1).0, call(1).0]);
}

#[test]
fn the_next_client_of_a_device_shows_nothing_again() {
    let memory = Memory::default();
    let mut one = core_with(memory.clone(), false);
    one.apply(push(1), Instant::now());
    one.apply(push(2), Instant::now());
    one.ack(call(1).0);
    assert_eq!(one.events.len(), 2);

    let mut two = core_with(memory.clone(), false);
    two.apply(push(1), Instant::now());
    two.apply(push(2), Instant::now());
    assert_eq!(
        (acks(&mut two), two.events.len()),
        (vec![call(1).0], 0),
        "shown, and not acknowledged by its application"
    );
    memory.ack(call(2).0);
    two.apply(push(2), Instant::now());
    assert_eq!(acks(&mut two), [call(2).0]);
}

#[test]
fn an_application_that_keeps_its_memory_shows_what_it_had_not_acknowledged() {
    let memory = Memory::default();
    let mut one = core_with(memory.clone(), false);
    one.apply(push(1), Instant::now());
    one.apply(push(2), Instant::now());
    one.ack(call(1).0);
    assert_eq!(memory.acknowledged(), [call(1).0]);

    let mut restarted = core_with(Memory::of(memory.acknowledged()), false);
    restarted.apply(push(1), Instant::now());
    assert_eq!((acks(&mut restarted), restarted.events.len()), (vec![call(1).0], 0));
    restarted.apply(push(2), Instant::now());
    assert_eq!(restarted.events.len(), 1);
}

#[test]
fn an_end_is_told_of_what_is_shown_and_acknowledged_always() {
    let mut core = core(true);
    core.apply(push(1), Instant::now());
    core.apply(ended(1), Instant::now());
    core.apply(ended(1), Instant::now());
    assert!(matches!(core.events.make_contiguous(), [Event::Push(_), Event::CallEnded(_)]));
    core.apply(ended(2), Instant::now());
    core.apply(push(2), Instant::now());
    assert_eq!(core.events.len(), 2, "ended before it came: never shown");
    core.events.clear();
    let (one, two) = (call(1).0, call(2).0);
    assert_eq!(acks(&mut core), [one, one.withdrawal(), one.withdrawal(), two.withdrawal(), two]);
}

#[test]
fn pull_and_push_dedupe() {
    let mut core = core(true);
    core.apply(push(1), Instant::now());
    let (sender, mut answer) = oneshot::channel();
    core.ask(Ask::Calls, Asker::Calls(sender));
    let active = |n| ActiveCall { id: call(n).0, call: call(n).1 };
    core.apply(ServerFrame::Calls(Calls { re: 1, calls: vec![active(1), active(2)], missing: vec![] }), Instant::now());
    core.apply(push(2), Instant::now());
    let shown: Vec<_> = core.events.drain(..).collect();
    assert_eq!(shown.len(), 2);
    assert_eq!(answer.try_recv().unwrap().unwrap().calls.len(), 2);
    assert_eq!(acks(&mut core), [call(1).0, call(2).0]);
}

#[test]
fn acknowledgements_go_out_in_frames_of_256() {
    let mut core = core(true);
    (0..600).for_each(|n| drop(core.apply(push(n), Instant::now())));
    core.events.clear();
    let size = |frame| if let ClientFrame::Ack(ack) = frame { ack.ids.len() } else { 0 };
    assert_eq!(core.take_frames().into_iter().map(size).collect::<Vec<_>>(), [256, 256, 88]);
}

#[test]
fn a_kick_ends_or_asks_for_another_token() {
    for reason in [KickReason::Replaced, KickReason::Removed] {
        let end = core(true).part(Parting::Kicked(reason), &mut backoff(), 1.0);
        assert_eq!(end.unwrap_err(), End::Kicked(reason));
    }
    let again = core(true).part(Parting::Kicked(KickReason::TokenExpired), &mut backoff(), 1.0).unwrap();
    assert!(again.token_spent);
    assert_eq!(again.after, Duration::ZERO);
    let again = core(true).part(Parting::Kicked(KickReason::TooSlow), &mut backoff(), 1.0).unwrap();
    assert_eq!((again.token_spent, again.after), (false, Duration::from_millis(100)));
}

#[test]
fn heeds_time_and_place_of_a_refusal() {
    let full = refusal(ErrorCode::Full, Some(1_500), Some("b:1"));
    let again = core(true).part(Parting::Refused(full.clone()), &mut backoff(), 1.0).unwrap();
    assert_eq!((again.after, again.address.as_deref()), (Duration::from_millis(1_500), Some("b:1")));
    // The same when the comet says it on a connection and then closes that.
    let mut core = core(true);
    core.apply(ServerFrame::Error(full), Instant::now());
    let again = core.part(Parting::Lost("closed".into()), &mut backoff(), 1.0).unwrap();
    assert_eq!((again.after, again.address.as_deref()), (Duration::from_millis(1_500), Some("b:1")));
    let again = core.part(Parting::Lost("closed".into()), &mut backoff(), 1.0).unwrap();
    assert_eq!((again.after, again.address), (Duration::from_millis(100), None));
}

#[test]
fn a_login_that_is_forbidden_is_not_tried_again() {
    let refused = |error| core(true).part(Parting::Refused(refusal(error, None, None)), &mut backoff(), 1.0);
    assert!(matches!(refused(ErrorCode::Forbidden), Err(End::Refused(_))));
    assert!(matches!(refused(ErrorCode::BadFrame), Err(End::Refused(_))));
    assert!(refused(ErrorCode::Unavailable).is_ok());
    assert!(refused(ErrorCode::Unauthorized).unwrap().token_spent);
}

#[test]
fn a_lost_connection_fails_its_questions() {
    let mut core = core(true);
    let (sender, mut answer) = oneshot::channel();
    core.ask(Ask::App { code: 1000, data: "hi".into() }, Asker::App(sender));
    assert_eq!(core.take_frames().len(), 1);
    core.part(Parting::Lost("gone".into()), &mut backoff(), 1.0).unwrap();
    assert_eq!(answer.try_recv().unwrap(), Err(AskError::NotConnected));
    let (sender, mut answer) = oneshot::channel();
    core.ask(Ask::Calls, Asker::Calls(sender));
    assert_eq!(answer.try_recv().unwrap(), Err(AskError::NotConnected));
}

#[test]
fn an_error_answers_the_question_it_names() {
    let mut core = core(true);
    let (sender, mut answer) = oneshot::channel();
    core.ask(Ask::App { code: 1000, data: "hi".into() }, Asker::App(sender));
    let error = Error { re: Some(1), ..refusal(ErrorCode::NotServed, None, None) };
    core.apply(ServerFrame::Error(error.clone()), Instant::now());
    assert_eq!(answer.try_recv().unwrap(), Err(AskError::Refused(error)));
    assert!(core.events.is_empty());
}
