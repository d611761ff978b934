//! [`Likes`]: a room's likes, from the running totals of those who accept them.

use pushmesh_protocol::{
    Instance,
    message::{Epoch, Millis},
};
use serde::{Deserialize, Serialize};

use super::limits::{Limits, ms};

/// What has been counted. The sum over all lives is `total`, less those that are forgotten: a total that is heard again adds
/// nothing, one that was never heard loses nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Likes {
    total: u64,
    lives: Vec<Life>,
    /// Counted and not told yet. What is stored has been told.
    #[serde(skip)]
    untold: u64,
}

/// One life of one api instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Life {
    api: Instance,
    life: Epoch,
    total: u64,
    heard: Millis,
}

/// What a running total changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counted {
    pub likes: u64,
    pub forgotten: u64,
}

impl Likes {
    pub fn total(&self) -> u64 {
        self.total
    }

    /// `total` is all that this life has accepted for the room.
    pub fn count(&mut self, api: Instance, life: Epoch, total: u64, limits: &Limits, now: Millis) -> Counted {
        let known = self.lives.iter_mut().find(|known| known.life == life && known.api == api);
        let (likes, is_new) = match known {
            Some(known) => {
                let likes = total.saturating_sub(known.total);
                known.total = known.total.max(total);
                known.heard = known.heard.max(now);
                (likes, false)
            }
            None => {
                self.lives.push(Life { api, life, total, heard: now });
                (total, true)
            }
        };
        self.total = self.total.saturating_add(likes);
        self.untold = self.untold.saturating_add(likes);
        Counted { likes, forgotten: if is_new { self.forget(limits, now) } else { 0 } }
    }

    pub fn has_untold(&self) -> bool {
        self.untold > 0
    }

    pub fn take_untold(&mut self) -> u64 {
        std::mem::take(&mut self.untold)
    }

    // A life that is forgotten and heard again would be counted twice: only those go whose message has left the stream, the
    // longest unheard first; four times the bound is a bound all the same.
    fn forget(&mut self, limits: &Limits, now: Millis) -> u64 {
        let before = self.lives.len();
        while self.lives.len() > limits.lives.max(1) {
            let oldest = (0..self.lives.len()).min_by_key(|at| self.lives[*at].heard).expect("more than one");
            let is_safe = self.lives[oldest].heard + ms(limits.life_kept_for) <= now;
            if !is_safe && self.lives.len() <= 4 * limits.lives.max(1) {
                break;
            }
            self.lives.swap_remove(oldest);
        }
        (before - self.lives.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn api(n: u64) -> Instance {
        Instance::new(&format!("api-{n}")).unwrap()
    }

    proptest! {
        #[test]
        fn the_sum_is_that_of_the_lives_whatever_is_lost_repeated_or_late(
            heard in prop::collection::vec((0u64..3, 0u64..4, 0u64..1_000), 0..200),
            crashes in prop::collection::vec(0usize..200, 0..5),
        ) {
            let (mut likes, mut stored) = (Likes::default(), Likes::default());
            let mut told = 0;
            let mut greatest: HashMap<(u64, u64), u64> = HashMap::new();
            for (at, (n, life, total)) in heard.iter().enumerate() {
                likes.count(api(*n), *life, *total, &Limits::default(), at as u64);
                let known = greatest.entry((*n, *life)).or_default();
                *known = (*known).max(*total);
                told += likes.take_untold();
                if at % 7 == 0 {
                    stored = likes.clone();
                }
                if crashes.contains(&at) {
                    likes = stored.clone();
                    // The stream holds the last total of each life.
                    for ((n, life), total) in &greatest {
                        likes.count(api(*n), *life, *total, &Limits::default(), at as u64);
                    }
                    told = likes.total();
                    likes.take_untold();
                }
                prop_assert_eq!(likes.total(), greatest.values().sum::<u64>());
                prop_assert_eq!(told, likes.total());
            }
        }
    }

    #[test]
    fn lives_are_bounded_and_the_recent_ones_stay() {
        let limits = Limits { lives: 4, ..Limits::default() };
        let mut likes = Likes::default();
        for n in 0..100 {
            likes.count(api(n), 1, 10, &limits, n * 3_600_000);
        }
        assert_eq!((likes.total(), likes.lives.len()), (1_000, 4));
        for n in 100..200 {
            likes.count(api(n), 1, 10, &limits, 1_000_000_000);
        }
        assert_eq!(likes.lives.len(), 16, "none of these is safe to forget, and there is an end all the same");
    }
}
