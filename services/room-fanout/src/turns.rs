//! Whose turn it is: the urgent first, and one in 32 from each level below, so that nobody starves.

/// Of what is served, each level that waits gets at least one in so many.
const ONE_IN: u8 = 32;

/// Turns of `LEVELS` levels, the most urgent is 0.
#[derive(Debug)]
pub struct Turns<const LEVELS: usize> {
    /// How many of other levels were served since this one was.
    waited: [u8; LEVELS],
}

impl<const LEVELS: usize> Turns<LEVELS> {
    pub fn new() -> Self {
        Self { waited: [0; LEVELS] }
    }

    /// The next of what waits. `take` gives one of a level, if one waits there.
    pub fn next<T>(&mut self, mut take: impl FnMut(usize) -> Option<T>) -> Option<T> {
        for level in 1..LEVELS {
            if self.waited[level] >= ONE_IN - 1 {
                if let Some(taken) = take(level) {
                    self.served(level);
                    return Some(taken);
                }
                self.waited[level] = 0;
            }
        }
        for level in 0..LEVELS {
            if let Some(taken) = take(level) {
                self.served(level);
                return Some(taken);
            }
        }
        None
    }

    fn served(&mut self, level: usize) {
        for other in &mut self.waited {
            *other = other.saturating_add(1);
        }
        self.waited[level] = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(waiting: [usize; 4], turns: usize) -> [usize; 4] {
        let (mut left, mut served) = (waiting, [0; 4]);
        let mut order = Turns::<4>::new();
        for _ in 0..turns {
            let level = order.next(|level| {
                (left[level] > 0).then(|| {
                    left[level] -= 1;
                    level
                })
            });
            if let Some(level) = level {
                served[level] += 1;
            }
        }
        served
    }

    #[test]
    fn the_urgent_goes_first_and_nobody_starves() {
        let many = 100_000;
        let served = shares([many; 4], 32_000);
        assert!(served[0] >= 32_000 * 29 / 32, "{served:?}");
        assert!(served[1..].iter().all(|below| *below >= 999), "{served:?}");
        // Without anybody below the urgent has it all; without the urgent, the next has.
        assert_eq!(shares([many, 0, 0, 0], 1000), [1000, 0, 0, 0]);
        let served = shares([0, many, 0, many], 3200);
        assert!(served[3] >= 99 && served[3] <= 101 && served[1] == 3200 - served[3], "{served:?}");
        assert_eq!(shares([3, 2, 1, 0], 10), [3, 2, 1, 0]);
    }
}
