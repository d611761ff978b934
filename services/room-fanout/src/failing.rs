//! Messages that a room could not take: three tries, then a dead letter.
//!
//! A message whose application panics leaves the rooms in no state to go on with: the partition is given back and taken
//! again from what is stored. That the message fails again must not keep the partition from everything behind it.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
};

use pushmesh_protocol::Partition;

use crate::room::Source;

/// Tries of a message.
const TRIES: u32 = 3;
/// Failing messages remembered; beyond, all are forgotten and have their tries again.
const REMEMBERED: usize = 1024;

/// Which message.
pub type Place = (Partition, Source, u64);

/// The failures that this process has seen.
#[derive(Debug, Default)]
pub struct Failing {
    tries: Mutex<HashMap<Place, u32>>,
}

/// The message failed: what it was applied to can't be used any more.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it panicked")]
pub struct Failed;

impl Failing {
    /// Whether a message has had its tries.
    pub fn is_given_up(&self, place: &Place) -> bool {
        self.lock().get(place).is_some_and(|tries| *tries >= TRIES)
    }

    /// Runs the application of a message.
    pub fn guard<T>(&self, place: Option<Place>, apply: impl FnOnce() -> T) -> Result<T, Failed> {
        // What was applied to is dropped by whoever sees the failure.
        catch_unwind(AssertUnwindSafe(apply)).map_err(|_| {
            if let Some(place) = place {
                let mut tries = self.lock();
                if tries.len() >= REMEMBERED && !tries.contains_key(&place) {
                    tries.clear();
                }
                *tries.entry(place).or_default() += 1;
            }
            Failed
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Place, u32>> {
        self.tries.lock().expect("nothing panics while it holds this")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_three_tries() {
        let failing = Failing::default();
        let place = (Partition(3), Source::Gifts, 17);
        for _ in 0..3 {
            assert!(!failing.is_given_up(&place));
            assert_eq!(failing.guard(Some(place), || panic!("a poisoned message")), Err::<(), _>(Failed));
        }
        assert!(failing.is_given_up(&place));
        assert!(!failing.is_given_up(&(Partition(3), Source::Chats, 17)));
        assert_eq!(failing.guard(Some(place), || 5), Ok(5));
    }
}
