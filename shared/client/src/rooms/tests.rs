use pushmesh_protocol::{
    Token,
    frame::{Chain, RoomItem, RoomState},
};

use super::{
    member::{IN_VAIN_MAX, REFUSALS_MAX},
    *,
};

/// A client's rooms with a clock, and all that came out of them.
pub struct Client {
    pub rooms: Rooms,
    pub now: Instant,
    pub events: VecDeque<Event>,
    pub frames: Vec<ClientFrame>,
}

pub fn id(room: &str) -> RoomId {
    RoomId::new(room).unwrap()
}

pub fn at(gifts: u64, high: u64, normal: u64) -> RoomPosition {
    RoomPosition { epoch: 1, gifts, high, normal }
}

pub fn item(chain: Chain, prev: u64, offset: u64) -> RoomItem {
    let kind = Token::new("chat").unwrap();
    RoomItem { chain, offset, prev, kind, from: None, at: offset, data: "hi".into() }
}

pub fn frame(epoch: u64, items: Vec<RoomItem>, heads: Option<RoomPosition>) -> Room {
    Room { room: id("r"), epoch, items, heads }
}

pub fn told(position: RoomPosition, recovered: bool) -> Joined {
    let (state, role, muted_until, top) = (RoomState::default(), None, None, vec![]);
    let (present, gifts_total, likes_total) = (1, 0, 0);
    Joined { room: id("r"), position, recovered, state, role, muted_until, present, top, gifts_total, likes_total }
}

impl Client {
    pub fn new(seed: u64) -> Self {
        let (events, frames) = (VecDeque::new(), vec![]);
        Self { rooms: Rooms::new(seed), now: Instant::now(), events, frames }
    }

