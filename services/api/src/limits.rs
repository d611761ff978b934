//! How often: rates by user, by backend and by room.
//!
//! Each instance counts for itself, so that whoever spreads his requests over N of them may do up to N times as much; a room's
//! bound is shared among the instances by their number. What is idle is forgotten, so that memory holds those of the last
//! seconds alone.

use std::{hash::Hash, num::NonZeroU32, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DashMapStateStore,
};
use pushmesh_boot::FieldError;
use pushmesh_protocol::{RoomId, Token, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// The table `[service.limits]`. A refusal names the limit as it is called here. Rates of users and backends are those of one
/// instance.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Messages (chat, danmaku and the application's types) of one client a second: 1 to 1000000. Default 1.
    pub chat_per_user: u32,
    /// Gifts of one client a second: 1 to 1000000. Default 30.
    pub gifts_per_user: u32,
    /// Likes of one user a second, whoever sends them: 1 to 1000000. Default 20. More is fake, and not counted.
    pub likes_per_user: u32,
    /// Requests of one client a second, of all kinds: 1 to 1000000. Default 100.
    pub requests_per_user: u32,
    /// Requests of one backend (its token's `sub`) a second, of all kinds: 1 to 1000000. Default 10000.
    pub requests_per_key: u32,
    /// Messages into one room a second, of all instances together: 1 to 1000000. Default 200. More is refused before it is
    /// stored.
    pub chat_per_room: u32,
    /// Bytes of a request's body: 1024 to 1048576. Default 16384.
    pub body_max_bytes: usize,
    /// Bytes of a message's or note's `data`: 1 to 65536. Default 4096.
    pub data_max_bytes: usize,
    /// Bytes of a gift's `note`: 0 to 4096. Default 512.
    pub gift_note_max_bytes: usize,
    /// A gift's `count`: 1 to 1000000. Default 10000.
    pub gift_count_max: u32,
    /// A gift's `value`, in the smallest unit of money: 1 to 10^15. Default 10^12.
    pub gift_value_max: u64,
    /// Hosts and admins of one room: 1 to 10000. Default 100.
    pub roles_per_room: usize,
    /// Users muted in one room: 1 to 1000000. Default 10000.
    pub mutes_per_room: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            chat_per_user: 1,
            gifts_per_user: 30,
            likes_per_user: 20,
            requests_per_user: 100,
            requests_per_key: 10_000,
            chat_per_room: 200,
            body_max_bytes: 16 * 1024,
            data_max_bytes: 4096,
            gift_note_max_bytes: 512,
            gift_count_max: 10_000,
            gift_value_max: 1_000_000_000_000,
            roles_per_room: 100,
            mutes_per_room: 10_000,
        }
    }
}

impl LimitsConfig {
    pub fn validate(&self) -> Result<(), FieldError> {
        let million = 1_000_000;
        let numbers = [
            ("chat_per_user", u64::from(self.chat_per_user), 1, million),
            ("gifts_per_user", u64::from(self.gifts_per_user), 1, million),
            ("likes_per_user", u64::from(self.likes_per_user), 1, million),
            ("requests_per_user", u64::from(self.requests_per_user), 1, million),
            ("requests_per_key", u64::from(self.requests_per_key), 1, million),
            ("chat_per_room", u64::from(self.chat_per_room), 1, million),
            ("body_max_bytes", self.body_max_bytes as u64, 1024, 1 << 20),
            ("data_max_bytes", self.data_max_bytes as u64, 1, 1 << 16),
            ("gift_note_max_bytes", self.gift_note_max_bytes as u64, 0, 4096),
            ("gift_count_max", u64::from(self.gift_count_max), 1, million),
            ("gift_value_max", self.gift_value_max, 1, million * 1_000_000_000),
            ("roles_per_room", self.roles_per_room as u64, 1, 10_000),
            ("mutes_per_room", self.mutes_per_room as u64, 1, million),
        ];
        match numbers.into_iter().find(|(_, value, min, max)| value < min || value > max) {
            None => Ok(()),
            Some((field, value, min, max)) => {
                Err(FieldError::new(format!("limits.{field}"), format!("is {value}; it must be {min} to {max}")))
            }
        }
    }
}

type Keyed<K> = RateLimiter<K, DashMapStateStore<K>, DefaultClock, StateInformationMiddleware>;

/// All rates of one instance.
pub struct Limits {
    clock: DefaultClock,
    chat: Rate<UserId>,
    gifts: Rate<UserId>,
    likes: Rate<UserId>,
    requests: Rate<UserId>,
    keys: Rate<Token>,
    /// Of all instances.
    room_bound: u32,
    /// This one's share of it.
    rooms: ArcSwap<Rate<RoomId>>,
}

/// One limit.
struct Rate<K: Hash + Eq + Clone> {
    name: &'static str,
    a_second: NonZeroU32,
    limiter: Keyed<K>,
}

impl<K: Hash + Eq + Clone> Rate<K> {
    fn new(name: &'static str, a_second: u32) -> Self {
        let a_second = NonZeroU32::new(a_second).unwrap_or(NonZeroU32::MIN);
        let limiter = RateLimiter::dashmap(Quota::per_second(a_second)).with_middleware();
        Self { name, a_second, limiter }
    }

    fn check(&self, key: &K, clock: &DefaultClock) -> Result<(), Refusal> {
        match self.limiter.check_key(key) {
            Ok(_) => Ok(()),
            Err(not_until) => Err(self.refusal(not_until.wait_time_from(clock.now()))),
        }
    }

