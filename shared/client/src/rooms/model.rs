//! The rooms against a model of a mesh that loses, repeats and reorders.

use std::collections::HashMap;

use proptest::prelude::*;
use pushmesh_protocol::frame::{Chain, RoomItem};

use super::{
    tests::{Client, frame, id, item, told},
    *,
};
use crate::position;

const CHAINS: [Chain; 3] = [Chain::Gifts, Chain::High, Chain::Normal];

/// What happens.
#[derive(Debug, Clone)]
enum Act {
    /// An item in a chain, and whether its frame gets lost.
    Say {
        chain: usize,
        skips: u64,
        lost: bool,
    },
    /// All that is on its way arrives.
    Arrive,
    /// The frame that arrives next is lost, comes twice, or is overtaken by one of another chain.
    Lose,
    Repeat,
    Overtake,
    Heads,
    /// The comet says that it dropped something.
    Gap,
    /// The next JOIN is not answered, or the next so many with "not now".
    LoseJoin,
    NotNow(u8),
    /// The connection breaks; what is on its way is lost.
    Break,
    /// The history forgets all but its last items.
    Forget,
    /// The streams are made anew.
    Epoch,
    LeaveAndJoin,
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (0..3usize, 1..4u64, prop::bool::weighted(0.15))
            .prop_map(|(chain, skips, lost)| Act::Say { chain, skips, lost }),
        6 => Just(Act::Arrive),
        1 => Just(Act::Lose),
        1 => Just(Act::Repeat),
        2 => Just(Act::Overtake),
        1 => Just(Act::Heads),
        1 => Just(Act::Gap),
        1 => Just(Act::LoseJoin),
        1 => (1..9u8).prop_map(Act::NotNow),
        1 => Just(Act::Break),
        1 => Just(Act::Forget),
        1 => Just(Act::Epoch),
        1 => Just(Act::LeaveAndJoin),
        4 => (1..3_000u64).prop_map(Act::Pass),
    ]
}

#[derive(Default)]
struct History {
    epoch: u64,
    /// All offsets of each chain, since the epoch began.
    chains: [Vec<u64>; 3],
    /// Those that are still kept begin here.
    kept: [usize; 3],
    next: u64,
}

impl History {
    fn head(&self, chain: usize) -> u64 {
        self.chains[chain].last().copied().unwrap_or(0)
    }

    fn heads(&self) -> RoomPosition {
        RoomPosition { epoch: self.epoch, gifts: self.head(0), high: self.head(1), normal: self.head(2) }
    }

    /// What follows a position, if it is all kept.
    fn since(&self, from: &RoomPosition) -> Option<Vec<RoomItem>> {
        if from.epoch != self.epoch {
            return None;
        }
        let mut items = vec![];
        for (n, from) in [from.gifts, from.high, from.normal].into_iter().enumerate() {
            let first = self.chains[n].partition_point(|offset| *offset <= from);
            if first < self.kept[n] {
                return None;
            }
            let before = |at: usize| at.checked_sub(1).map_or(0, |at| self.chains[n][at]);
            items.extend((first..self.chains[n].len()).map(|at| item(CHAINS[n], before(at), self.chains[n][at])));
        }
        Some(items)
    }
}

#[derive(Debug, Clone)]
enum OnItsWay {
    Room(Room),
    Joined(Joined),
    Left(Left),
    Error(Error),
    Gap(Gap),
}

struct World {
    client: Client,
    history: History,
    /// From the comet to the client, in order.
    link: VecDeque<OnItsWay>,
    member: bool,
    lose_join: bool,
    not_now: u8,
    /// Told of: per epoch and chain, what was shown since the stay began, or lies in a gap that was told.
    shown: HashMap<(u64, usize), Vec<u64>>,
    here: Option<RoomPosition>,
}

impl World {
    fn new(seed: u64) -> Self {
        let history = History { epoch: 1, next: 1, ..Default::default() };
        let mut world = Self {
            client: Client::new(seed),
            history,
            link: VecDeque::new(),
            member: false,
            lose_join: false,
            not_now: 0,
            shown: HashMap::new(),
            here: None,
        };
        world.client.with(|rooms, now, out| rooms.join(id("r"), None, now, out));
        world.client.rooms.logged_in(world.client.now);
        world
    }

    fn send(&mut self, frame: OnItsWay) {
        if self.member {
            self.link.push_back(frame);
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Say { chain, skips, lost } => {
                self.history.next += skips;
                let (prev, offset) = (self.history.head(chain), self.history.next);
                self.history.chains[chain].push(offset);
                if !lost {
                    let items = vec![item(CHAINS[chain], prev, offset)];
                    self.send(OnItsWay::Room(frame(self.history.epoch, items, None)));
                }
            }
            Act::Arrive => self.arrive(),
            Act::Lose => drop(self.link.pop_front().filter(|frame| matches!(frame, OnItsWay::Room(_)))),
            Act::Repeat => {
                if let Some(OnItsWay::Room(_)) = self.link.front() {
                    self.link.push_front(self.link[0].clone());
                }
            }
            Act::Overtake => self.overtake(),
            Act::Heads => self.send(OnItsWay::Room(frame(self.history.epoch, vec![], Some(self.history.heads())))),
            Act::Gap => self.send(OnItsWay::Gap(Gap { room: Some(id("r")), high: 1, normal: 0, low: 0 })),
            Act::LoseJoin => self.lose_join = true,
            Act::NotNow(times) => self.not_now = times,
            Act::Break => {
                self.link.clear();
                self.member = false;
                self.client.frames.clear();
                self.client.with(|rooms, _, out| rooms.parted(out));
                self.client.rooms.logged_in(self.client.now);
            }
            Act::Forget => {
                self.history.kept = [0, 1, 2].map(|n| self.history.chains[n].len().saturating_sub(2));
            }
            Act::Epoch => {
                self.history = History { epoch: self.history.epoch + 1, next: 1, ..Default::default() };
            }
            Act::LeaveAndJoin => {
                self.client.with(|rooms, now, out| rooms.leave(&id("r"), now, out));
                self.client.with(|rooms, now, out| rooms.join(id("r"), None, now, out));
                self.here = None;
                self.shown.clear();
                // What is on its way to the stay that has ended tells nothing.
                self.client.events.clear();
            }
            Act::Pass(millis) => self.client.pass(millis),
        }
        self.serve();
    }

