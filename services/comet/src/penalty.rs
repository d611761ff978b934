//! What failed logins cost: an address from which too many failed has no token checked for a while.
//!
//! Logins that succeed count against those that fail, so that an address with many clients behind it (a NAT, a balancer
//! that doesn't say who they are) isn't closed by a few bad ones among them.

use std::collections::HashMap;

use crate::limit::{Bucket, Micros, Rate, Site};

/// Most addresses with failures not forgotten yet.
const SITES_MAX: usize = 65_536;
/// Most that is added to the wait of who goes on failing.
const DEBT_MAX: Micros = 10_000_000;
/// How often those are looked for who may be forgotten, once there are so many.
const SWEEP_EVERY: Micros = 1_000_000;

/// Failures by address. Pure.
#[derive(Debug)]
pub struct Penalties {
    rate: Rate,
    buckets: HashMap<Site, Bucket>,
    swept: Micros,
}

impl Penalties {
    pub fn new(rate: Rate) -> Self {
        Self { rate, buckets: HashMap::new(), swept: 0 }
    }

    /// How long to look at no login from there.
    pub fn wait(&mut self, site: Site, now: Micros) -> Option<Micros> {
        let bucket = self.buckets.get(&site)?;
        if bucket.is_full(now) {
            self.buckets.remove(&site);
            return None;
        }
        Some(bucket.wait(self.rate, now)).filter(|wait| *wait > 0)
    }

    pub fn failed(&mut self, site: Site, now: Micros) {
        if self.buckets.len() >= SITES_MAX && !self.buckets.contains_key(&site) {
            self.sweep(now);
            if self.buckets.len() >= SITES_MAX {
                // From so many addresses at once no limit of one address helps; the login was refused all the same.
                return;
            }
        }
        self.buckets.entry(site).or_default().charge(self.rate, now, DEBT_MAX);
    }

    pub fn succeeded(&mut self, site: Site) {
        if let Some(bucket) = self.buckets.get_mut(&site) {
            bucket.refund(self.rate);
        }
    }

    fn sweep(&mut self, now: Micros) {
        if now.saturating_sub(self.swept) >= SWEEP_EVERY {
            self.swept = now;
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const SECOND: Micros = 1_000_000;

    fn site(number: u32) -> Site {
        Site::of(Ipv4Addr::from_bits(number).into())
    }

    fn penalties() -> Penalties {
        Penalties::new(Rate { per_second: 2, burst: 4 })
    }

    #[test]
    fn who_fails_too_often_waits_and_nobody_else_does() {
        let mut penalties = penalties();
        for _ in 0..4 {
            assert_eq!(penalties.wait(site(1), SECOND), None);
            penalties.failed(site(1), SECOND);
        }
        assert_eq!(penalties.wait(site(1), SECOND), Some(SECOND / 2));
        assert_eq!(penalties.wait(site(2), SECOND), None);
        assert_eq!(penalties.wait(site(1), SECOND + SECOND / 2), None);
        // Those that were being looked at already fail all the same, and lengthen the wait up to its bound.
        (0..1000).for_each(|_| penalties.failed(site(1), SECOND));
        assert_eq!(penalties.wait(site(1), SECOND), Some(SECOND / 2 + DEBT_MAX));
        assert_eq!(penalties.wait(site(1), 30 * SECOND), None);
        assert!(penalties.buckets.is_empty(), "what says nothing any more is forgotten");
    }

    #[test]
    fn good_logins_pay_for_bad_ones() {
        let mut penalties = penalties();
        for _ in 0..1000 {
            penalties.failed(site(1), SECOND);
            penalties.succeeded(site(1));
            assert_eq!(penalties.wait(site(1), SECOND), None);
        }
        penalties.succeeded(site(2));
        assert!(penalties.buckets.len() <= 1, "a good login alone leaves no trace");
    }

    #[test]
    fn addresses_are_bounded_and_the_old_ones_make_room() {
        let mut penalties = penalties();
        (0..SITES_MAX as u32 + 100).for_each(|number| penalties.failed(site(number), SECOND));
        assert_eq!(penalties.buckets.len(), SITES_MAX);
        penalties.failed(site(u32::MAX), 10 * SECOND);
        assert_eq!(penalties.buckets.len(), 1);
    }
}
