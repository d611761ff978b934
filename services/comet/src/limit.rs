//! Rates and counts: how fast, and how many at once.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{address::Dice, config::Limits, elsewhere::Elsewhere, framing::Dialect, penalty::Penalties};

/// Microseconds since the shard began.
pub type Micros = u64;

/// So many a second, so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u32,
    pub burst: u32,
}

impl Rate {
    fn interval(self) -> Micros {
        1_000_000 / u64::from(self.per_second.max(1))
    }
}

/// A token bucket in eight bytes: the time at which it is full again (GCRA).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket(Micros);

impl Bucket {
    /// Takes one token, if there is one.
    pub fn take(&mut self, rate: Rate, now: Micros) -> bool {
        let (interval, full_at) = (rate.interval(), self.0.max(now));
        if full_at - now > interval * u64::from(rate.burst.max(1) - 1) {
            return false;
        }
        self.0 = full_at + interval;
        true
    }

    /// Takes one that may not be there: the debt is at most `debt_max`.
    pub fn charge(&mut self, rate: Rate, now: Micros, debt_max: Micros) {
        let most = now + rate.interval() * u64::from(rate.burst.max(1)) + debt_max;
        self.0 = (self.0.max(now) + rate.interval()).min(most);
    }

    /// Gives one back.
    pub fn refund(&mut self, rate: Rate) {
        self.0 = self.0.saturating_sub(rate.interval());
    }

    /// Whether nothing is missing: it says no more than one that was never used.
    pub fn is_full(&self, now: Micros) -> bool {
        self.0 <= now
    }

    /// How long until the next token.
    pub fn wait(&self, rate: Rate, now: Micros) -> Micros {
        let bound = now + rate.interval() * u64::from(rate.burst.max(1) - 1);
        self.0.saturating_sub(bound)
    }
}

/// How many connections this comet takes, over all shards. Touched when one comes, when it logs in and when it goes, never
/// between.
#[derive(Debug)]
pub struct Door {
    limits: DoorLimits,
    /// Where those may go who find it full.
    elsewhere: Option<Elsewhere>,
    began: Instant,
    /// Connections, and sessions whose end is not written yet: what bounds every queue that they enter.
    open: AtomicUsize,
    before_login: AtomicUsize,
    // One lock, taken twice in a connection's life.
    sites: Mutex<HashMap<Site, u32>>,
    // One more, taken twice in a login.
    penalties: Mutex<Penalties>,
}

#[derive(Debug, Clone, Copy)]
pub struct DoorLimits {
    pub connections: usize,
    pub before_login: usize,
    pub per_address: u32,
    pub failed_logins: Rate,
}

impl From<&Limits> for DoorLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            connections: limits.connections as usize,
            before_login: limits.before_login as usize,
            per_address: limits.per_address,
            failed_logins: Rate { per_second: limits.failed_logins_forgotten, burst: limits.failed_logins },
        }
    }
}

/// Which limit a newcomer met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoorLimit {
    Connections,
    BeforeLogin,
    PerAddress,
}

impl DoorLimit {
    /// Whether another comet may have room: what one address may have it may have nowhere.
    pub fn is_of_this_comet(self) -> bool {
        matches!(self, Self::Connections | Self::BeforeLogin)
    }
}

/// Where clients come from: an IPv4 address, or the /64 that an IPv6 client commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Site(u64);

impl Site {
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Self(u64::from(v4.to_bits())),
            IpAddr::V6(v6) => Self((v6.to_bits() >> 64) as u64),
        }
    }
}

impl Door {
    /// Of a comet that knows of no other.
    pub fn new(limits: DoorLimits) -> Arc<Self> {
        Self::build(limits, None)
    }

    /// Of a comet among others.
    pub fn among(limits: DoorLimits, elsewhere: Elsewhere) -> Arc<Self> {
        Self::build(limits, Some(elsewhere))
    }

    fn build(limits: DoorLimits, elsewhere: Option<Elsewhere>) -> Arc<Self> {
        let none = || AtomicUsize::new(0);
        Arc::new(Self {
            limits,
            elsewhere,
            began: Instant::now(),
            open: none(),
            before_login: none(),
            sites: Mutex::default(),
            penalties: Mutex::new(Penalties::new(limits.failed_logins)),
        })
    }

    /// One more, if the limits of this comet allow; from where it comes may be told later.
    pub fn knock(self: &Arc<Self>) -> Result<Knock, DoorLimit> {
        // The first gives back by Drop what the second refuses.
        let open = Count::of(self, |door| &door.open, self.limits.connections).ok_or(DoorLimit::Connections)?;
        let before_login =
            Count::of(self, |door| &door.before_login, self.limits.before_login).ok_or(DoorLimit::BeforeLogin)?;
        Ok(Knock { open, before_login })
    }

    /// The address of another comet, where there is one: of its door for this dialect, if it has one.
    pub fn elsewhere(&self, dialect: Dialect, dice: &mut Dice) -> Option<String> {
        self.elsewhere.as_ref()?.choose(dialect, Instant::now(), dice)
    }

    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub fn limits(&self) -> &DoorLimits {
        &self.limits
    }