    /// Frames of different chains overtake each other; nothing passes an answer.
    fn overtake(&mut self) {
        let chain = |frame: &OnItsWay| match frame {
            OnItsWay::Room(room) => room.items.first().map(|item| item.chain),
            _ => None,
        };
        if let (Some(first), Some(second)) = (self.link.front().and_then(chain), self.link.get(1).and_then(chain))
            && first != second
        {
            self.link.swap(0, 1);
        }
    }

    /// The comet reads what the client wrote.
    fn serve(&mut self) {
        self.client.pass(0);
        for frame in std::mem::take(&mut self.client.frames) {
            match frame {
                ClientFrame::Join(_) if std::mem::take(&mut self.lose_join) => {}
                ClientFrame::Join(_) if self.not_now > 0 => {
                    self.not_now -= 1;
                    let (error, message) = (ErrorCode::Unavailable, "not now".to_owned());
                    let (field, address, re, room) = (None, None, None, Some(id("r")));
                    let retry_after_ms = Some(300);
                    self.link.push_back(OnItsWay::Error(Error {
                        error,
                        field,
                        message,
                        retry_after_ms,
                        address,
                        re,
                        room,
                    }));
                }
                ClientFrame::Join(join) => self.join(join.resume),
                ClientFrame::Leave(_) => {
                    self.member = false;
                    self.link.push_back(OnItsWay::Left(Left { room: id("r"), reason: LeftReason::Left }));
                }
                other => panic!("rooms don't say {other:?}"),
            }
        }
    }

    fn join(&mut self, resume: Option<RoomPosition>) {
        self.member = true;
        let missed = resume.map_or(Some(vec![]), |from| self.history.since(&from));
        let heads = self.history.heads();
        self.send(OnItsWay::Joined(told(heads, missed.is_some())));
        for items in missed.unwrap_or_default().chunks(3) {
            self.send(OnItsWay::Room(frame(heads.epoch, items.to_vec(), None)));
        }
    }

    fn arrive(&mut self) {
        while let Some(on_its_way) = self.link.pop_front() {
            self.client.with(|rooms, now, out| match on_its_way {
                OnItsWay::Room(room) => rooms.room(room, now, out),
                OnItsWay::Joined(joined) => rooms.joined(joined, now, out),
                OnItsWay::Left(left) => rooms.left(left, out),
                OnItsWay::Error(error) => assert!(rooms.refused(&error, now, out)),
                OnItsWay::Gap(gap) => rooms.gap(&gap, now),
            });
            self.judge();
        }
    }

    /// What the application was told is possible: each item next in its chain, each gap from where it stood.
    fn judge(&mut self) {
        for event in std::mem::take(&mut self.client.events) {
            match event {
                Event::Joined(joined) => {
                    self.here.get_or_insert(joined.position);
                }
                Event::RoomGap { from, to, .. } => {
                    assert_eq!(self.here, Some(from), "a gap begins where the client stood");
                    self.here = Some(to);
                }
                Event::Room { item, .. } => {
                    let here = self.here.as_mut().expect("nothing is shown before JOINED");
                    let chain = CHAINS.iter().position(|chain| *chain == item.chain).expect("no item is loose");
                    let (key, last) = ((here.epoch, chain), [here.gifts, here.high, here.normal][chain]);
                    assert!(item.offset > last, "{item:?} shown at {here:?}");
                    self.shown.entry(key).or_default().push(item.offset);
                    if here.epoch == self.history.epoch {
                        let between = |offset: &&u64| **offset > last && **offset < item.offset;
                        let missed: Vec<_> = self.history.chains[chain].iter().filter(between).collect();
                        assert!(missed.is_empty(), "{missed:?} missed silently before {item:?} at {here:?}");
                    }
                    position::follow(here, &item);
                }
                Event::RoomUnavailable { .. } | Event::Left(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// Nothing goes wrong any more: the client gets to where the room stands.
    fn settle(&mut self) {
        (self.lose_join, self.not_now) = (false, 0);
        for _ in 0..60 {
            self.act(Act::Arrive);
            if self.here == Some(self.history.heads()) && self.member && self.link.is_empty() {
                break;
            }
            self.act(Act::Heads);
            self.act(Act::Arrive);
            self.act(Act::Pass(1_000));
        }
        assert_eq!(self.here, Some(self.history.heads()), "it never got there");
        for shown in self.shown.values() {
            assert!(shown.is_sorted_by(|a, b| a < b), "twice or out of order: {shown:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_shown_twice_or_missed_silently(seed: u64, acts in prop::collection::vec(act(), 1..120)) {
        let mut world = World::new(seed);
        world.serve();
        for act in acts {
            world.act(act);
        }
        world.settle();
    }
}
