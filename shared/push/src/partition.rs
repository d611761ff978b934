//! The task that owns one partition: it chooses the next event, the [`Desk`] applies it, the [`Outbox`] is emptied.
//!
//! Order: all that comes of one partition is sent to PUSH in the order in which it was applied, one round of storing at a
//! time. Bound: while [`OUTBOX_HIGH`] orders wait, nothing more is taken in, and what is not taken in waits in its own
//! bounded queue. Before every round the lease is asked.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::future::join_all;
use pushmesh_bus::{Bus, Message, Outgoing, StoreError, Stored};
use pushmesh_membership::{Lease, View};
use pushmesh_protocol::{
    TraceContext,
    message::{CallsAnswer, CallsRequest, OnlineResult, PushOrder},
    name::Stream,
    wire,
};
use pushmesh_telemetry::span::{self, Role};
use tokio::{
    sync::{broadcast, mpsc, watch},
    time::{Instant, Interval, MissedTickBehavior, interval},
};
use tracing::Span;

use crate::{
    book::CallNews,
    clock,
    desk::{Comets, Desk, Effects, Input, MemberNews, Outcome, Rules, SessionNews},
    engine::Shared,
    event::{Event, fair, round},
    metrics::Share,
    order::{outgoing, set_trace, trace_of},
    outbox::{Outbox, Parcel},
    removals::Removals,
    router::{Part, PartReply},
    sources::{Sources, member_news, session_news},
};

/// Orders that may wait before nothing more is taken in.
const OUTBOX_HIGH: usize = 4096;
/// Orders stored in one round: one atomic batch.
pub(crate) const ROUND_MAX: usize = 500;
/// So many orders are stored as a batch.
const BATCH_MIN: usize = 32;
/// How long a partition that is asked for keeps storing what it has; its next owner evaluates anyway.
const HAND_OVER_MAX: Duration = Duration::from_secs(2);
/// And what the next owner does not know of: ends of logins.
const ENDS_MAX: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(100);

/// Messages on their way to a stream.
pub(crate) type StoreRound = Pin<Box<dyn Future<Output = Vec<Result<Stored, StoreError>>> + Send>>;

/// Owns the partition until it is released or lost.
pub(crate) async fn run(shared: Arc<Shared>, lease: Lease) {
    let begun = Instant::now();
    let partition = lease.partition();
    // From here on batches wait instead of being answered "not mine".
    let (parts, _open) = shared.router.open(partition);
    let sources = tokio::select! {
        biased;
        () = lease.lost() => return,
        () = lease.released() => return,
        sources = Sources::open(&shared, partition) => sources,
    };
    let rules = Rules::new(&*shared.kind, lease.epoch(), shared.config.stale_after, shared.config.session_grace);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut task = Task {
        desk: Desk::new(rules),
        view: shared.view.clone(),
        outbox: Outbox::default(),
        round: None,
        removals: Removals::default(),
        loading: Some(Loading { begun, sessions: false, members: false, calls: false }),
        evaluating: None,
        hand_over: None,
        calls: shared.feed.news(),
        calls_current: shared.feed.current(),
        share: shared.metrics.share(),
        sources,
        parts,
        ticks,
        lease,
        shared,
    };
    task.see_comets();
    task.run().await;
}

struct Loading {
    begun: Instant,
    sessions: bool,
    members: bool,
    calls: bool,
}

struct Task {
    shared: Arc<Shared>,
    lease: Lease,
    sources: Sources,
    parts: mpsc::Receiver<Part>,
    calls: broadcast::Receiver<CallNews>,
    calls_current: watch::Receiver<bool>,
    ticks: Interval,
    view: watch::Receiver<Arc<View>>,
    desk: Desk,
    outbox: Outbox<PartReply>,
    /// What is being stored.
    round: Option<(Vec<Parcel>, StoreRound)>,
    removals: Removals,
    loading: Option<Loading>,
    /// Whom to tell next of all calls, active and ended.
    evaluating: Option<u32>,
    /// When it was asked to hand over.
    hand_over: Option<Instant>,
    share: Share,
}

impl Task {
    async fn run(mut self) {
        loop {
            match self.next().await {
                Event::Lost | Event::Closed => return,
                Event::Released => {
                    self.parts.close();
                    self.hand_over = Some(Instant::now());
                }
                event => self.apply(event).await,
            }
            if self.hand_over.is_some_and(|since| self.may_go(since.elapsed())) {
                return;
            }
            self.pump();
            let waiting = self.outbox.len() + self.round.as_ref().map_or(0, |(parcels, _)| parcels.len());
            self.share.set(self.desk.logins(), self.desk.memberships(), waiting);
        }
    }