    pub fn with<T>(&mut self, apply: impl FnOnce(&mut Rooms, Instant, &mut Out<'_>) -> T) -> T {
        let mut out = Out { events: &mut self.events, frames: &mut self.frames };
        apply(&mut self.rooms, self.now, &mut out)
    }

    /// In room `r`, at a position.
    fn joined(position: RoomPosition) -> Self {
        let mut client = Self::new(1);
        client.with(|rooms, now, out| rooms.join(id("r"), None, now, out));
        client.rooms.logged_in(client.now);
        assert_eq!(client.joins(), [None]);
        client.told(position, true);
        client.events.clear();
        client
    }

    fn told(&mut self, position: RoomPosition, recovered: bool) {
        self.with(|rooms, now, out| rooms.joined(told(position, recovered), now, out));
    }

    fn items(&mut self, items: Vec<RoomItem>) {
        self.with(|rooms, now, out| rooms.room(frame(1, items, None), now, out));
    }

    pub fn pass(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.with(|rooms, now, out| rooms.due(now, out));
    }

    /// The positions of the JOINs that go out now.
    fn joins(&mut self) -> Vec<Option<RoomPosition>> {
        self.pass(0);
        let resume = |frame| if let ClientFrame::Join(join) = frame { Some(join.resume) } else { None };
        self.frames.drain(..).filter_map(resume).collect()
    }

    /// What was shown since, by offset.
    fn shown(&mut self) -> Vec<u64> {
        let offset = |event| if let Event::Room { item, .. } = event { Some(item.offset) } else { None };
        self.events.drain(..).filter_map(offset).collect()
    }
}

#[test]
fn shows_each_item_once_and_in_order() {
    let mut client = Client::joined(at(0, 10, 0));
    let (high, gifts) = (Chain::High, Chain::Gifts);
    client.items(vec![item(high, 8, 10), item(high, 10, 12), item(gifts, 0, 13), item(high, 12, 14)]);
    client.items(vec![item(high, 10, 12), item(high, 12, 14), item(high, 14, 15)]);
    assert_eq!(client.shown(), [12, 13, 14, 15]);
    assert_eq!(client.rooms.next(), None);
}

#[test]
fn a_missed_item_is_asked_for_once_and_soon() {
    let mut client = Client::joined(at(0, 10, 0));
    client.items(vec![item(Chain::High, 11, 12)]);
    client.items(vec![item(Chain::High, 12, 13), item(Chain::Gifts, 0, 14)]);
    assert_eq!(client.shown(), [14], "the other chain goes on");
    assert!(client.joins().is_empty(), "not before a jittered wait");
    client.pass(200);
    assert_eq!(client.joins(), [Some(at(14, 10, 0))]);
    client.items(vec![item(Chain::High, 13, 15)]);
    client.pass(5_000);
    assert!(client.joins().is_empty(), "one recovery at a time");
    client.told(at(14, 15, 0), true);
    client.items(vec![item(Chain::High, 10, 11), item(Chain::High, 11, 12), item(Chain::High, 12, 15)]);
    assert_eq!(client.shown(), [11, 12, 15]);
    assert_eq!(client.rooms.next(), None);
    assert_eq!(client.rooms.counts.recoveries, 1);
}

#[test]
fn heads_ahead_are_given_time_to_come_true() {
    let mut client = Client::joined(at(0, 10, 0));
    let heads = Some(at(0, 12, 0));
    client.with(|rooms, now, out| rooms.room(frame(1, vec![], heads), now, out));
    client.pass(900);
    client.items(vec![item(Chain::High, 10, 12)]);
    assert_eq!(client.rooms.next(), None, "they came true");
    let heads = Some(at(0, 12, 5));
    client.with(|rooms, now, out| rooms.room(frame(1, vec![], heads), now, out));
    client.pass(2_000);
    client.pass(200);
    assert_eq!(client.joins(), [Some(at(0, 12, 0))]);
}

#[test]
fn what_can_not_be_had_any_more_is_told() {
    let mut client = Client::joined(at(3, 10, 7));
    client.with(|rooms, _, out| rooms.parted(out));
    client.pass(60_000);
    assert!(client.frames.is_empty());
    client.rooms.logged_in(client.now);
    assert_eq!(client.joins(), [Some(at(3, 10, 7))]);
    client.told(at(3, 5_000, 7), false);
    let gap = Event::RoomGap { room: id("r"), from: at(3, 10, 7), to: at(3, 5_000, 7) };
    assert_eq!(client.events.make_contiguous(), [Event::Joined(told(at(3, 5_000, 7), false)), gap]);
    client.items(vec![item(Chain::High, 4_999, 5_000), item(Chain::High, 5_000, 5_001)]);
    assert_eq!(client.shown(), [5_001]);
    // Not recovered, and nothing missed: no gap.
    client.told(at(3, 5_001, 7), false);
    assert_eq!(client.events.len(), 1);
}

#[test]
fn another_epoch_is_a_gap_whatever_the_offsets_say() {
    let mut client = Client::joined(at(3, 10, 7));
    client.with(|rooms, now, out| rooms.room(frame(2, vec![item(Chain::High, 10, 11)], None), now, out));
    assert!(client.shown().is_empty());
    client.pass(200);
    assert_eq!(client.joins(), [Some(at(3, 10, 7))]);
    let to = RoomPosition { epoch: 2, ..at(0, 2, 0) };
    client.told(to, true);
    assert!(client.events.contains(&Event::RoomGap { room: id("r"), from: at(3, 10, 7), to }));
    client.with(|rooms, now, out| rooms.room(frame(2, vec![item(Chain::High, 2, 3)], None), now, out));
    assert_eq!(client.shown(), [3]);
}

#[test]
fn dropped_frames_are_asked_for_unless_they_were_loose() {
    let mut client = Client::joined(at(0, 10, 0));
    let gap = |high, low| Gap { room: Some(id("r")), high, normal: 0, low };
    client.rooms.gap(&gap(0, 5), client.now);
    client.rooms.gap(&Gap { room: None, high: 1, normal: 0, low: 0 }, client.now);
    assert_eq!(client.rooms.next(), None);
    client.rooms.gap(&gap(1, 0), client.now);
    client.pass(200);
    assert_eq!(client.joins().len(), 1);
}

#[test]
fn a_room_that_is_not_ready_is_tried_again_and_a_closed_one_not() {
    let mut client = Client::joined(at(0, 10, 0));
    let error = |error, retry_after_ms| {
        let (field, address, re, room) = (None, None, None, Some(id("r")));
        Error { error, field, message: "no".into(), retry_after_ms, address, re, room }
    };
    client.with(|rooms, _, out| rooms.parted(out));
    client.rooms.logged_in(client.now);
    assert_eq!(client.joins().len(), 1);
    let not_now = error(ErrorCode::Unavailable, Some(400));
    assert!(client.with(|rooms, now, out| rooms.refused(&not_now, now, out)));
    assert!(matches!(client.events.pop_front(), Some(Event::RoomUnavailable { .. })));
    client.pass(399);
    assert!(client.joins().is_empty());
    client.pass(201);
    assert_eq!(client.joins(), [Some(at(0, 10, 0))]);
    let closed = error(ErrorCode::Forbidden, None);
    assert!(client.with(|rooms, now, out| rooms.refused(&closed, now, out)));
    assert_eq!(client.events.pop_front(), Some(Event::Refused(closed.clone())));
    assert!(!client.with(|rooms, now, out| rooms.refused(&closed, now, out)), "it is no room of ours any more");
    assert_eq!(client.rooms.next(), None);
}

#[test]
fn a_promise_that_is_never_kept_becomes_a_gap() {
    let mut client = Client::joined(at(0, 10, 0));
    let mut joins = 0;
    for _ in 0..40 {
        client.items(vec![item(Chain::High, 20, 21), item(Chain::Gifts, joins, joins + 1)]);
        client.pass(5_000);
        for _ in client.joins() {
            joins += 1;
            client.told(at(0, 21, 0), true);
        }
        if let Some(gap) = client.events.iter().find(|event| matches!(event, Event::RoomGap { .. })) {
            let Event::RoomGap { from, to, .. } = gap else { unreachable!("found as such") };
            assert_eq!((from.high, to.high), (10, 21));
            assert_eq!(joins, u64::from(IN_VAIN_MAX) + 1);
            return;
        }
    }
    panic!("never told, after {joins} recoveries");
}

fn not_now() -> Error {
    let (field, address, re, room) = (None, None, None, Some(id("r")));
    let (error, message) = (ErrorCode::Unavailable, "not now".to_owned());
    Error { error, field, message, retry_after_ms: Some(500), address, re, room }
}

#[test]
fn a_recovery_that_is_refused_again_and_again_is_given_up_and_told_as_a_gap() {
    let mut client = Client::joined(at(5, 10, 0));
    client.items(vec![item(Chain::High, 20, 21)]);
    let (mut waits, mut asked_at) = (vec![], client.now);
    for _ in 0..REFUSALS_MAX {
        while client.joins().is_empty() {
            client.pass(50);
        }
        waits.push(client.now - asked_at);
        asked_at = client.now;
        client.with(|rooms, now, out| rooms.refused(&not_now(), now, out));
    }
    assert!(waits.last().unwrap() > &Duration::from_secs(1), "{waits:?}");
    let gap = |from, to| Event::RoomGap { room: id("r"), from, to };
    assert_eq!(client.events.pop_back(), Some(gap(at(5, 10, 0), at(5, 21, 0))));
    client.events.clear();
    // For a while every gap is told, nothing is asked for, and what comes is shown.
    client.items(vec![item(Chain::High, 21, 22), item(Chain::High, 25, 26), item(Chain::Gifts, 5, 27)]);
    assert_eq!(client.events[1], gap(at(5, 22, 0), at(5, 25, 0)));
    assert_eq!(client.shown(), [22, 26, 27]);
    let heads = Some(at(27, 26, 9));
    client.with(|rooms, now, out| rooms.room(frame(1, vec![], heads), now, out));
    client.pass(2_000);
    assert_eq!(client.events.pop_back(), Some(gap(at(27, 26, 0), at(27, 26, 9))));
    let of_others = frame(2, vec![item(Chain::High, 3, 4)], None);
    client.with(|rooms, now, out| rooms.room(of_others, now, out));
    let new = |high| RoomPosition { epoch: 2, ..at(0, high, 0) };
    assert_eq!(client.events.pop_front(), Some(gap(at(27, 26, 9), new(0))));
    assert_eq!(client.events.pop_front(), Some(gap(new(0), new(3))));
    assert_eq!(client.shown(), [4]);
    assert!(client.joins().is_empty());
    // Then what is missed is asked for again.
    client.pass(10_000);
    client.with(|rooms, now, out| rooms.room(frame(2, vec![item(Chain::High, 8, 9)], None), now, out));
    client.pass(200);
    assert_eq!(client.joins(), [Some(new(4))]);
}

#[test]
fn who_is_not_in_the_room_yet_asks_until_he_is() {
    let mut client = Client::joined(at(0, 10, 0));
    client.with(|rooms, _, out| rooms.parted(out));
    client.rooms.logged_in(client.now);
    for _ in 0..4 * REFUSALS_MAX {
        while client.joins().is_empty() {
            client.pass(100);
        }
        client.with(|rooms, now, out| rooms.refused(&not_now(), now, out));
        assert!(matches!(client.events.pop_back(), Some(Event::RoomUnavailable { .. })));
    }
    assert!(client.rooms.next().is_some());
}

#[test]
fn leaves_and_joins_again_at_once() {
    let mut client = Client::joined(at(0, 10, 0));
    client.with(|rooms, now, out| rooms.leave(&id("r"), now, out));
    client.with(|rooms, now, out| rooms.join(id("r"), None, now, out));
    client.pass(0);
    assert!(matches!(client.frames[..], [ClientFrame::Leave(_), ClientFrame::Join(_)]));
    // Of the stay before.
    client.items(vec![item(Chain::High, 10, 11)]);
    client.told(at(0, 11, 0), true);
    assert!(client.events.is_empty());
    let left = Left { room: id("r"), reason: LeftReason::Left };
    client.with(|rooms, _, out| rooms.left(left.clone(), out));
    client.told(at(0, 12, 0), true);
    assert!(matches!(client.events.make_contiguous(), [Event::Left(_), Event::Joined(_)]));
    // Sent away: out, and stays out.
    let kicked = Left { room: id("r"), reason: LeftReason::Kicked };
    client.with(|rooms, _, out| rooms.left(kicked.clone(), out));
    assert_eq!(client.events.back(), Some(&Event::Left(kicked)));
    client.items(vec![item(Chain::High, 12, 13)]);
    client.pass(60_000);
    assert_eq!(client.events.len(), 3);
    assert_eq!(client.rooms.next(), None);
}

#[test]
fn a_leave_without_a_connection_is_told_at_once() {
    let mut client = Client::joined(at(0, 10, 0));
    client.with(|rooms, _, out| rooms.parted(out));
    client.with(|rooms, now, out| rooms.leave(&id("r"), now, out));
    assert!(matches!(client.events.make_contiguous(), [Event::Left(_)]));
    client.rooms.logged_in(client.now);
    client.pass(0);
    assert!(client.frames.is_empty());
}

#[test]
fn notes_told_again_are_shown_once_and_likes_each_time() {
    let mut client = Client::joined(at(0, 10, 0));
    let loose = |offset, at| RoomItem { at, ..item(Chain::Loose, 0, offset) };
    client.items(vec![loose(0, 1), loose(0, 2), loose(7, 3), loose(7, 3), loose(7, 4), loose(6, 3)]);
    assert_eq!(client.shown(), [0, 0, 7, 7, 6]);
}

#[test]
fn more_rooms_than_the_limit_are_refused_by_name() {
    let mut client = Client::new(1);
    for n in 0..=ROOMS_MAX {
        client.with(|rooms, now, out| rooms.join(id(&format!("r{n}")), None, now, out));
    }
    assert!(matches!(client.events.make_contiguous(), [Event::Refused(error)] if error.message.contains("256")));
}

#[test]
fn an_unread_client_is_not_late() {
    let mut client = Client::joined(at(0, 10, 0));
    client.with(|rooms, now, out| rooms.join(id("r"), None, now, out));
    assert_eq!(client.joins().len(), 1);
    client.now += Duration::from_secs(60);
    client.rooms.unread_until(client.now);
    client.pass(1_000);
    assert!(client.events.is_empty() && client.frames.is_empty());
    client.pass(10_000);
    assert!(matches!(client.events.pop_front(), Some(Event::RoomUnavailable { .. })));
}
