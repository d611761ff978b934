//! What a push costs at the desk, one core, without I/O: `cargo bench -p ack-retry`.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use ack_retry::{
    config::Config,
    desk::{Action, Desk, Event},
    wheel::Wheel,
};
use pushmesh_protocol::{
    CallId, ConnId, DeviceId, Instance, Kind, LoginId, Partition, PushId, Unit, UserId,
    frame::Call,
    message::{AckOutcome, AtEnd, Body, Delivery, Policy, PushOrder, Session, Target},
};

const USERS: usize = 10_000;
const PUSHES: usize = 500_000;
const TIMERS: usize = 1_000_000;

fn main() {
    wheel();
    desk();
}

fn wheel() {
    let mut wheel = Wheel::new(0);
    let begun = Instant::now();
    let ids: Vec<_> = (0..TIMERS).map(|n| wheel.insert(10_000 + (n as u64 * 7919) % 60_000, n as u32)).collect();
    told("wheel: insert", TIMERS, begun);
    let begun = Instant::now();
    for id in ids {
        wheel.cancel(id);
    }
    told("wheel: cancel", TIMERS, begun);
    for n in 0..TIMERS {
        wheel.insert(10_000 + (n as u64 * 7919) % 60_000, n as u32);
    }
    let mut due = Vec::with_capacity(TIMERS);
    let begun = Instant::now();
    for now in 0..80_000 {
        wheel.advance(now, &mut due);
    }
    told("wheel: fire, ms by ms", due.len(), begun);
}

fn desk() {
    let comet = Instance::new("comet-1").expect("a token");
    let kind = Kind::new("group").expect("a token");
    let users: Vec<_> = (0..USERS)
        .map(|n| {
            let user = UserId::new(&format!("user{n}")).expect("a token");
            let login = LoginId::new(&format!("login{n}")).expect("a token");
            (user, login, ConnId::new(&format!("conn{n}")).expect("a token"))
        })
        .collect();
    let device = DeviceId::new("phone").expect("a token");
    let mut now = 1_700_000_000_000;
    let mut desk = Desk::new(Config::default().rules(), Partition(0), 1, now);
    desk.apply(Event::Comets(HashMap::from([(comet.clone(), 1)])), now);
    for (user, login, conn) in &users {
        let (login_id, device, comet) = (login.clone(), device.clone(), comet.clone());
        let session = Session { login_id, device, comet, comet_epoch: 1, since: now, left: None };
        desk.apply(Event::Session { user: user.clone(), conn: conn.clone(), session, revision: 1 }, now);
    }
    desk.apply(Event::Ready, now);
    let orders: Vec<_> = (0..PUSHES)
        .map(|n| {
            let (user, login_id, _) = &users[n % USERS];
            let call_id = CallId::new(&format!("call{n}")).expect("a token");
            let id = PushId::of_call(&kind, &call_id, user, login_id);
            let unit = Unit::new("friends").expect("a unit");
            let body = Body::Call(Call { kind: kind.clone(), call_id, unit, started_at: now, data: None });
            let target = Target::Login { login_id: login_id.clone(), device: device.clone() };
            let policy = Policy { at_end: AtEnd::Dead, lifetime_ms: 3_600_000 };
            let user = user.clone();
            (id, PushOrder::Deliver(Delivery { id, user, target, body, policy, at: now, source: None, trace: None }))
        })
        .collect();
    let mut waiting = std::collections::VecDeque::new();
    let (mut sent, mut acked) = (0, 0);
    let begun = Instant::now();
    for (n, (id, order)) in orders.into_iter().enumerate() {
        let event = Event::Order { sequence: n as u64, order, stored_at: now, delivered_before: false };
        sent += desk.apply(event, now).iter().filter(|action| matches!(action, Action::Send { .. })).count();
        waiting.push_back((n, id));
        // A thousand are on their way; each is acknowledged 50 ms later.
        if waiting.len() > 1_000 {
            let (n, push) = waiting.pop_front().expect("not empty");
            let (user, _, conn) = &users[n % USERS];
            let (user, conn, outcome) = (user.clone(), conn.clone(), AckOutcome::Acked);
            let done = desk.apply(Event::Answer { user, conn, push, outcome }, now);
            acked += done.iter().filter(|action| matches!(action, Action::Ack { .. })).count();
        }
        now += u64::from(n % 20 == 0);
    }
    told("desk: order, send, acknowledge", PUSHES, begun);
    assert!(sent == PUSHES && acked == PUSHES - 1_000, "{sent} sent, {acked} acknowledged");
}

fn told(what: &str, count: usize, begun: Instant) {
    let taken: Duration = begun.elapsed();
    let each = taken.as_nanos() / count.max(1) as u128;
    println!("{what}: {each} ns each, {:.2} M/s", count as f64 / taken.as_secs_f64() / 1e6);
}