    async fn next(&mut self) -> Event {
        let going = self.hand_over.is_some();
        let room = !going && self.outbox.len() < OUTBOX_HIGH;
        let serving = self.loading.is_none();
        let await_calls = self.loading.as_ref().is_some_and(|loading| !loading.calls);
        tokio::select! {
            biased;
            () = self.lease.lost() => Event::Lost,
            () = self.lease.released(), if !going => Event::Released,
            results = round(self.round.as_mut().map(|(_, round)| round)) => Event::Stored(results),
            results = round(self.removals.round()) => Event::Removed(results),
            _ = self.ticks.tick() => Event::Tick,
            Ok(()) = self.view.changed() => Event::Members,
            event = fair(
                &mut self.sources, &mut self.parts, &mut self.calls, &mut self.calls_current, serving, await_calls,
            ), if room => event,
        }
    }

    async fn apply(&mut self, event: Event) {
        match event {
            Event::Stored(results) => self.stored(results),
            Event::Removed(results) => {
                let removed = self.removals.stored(results, Instant::now());
                self.shared.metrics.dissolved.increment(removed);
            }
            Event::Batch(part) => self.batch(part),
            Event::Session(event) => {
                let Some(news) = session_news(event, &self.shared.metrics) else { return };
                let current = matches!(news, SessionNews::Current);
                self.engine_input(Input::Session(news));
                self.caught_up(|loading| loading.sessions |= current);
            }
            Event::Member(event) => {
                let Some(news) = member_news(event, &self.shared.metrics) else { return };
                let current = matches!(news, MemberNews::Current);
                self.engine_input(Input::Member(news));
                self.caught_up(|loading| loading.members |= current);
            }
            Event::CallsCurrent => self.caught_up(|loading| loading.calls = true),
            Event::Call(news) => self.call(news),
            Event::CallsMissed => {
                tracing::warn!(partition = %self.lease.partition(), "news of calls were missed: all logins are evaluated");
                self.evaluate_all();
            }
            Event::Question(message) => self.question(message).await,
            Event::Tick => self.engine_input(Input::Tick),
            Event::Members => self.see_comets(),
            Event::Lost | Event::Released | Event::Closed => {}
        }
    }

    fn see_comets(&mut self) {
        let view = self.view.borrow_and_update().clone();
        let alive = view.members_of(&self.shared.comets).filter(|member| member.alive);
        let comets = Comets::new(alive.map(|member| (member.instance.clone(), member.epoch)));
        self.engine_input(Input::Comets(comets));
    }

    fn caught_up(&mut self, note: impl FnOnce(&mut Loading)) {
        let Some(loading) = &mut self.loading else { return };
        note(loading);
        if loading.sessions && loading.members && loading.calls {
            let seconds = loading.begun.elapsed().as_secs_f64();
            self.loading = None;
            self.shared.metrics.load_seconds.record(seconds);
            tracing::info!(
                kind = %self.shared.kind.kind(),
                partition = %self.lease.partition(),
                epoch = self.lease.epoch(),
                memberships = self.desk.memberships(),
                logins = self.desk.logins(),
                seconds,
                "partition served"
            );
            self.evaluate_all();
        }
    }

    /// All logins are told of all calls: what was told before has the same ids.
    fn evaluate_all(&mut self) {
        if self.loading.is_some() {
            return;
        }
        let effects = self.desk.serve(&self.shared.feed.book(), clock::now());
        self.keep(effects, None);
        self.evaluating = Some(0);
    }

    fn batch(&mut self, part: Part) {
        if !self.lease.held() {
            // Unanswered, it says "not mine": what is known here may be old.
            return;
        }
        let Part { entries, reply } = part;
        let tickets = self.outbox.open(reply, entries.len());
        let mut answer = None;
        for (ticket, entry) in tickets.zip(entries) {
            let span = span::child("process pm.v1.online.{kind}.{instance}", Role::Consumer, entry.record.trace);
            span::set(&span, "pushmesh.kind", self.shared.kind.kind().to_string());
            let input = Input::Record { trace: span::context(&span).or(entry.record.trace), entry };
            let effects = self.desk.apply(input, &self.shared.feed.book(), clock::now());
            let metrics = &self.shared.metrics;
            let result = match effects.outcome {
                Some(Outcome::Fenced { current }) => OnlineResult::Fenced { current },
                outcome => {
                    match outcome {
                        Some(Outcome::Overtaken) => metrics.overtaken.increment(1),
                        Some(Outcome::Stale) => metrics.stale.increment(1),
                        _ => metrics.evaluated.increment(1),
                    }
                    OnlineResult::Done { pushes: 0 }
                }
            };
            if effects.orders.is_empty() {
                answer = self.outbox.settle(ticket, result).or(answer);
            } else {
                let orders = effects.orders.into_iter().map(|order| self.traced(order)).collect();
                self.outbox.wait(ticket, orders, span);
            }
        }
        self.answer(answer);
    }