    /// How many of `count` there is room for.
    fn take(&self, key: &K, count: NonZeroU32, clock: &DefaultClock) -> Result<u32, Refusal> {
        let left = match self.limiter.check_key(key) {
            Ok(state) => state.remaining_burst_capacity(),
            Err(not_until) => return Err(self.refusal(not_until.wait_time_from(clock.now()))),
        };
        let Some(more) = NonZeroU32::new((count.get() - 1).min(left)) else { return Ok(1) };
        // Others of the key may be faster in between: then it is the one.
        match self.limiter.check_key_n(key, more) {
            Ok(Ok(_)) => Ok(1 + more.get()),
            Ok(Err(_)) | Err(_) => Ok(1),
        }
    }

    fn refusal(&self, wait: Duration) -> Refusal {
        let (most, name, wait_ms) = (self.a_second, self.name, wait.as_millis() + 1);
        Refusal::limited(name, format!("{name} is {most} a second: say it again in {wait_ms} ms"), wait)
    }

    fn forget(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

impl Limits {
    pub fn new(config: &LimitsConfig) -> Self {
        Self {
            clock: DefaultClock::default(),
            chat: Rate::new("chat_per_user", config.chat_per_user),
            gifts: Rate::new("gifts_per_user", config.gifts_per_user),
            likes: Rate::new("likes_per_user", config.likes_per_user),
            requests: Rate::new("requests_per_user", config.requests_per_user),
            keys: Rate::new("requests_per_key", config.requests_per_key),
            room_bound: config.chat_per_room,
            rooms: ArcSwap::from_pointee(Rate::new("chat_per_room", config.chat_per_room)),
        }
    }

    pub fn request_of_user(&self, user: &UserId) -> Result<(), Refusal> {
        self.requests.check(user, &self.clock)
    }

    pub fn request_of_key(&self, key: &Token) -> Result<(), Refusal> {
        self.keys.check(key, &self.clock)
    }

    pub fn chat(&self, user: &UserId) -> Result<(), Refusal> {
        self.chat.check(user, &self.clock)
    }

    pub fn gift(&self, user: &UserId) -> Result<(), Refusal> {
        self.gifts.check(user, &self.clock)
    }

    /// How many of the user's likes count: at least one, or the refusal.
    pub fn likes(&self, user: &UserId, count: NonZeroU32) -> Result<u32, Refusal> {
        self.likes.take(user, count, &self.clock)
    }

    pub fn chat_in(&self, room: &RoomId) -> Result<(), Refusal> {
        self.rooms.load().check(room, &self.clock)
    }

    /// So many instances share the bounds of rooms.
    pub fn share_with(&self, instances: u32) {
        let share = (self.room_bound / instances.max(1)).max(1);
        if self.rooms.load().a_second.get() != share {
            self.rooms.store(Arc::new(Rate::new("chat_per_room", share)));
        }
    }

    /// Forgets who was not here of late.
    pub fn forget(&self) {
        self.chat.forget();
        self.gifts.forget();
        self.likes.forget();
        self.requests.forget();
        self.keys.forget();
        self.rooms.load().forget();
    }

    /// Users, backends and rooms remembered.
    pub fn remembered(&self) -> usize {
        let users = self.chat.limiter.len() + self.gifts.limiter.len() + self.likes.limiter.len();
        users + self.requests.limiter.len() + self.keys.limiter.len() + self.rooms.load().limiter.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Code;

    fn limits(change: impl FnOnce(&mut LimitsConfig)) -> Limits {
        let mut config = LimitsConfig::default();
        change(&mut config);
        Limits::new(&config)
    }

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    #[test]
    fn one_line_a_second_and_the_next_user_is_free() {
        let limits = limits(|_| {});
        limits.chat(&user("alice")).unwrap();
        let refused = limits.chat(&user("alice")).unwrap_err();
        assert_eq!((refused.code, refused.limit), (Code::RateLimited, Some("chat_per_user")));
        let wait = refused.retry_after.unwrap();
        assert!(wait > Duration::from_millis(500) && wait <= Duration::from_secs(1), "{wait:?}");
        limits.chat(&user("bob")).unwrap();
        assert_eq!(limits.remembered(), 2);
    }

    #[test]
    fn of_more_likes_than_a_finger_makes_some_count() {
        let limits = limits(|config| config.likes_per_user = 20);
        let count = |count| NonZeroU32::new(count).unwrap();
        assert_eq!(limits.likes(&user("alice"), count(5)), Ok(5));
        let rest = limits.likes(&user("alice"), count(u32::MAX)).unwrap();
        assert!((15..=16).contains(&rest), "{rest}");
        assert_eq!(limits.likes(&user("alice"), count(1)).unwrap_err().limit, Some("likes_per_user"));
    }

    #[test]
    fn a_rooms_bound_is_shared_by_number() {
        let limits = limits(|config| config.chat_per_room = 10);
        let room = RoomId::new("stage").unwrap();
        limits.share_with(2);
        let taken = (0..20).take_while(|_| limits.chat_in(&room).is_ok()).count();
        assert!((5..=6).contains(&taken), "{taken}");
        limits.share_with(100);
        assert!(limits.chat_in(&room).is_ok(), "at least one a second");
        limits.share_with(0);
    }

    #[test]
    fn who_was_not_here_of_late_is_forgotten() {
        let limits = limits(|config| config.gifts_per_user = 1_000_000);
        for number in 0..1000 {
            limits.gift(&user(&format!("u{number}"))).unwrap();
        }
        limits.forget();
        assert!(limits.remembered() < 1000, "at a million a second, a microsecond is enough");
    }
}
