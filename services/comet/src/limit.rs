//! Rates and counts: how fast, and how many at once.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

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

    /// How long until the next token.
    pub fn wait(&self, rate: Rate, now: Micros) -> Micros {
        let bound = now + rate.interval() * u64::from(rate.burst.max(1) - 1);
        self.0.saturating_sub(bound)
    }
}

/// How many connections this comet takes, over all shards. Touched when one comes and when it goes, never between.
#[derive(Debug)]
pub struct Door {
    limits: DoorLimits,
    /// Connections, and sessions whose end is not written yet: what bounds every queue that they enter.
    open: AtomicUsize,
    before_login: AtomicUsize,
    // One lock, taken twice in a connection's life.
    addresses: Mutex<HashMap<Address, u32>>,
}

#[derive(Debug, Clone, Copy)]
pub struct DoorLimits {
    pub connections: usize,
    pub before_login: usize,
    pub per_address: u32,
}

/// Which limit a newcomer met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoorLimit {
    Connections,
    BeforeLogin,
    PerAddress,
}

/// An IPv4 address, or the /64 that an IPv6 client commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Address(u64);

impl Address {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(v4) => Self(u64::from(v4.to_bits())),
            IpAddr::V6(v6) => Self((v6.to_bits() >> 64) as u64),
        }
    }
}

impl Door {
    pub fn new(limits: DoorLimits) -> Arc<Self> {
        let none = || AtomicUsize::new(0);
        Arc::new(Self { limits, open: none(), before_login: none(), addresses: Mutex::default() })
    }

    /// One more, if the limits allow.
    pub fn enter(self: &Arc<Self>, ip: IpAddr) -> Result<Visit, DoorLimit> {
        let address = Address::of(ip);
        // Each step gives back by Drop what a later one refuses.
        let open = Count::of(self, |door| &door.open, self.limits.connections).ok_or(DoorLimit::Connections)?;
        let before_login =
            Count::of(self, |door| &door.before_login, self.limits.before_login).ok_or(DoorLimit::BeforeLogin)?;
        let mut addresses = self.addresses.lock().expect("nothing panics under this lock");
        let here = addresses.entry(address).or_insert(0);
        if *here >= self.limits.per_address {
            return Err(DoorLimit::PerAddress);
        }
        *here += 1;
        drop(addresses);
        Ok(Visit { _before_login: before_login, seat: Seat { open, address } })
    }

    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub fn limits(&self) -> &DoorLimits {
        &self.limits
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
}

/// The place of a connection, until the end of its session is written.
#[derive(Debug)]
pub struct Seat {
    open: Count,
    address: Address,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut addresses = self.open.door.addresses.lock().expect("nothing panics under this lock");
        if let Some(here) = addresses.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                addresses.remove(&self.address);
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
    fn the_door_counts_and_whoever_leaves_makes_room() {
        let door = Door::new(DoorLimits { connections: 3, before_login: 2, per_address: 2 });
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "::ffff:10.0.0.1".parse().unwrap());
        let c: IpAddr = "2001:db8::1".parse().unwrap();
        let first = door.enter(a).unwrap();
        let second = door.enter(c).unwrap();
        assert_eq!(door.enter(a).unwrap_err(), DoorLimit::BeforeLogin);
        let seat = first.seat();
        let third = door.enter(b).unwrap();
        assert_eq!(door.enter(a).unwrap_err(), DoorLimit::Connections);
        drop(second);
        assert_eq!(door.enter(a).unwrap_err(), DoorLimit::PerAddress);
        drop((seat, third));
        assert_eq!(door.open(), 0);
        assert!(door.addresses.lock().unwrap().is_empty());
    }
}