    fn micros(&self, now: Instant) -> Micros {
        now.saturating_duration_since(self.began).as_micros() as Micros
    }
}

type Which = fn(&Door) -> &AtomicUsize;

#[derive(Debug)]
struct Count {
    door: Arc<Door>,
    which: Which,
}

impl Count {
    fn of(door: &Arc<Door>, which: Which, limit: usize) -> Option<Self> {
        let below = |count| (count < limit).then_some(count + 1);
        which(door).fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).ok()?;
        Some(Self { door: door.clone(), which })
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        (self.which)(&self.door).fetch_sub(1, Ordering::Relaxed);
    }
}

/// The place of a connection of which nobody knows yet where it comes from.
#[derive(Debug)]
pub struct Knock {
    open: Count,
    before_login: Count,
}

impl Knock {
    /// Comes in, if the limit of where it comes from allows.
    pub fn enter(self, ip: IpAddr) -> Result<Visit, DoorLimit> {
        let Self { open, before_login } = self;
        let site = Site::of(ip);
        let mut sites = open.door.sites.lock().expect("nothing panics under this lock");
        let here = sites.entry(site).or_insert(0);
        if *here >= open.door.limits.per_address {
            return Err(DoorLimit::PerAddress);
        }
        *here += 1;
        drop(sites);
        Ok(Visit { _before_login: before_login, seat: Seat { open, site } })
    }
}

/// The place of a connection that has not logged in.
#[derive(Debug)]
pub struct Visit {
    _before_login: Count,
    seat: Seat,
}

impl Visit {
    /// It logged in.
    pub fn seat(self) -> Seat {
        self.seat
    }

    /// How long no login from there is looked at, because too many have failed.
    pub fn penalty(&self, now: Instant) -> Option<Duration> {
        self.penalties(|penalties, site| penalties.wait(site, self.seat.open.door.micros(now)))
            .map(Duration::from_micros)
    }

    /// Its token was refused.
    pub fn login_failed(&self, now: Instant) {
        self.penalties(|penalties, site| penalties.failed(site, self.seat.open.door.micros(now)));
    }

    /// Its token was good.
    pub fn login_succeeded(&self) {
        self.penalties(Penalties::succeeded);
    }

    fn penalties<T>(&self, then: impl FnOnce(&mut Penalties, Site) -> T) -> T {
        let mut penalties = self.seat.open.door.penalties.lock().expect("nothing panics under this lock");
        then(&mut penalties, self.seat.site)
    }
}

/// The place of a connection, until the end of its session is written.
#[derive(Debug)]
pub struct Seat {
    open: Count,
    site: Site,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut sites = self.open.door.sites.lock().expect("nothing panics under this lock");
        if let Some(here) = sites.get_mut(&self.site) {
            *here -= 1;
            if *here == 0 {
                sites.remove(&self.site);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let (rate, mut bucket) = (Rate { per_second: 10, burst: 5 }, Bucket::default());
        let now = 5_000_000;
        assert_eq!((0..20).filter(|_| bucket.take(rate, now)).count(), 5);
        assert_eq!(bucket.wait(rate, now), 100_000);
        assert_eq!((0..20).filter(|_| bucket.take(rate, now + 250_000)).count(), 2);
        assert_eq!((0..20).filter(|_| bucket.take(rate, now + 60_000_000)).count(), 5);
    }

    #[test]
    fn a_debt_is_paid_off_and_has_a_bound() {
        let (rate, mut bucket) = (Rate { per_second: 10, burst: 5 }, Bucket::default());
        let now = 5_000_000;
        (0..100).for_each(|_| bucket.charge(rate, now, 1_000_000));
        // The empty bucket's own interval, and the debt.
        assert_eq!(bucket.wait(rate, now), 1_100_000);
        bucket.refund(rate);
        assert_eq!(bucket.wait(rate, now), 1_000_000);
        assert!(!bucket.is_full(now + 1_000_000) && bucket.is_full(now + 1_400_000));
    }

    #[test]
    fn the_door_counts_and_whoever_leaves_makes_room() {
        let door = Door::new(DoorLimits {
            connections: 3,
            before_login: 2,
            per_address: 2,
            failed_logins: Rate { per_second: 1, burst: 1 },
        });
        let enter = |ip| door.knock().and_then(|knock| knock.enter(ip));
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "::ffff:10.0.0.1".parse().unwrap());
        let c: IpAddr = "2001:db8::1".parse().unwrap();
        let first = enter(a).unwrap();
        let second = enter(c).unwrap();
        assert_eq!(enter(a).unwrap_err(), DoorLimit::BeforeLogin);
        let seat = first.seat();
        let third = enter(b).unwrap();
        assert_eq!(enter(a).unwrap_err(), DoorLimit::Connections);
        drop(second);
        assert_eq!(enter(a).unwrap_err(), DoorLimit::PerAddress);
        drop((seat, third));
        assert_eq!(door.open(), 0);
        assert!(door.sites.lock().unwrap().is_empty());
    }
}