    fn call(&mut self, news: CallNews) {
        let (parent, name) = match &news {
            CallNews::Started(call) => (call.trace, "process call_{kind}.{call} started"),
            CallNews::Ended(call) => (call.trace, "process call_{kind}.{call} ended"),
            CallNews::Dissolved(_) => (None, ""),
        };
        let effects = self.desk.apply(Input::Call { news, trace: parent }, &self.shared.feed.book(), clock::now());
        // Most partitions have no member of most calls: they leave no span.
        let span = if effects.orders.is_empty() { Span::none() } else { span::child(name, Role::Consumer, parent) };
        span::set(&span, "pushmesh.kind", self.shared.kind.kind().to_string());
        self.keep(effects, span::context(&span));
    }

    /// What no record waits for.
    fn engine_input(&mut self, input: Input) {
        let effects = self.desk.apply(input, &self.shared.feed.book(), clock::now());
        self.keep(effects, None);
    }

    fn keep(&mut self, effects: Effects, trace: Option<TraceContext>) {
        for mut order in effects.orders {
            if trace.is_some() {
                set_trace(&mut order, trace);
            }
            let (order, span) = self.traced(order);
            self.outbox.push(order, span);
        }
        self.removals.extend(effects.dissolved);
    }

    /// Opens the span that publishes an order, under the one that gave it.
    fn traced(&self, mut order: PushOrder) -> (PushOrder, Span) {
        let parent = trace_of(&order);
        if parent.is_none() {
            return (order, Span::none());
        }
        let span = span::child("publish pm.v1.push.order.{p}.{user}", Role::Producer, parent);
        span::set(&span, "pushmesh.kind", self.shared.kind.kind().to_string());
        set_trace(&mut order, span::context(&span).or(parent));
        (order, span)
    }

    fn stored(&mut self, results: Vec<Result<Stored, StoreError>>) {
        let Some((parcels, _)) = self.round.take() else { return };
        if let Some(error) = results.iter().find_map(|result| result.as_ref().err()) {
            let (kind, partition) = (self.shared.kind.kind(), self.lease.partition());
            tracing::warn!(%kind, %partition, orders = parcels.len(), %error, "pushes are not stored yet");
        }
        let (tally, answers) = self.outbox.stored(parcels, results, Instant::now());
        self.shared.metrics.count(&tally);
        self.answer(answers);
    }

    fn answer(&self, answers: impl IntoIterator<Item = (PartReply, Vec<OnlineResult>)>) {
        for (reply, results) in answers {
            self.shared.metrics.evaluate_seconds.record(reply.arrived.elapsed().as_secs_f64());
            reply.send(results);
        }
    }

    async fn question(&mut self, message: Message) {
        let Some(reply) = message.reply else { return };
        let Ok(CallsRequest { user, login_id }) = wire::decode(&message.payload) else {
            self.shared.metrics.malformed_questions.increment(1);
            return;
        };
        let calls = self.desk.calls(&user, &login_id, &self.shared.feed.book());
        if let Err(error) = self.shared.bus.reply(reply, wire::encode(&CallsAnswer { calls }).into()).await {
            tracing::debug!(%error, "a CALLS question could not be answered");
        }
    }

    /// Whether the partition may be let go, this long after it was asked for.
    fn may_go(&self, after: Duration) -> bool {
        if self.outbox.is_idle() && self.round.is_none() {
            return true;
        }
        let storing = self.round.iter().flat_map(|(parcels, _)| parcels);
        let made_once = self.outbox.holds_what_is_made_once() || storing.into_iter().any(Parcel::is_made_once);
        after >= if made_once { ENDS_MAX } else { HAND_OVER_MAX }
    }

    /// Starts what can be started.
    fn pump(&mut self) {
        if !self.lease.held() {
            return;
        }
        if let Some(from) = self.evaluating
            && self.hand_over.is_none()
            && self.outbox.len() < OUTBOX_HIGH
        {
            let (effects, next) = self.desk.evaluate(from, ROUND_MAX, &self.shared.feed.book(), clock::now());
            self.evaluating = next;
            self.keep(effects, None);
        }
        if self.round.is_none() {
            let parcels = self.outbox.take(ROUND_MAX, Instant::now());
            if !parcels.is_empty() {
                let partition = self.lease.partition();
                let messages = parcels.iter().map(|parcel| outgoing(partition, &parcel.order)).collect();
                self.round = Some((parcels, Box::pin(store(self.shared.bus.clone(), messages))));
            }
        }
        if self.hand_over.is_none() {
            self.removals.pump(&self.shared.directory, Instant::now());
        }
    }
}

/// One result each. An atomic batch takes the server some milliseconds whatever its size, so few go singly, all at once;
/// they are sent in their order, and only an outage in their midst changes it, which their ids bear.
async fn store(bus: Bus, messages: Vec<Outgoing>) -> Vec<Result<Stored, StoreError>> {
    if messages.len() >= BATCH_MIN {
        return bus.store_all(&Stream::PUSH, messages).await;
    }
    join_all(messages.into_iter().map(|message| bus.store(message))).await
}
