use std::time::{Duration, Instant};

use pushmesh_protocol::{
    id::{Instance, Token},
    message::MemberRecord,
};

use super::*;

const MS: Duration = Duration::from_millis(1);

struct Room {
    roster: Roster,
    start: Instant,
    now: Instant,
}

fn service() -> Token {
    Token::new("distributor").expect("a token")
}

fn instance(name: &str) -> Instance {
    Instance::new(name).expect("a token")
}

fn record(epoch: u64) -> MemberRecord {
    MemberRecord { weight: 50, epoch, address: String::new(), draining: false, owning: true }
}

impl Room {
    fn of(names: &[&str]) -> Room {
        let start = Instant::now();
        let mut room = Room { roster: Roster::new(Tuning::default()), start, now: start };
        for name in names {
            room.roster.put(service(), instance(name), record(1), 1);
        }
        room
    }

    /// Lets `time` pass while these are heard every 250 ms.
    fn hear(&mut self, time: Duration, names: &[&str]) {
        let end = self.now + time;
        while self.now < end {
            self.now += 50 * MS;
            if (self.now - self.start).as_millis().is_multiple_of(250) {
                for name in names {
                    self.roster.heard(self.now, &service(), &instance(name), 1);
                }
            }
            self.roster.tick(self.now);
        }
    }

    fn alive(&self) -> Vec<String> {
        let view = self.roster.view();
        let alive = view.members_of(&service()).filter(|member| member.alive);
        alive.map(|member| member.instance.to_string()).collect()
    }
}

#[test]
fn silence_while_others_are_heard_is_death_after_1200_ms() {
    let mut room = Room::of(&["a", "b"]);
    room.hear(1000 * MS, &["a", "b"]);
    room.hear(1150 * MS, &["a"]);
    assert_eq!(room.alive(), ["a", "b"]);
    room.hear(100 * MS, &["a"]);
    assert_eq!(room.alive(), ["a"]);
    assert_eq!(room.roster.take_tally().suspicions, 1);
    room.hear(250 * MS, &["a", "b"]);
    assert_eq!(room.alive(), ["a", "b"], "heard again, it is back");
}

#[test]
fn deaf_time_does_not_count() {
    let mut room = Room::of(&["a", "b"]);
    room.hear(1000 * MS, &["a", "b"]);
    room.hear(1000 * MS, &["a"]);
    // Nobody is heard for 10 s: our connection is gone, or our process stood still.
    room.hear(10_000 * MS, &[]);
    assert_eq!(room.alive(), ["a", "b"]);
    // The clock starts again, and does not go on where it stopped.
    room.hear(1150 * MS, &["a"]);
    assert_eq!(room.alive(), ["a", "b"]);
    room.hear(500 * MS, &["a"]);
    assert_eq!(room.alive(), ["a"]);
}

#[test]
fn an_expired_key_of_a_member_that_is_heard_means_nothing() {
    let mut room = Room::of(&["a", "b"]);
    room.hear(500 * MS, &["a", "b"]);
    room.roster.gone(&service(), &instance("b"), Gone::Expired);
    room.hear(5000 * MS, &["a", "b"]);
    assert_eq!(room.alive(), ["a", "b"]);
    room.hear(1500 * MS, &["a"]);
    assert_eq!(room.roster.view().members_of(&service()).count(), 1, "silent and without a key it is no member");
}

#[test]
fn a_deleted_key_ends_a_member_at_once() {
    let mut room = Room::of(&["a", "b"]);
    room.hear(500 * MS, &["a", "b"]);
    room.roster.gone(&service(), &instance("b"), Gone::Deleted);
    room.hear(250 * MS, &["a", "b"]);
    assert_eq!(room.alive(), ["a"], "and a late heartbeat does not bring it back");
}

#[test]
fn a_heartbeat_without_a_key_makes_no_member() {
    let mut room = Room::of(&["a"]);
    room.hear(1000 * MS, &["a", "b"]);
    assert_eq!(room.alive(), ["a"]);
    room.roster.put(service(), instance("b"), record(7), 7);
    assert_eq!(room.alive(), ["a", "b"]);
}

#[test]
fn a_restart_ends_the_start_before() {
    let mut room = Room::of(&["a", "b"]);
    room.hear(500 * MS, &["a", "b"]);
    room.roster.heard(room.now, &service(), &instance("b"), 9);
    assert_eq!(room.alive(), ["a"], "its new key is on its way");
    room.roster.put(service(), instance("b"), record(0), 9);
    assert!(room.roster.is_alive(&service(), &instance("b"), 9));
    assert!(!room.roster.is_alive(&service(), &instance("b"), 1));
    room.roster.put(service(), instance("b"), record(1), 10);
    assert!(room.roster.is_alive(&service(), &instance("b"), 9), "a late write of the start before changes nothing");
}

#[test]
fn most_members_gone_at_once_freeze_the_ring_for_10_s() {
    let all = ["a", "b", "c", "d", "e", "f"];
    let mut room = Room::of(&all);
    room.hear(1000 * MS, &all);
    room.hear(1500 * MS, &["a", "b"]);
    assert_eq!(room.alive(), ["a", "b"]);
    assert!(room.roster.is_frozen(room.now));
    assert_eq!(room.roster.take_tally().freezes, 1);
    room.hear(10_000 * MS, &["a", "b"]);
    assert!(!room.roster.is_frozen(room.now));
}

#[test]
fn half_of_six_and_all_but_one_of_five_do_not_freeze() {
    for (all, left) in [(["a", "b", "c", "d", "e", "f"].as_slice(), 3), (["a", "b", "c", "d", "e"].as_slice(), 1)] {
        let mut room = Room::of(all);
        room.hear(1000 * MS, all);
        room.hear(1500 * MS, &all[..left]);
        assert_eq!(room.alive().len(), left);
        assert!(!room.roster.is_frozen(room.now));
    }
}

#[test]
fn what_a_new_snapshot_does_not_mention_has_expired() {
    let mut room = Room::of(&["a", "b", "c"]);
    room.hear(500 * MS, &["a", "b"]);
    room.roster.snapshot_begins();
    room.roster.put(service(), instance("a"), record(1), 20);
    room.roster.snapshot_ends();
    assert_eq!(room.alive(), ["a", "b", "c"], "the bucket was without a leader: nobody could renew");
    room.hear(1500 * MS, &["a", "b"]);
    assert_eq!(room.alive(), ["a", "b"]);
}
