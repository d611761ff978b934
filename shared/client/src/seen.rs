//! The ids seen last: what makes a second transmission invisible.

use std::collections::VecDeque;

use pushmesh_protocol::PushId;

/// How many ids are remembered.
pub(crate) const SEEN_MAX: usize = 1024;

/// A bounded memory of push ids, over all connections; the oldest goes first.
///
/// A linear search: 17 KiB are scanned in less time than a frame is decoded in, and 5,000 clients in a process
/// pay for no hash table each.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    ids: VecDeque<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    id: PushId,
    /// Known to have ended: a later PUSH of it is not shown.
    ended: bool,
    acked: bool,
}

/// What to do with a PUSH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    First,
    /// Shown before, or ended before it came.
    Again {
        acked: bool,
    },
}

impl Seen {
    /// Notes a push.
    pub fn push(&mut self, id: PushId) -> Sight {
        match self.find(id) {
            Some(entry) => Sight::Again { acked: entry.acked },
            None => {
                self.insert(id, false);
                Sight::First
            }
        }
    }

    /// Notes that the push ended; true if it is shown and was not ended yet.
    pub fn end(&mut self, id: PushId) -> bool {
        match self.find(id) {
            Some(entry) => !std::mem::replace(&mut entry.ended, true),
            None => {
                self.insert(id, true);
                false
            }
        }
    }

    /// Notes that the application acknowledged it.
    pub fn ack(&mut self, id: PushId) {
        if let Some(entry) = self.find(id) {
            entry.acked = true;
        }
    }

    /// What the application acknowledged, the oldest first.
    pub fn acknowledged(&self) -> impl Iterator<Item = PushId> {
        self.ids.iter().filter(|entry| entry.acked).map(|entry| entry.id)
    }

    fn find(&mut self, id: PushId) -> Option<&mut Entry> {
        // What comes again came lately.
        self.ids.iter_mut().rev().find(|entry| entry.id == id)
    }

    fn insert(&mut self, id: PushId, ended: bool) {
        if self.ids.len() == SEEN_MAX {
            self.ids.pop_front();
        }
        self.ids.push_back(Entry { id, ended, acked: false });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u32) -> PushId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        PushId::from_bytes(bytes)
    }

    #[test]
    fn an_end_is_told_once_and_only_of_what_is_shown() {
        let mut seen = Seen::default();
        assert_eq!(seen.push(id(1)), Sight::First);
        assert!(seen.end(id(1)));
        assert!(!seen.end(id(1)));
        assert!(!seen.end(id(2)));
        assert_eq!(seen.push(id(2)), Sight::Again { acked: false }, "ended before it came");
    }

    #[test]
    fn remembers_what_the_application_acknowledged() {
        let mut seen = Seen::default();
        seen.push(id(1));
        assert_eq!(seen.push(id(1)), Sight::Again { acked: false });
        seen.ack(id(1));
        assert_eq!(seen.push(id(1)), Sight::Again { acked: true });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        // Against the plain definition: an id is a duplicate if it is among the last 1,024 different ones noted.
        #[test]
        fn forgets_the_oldest_alone(ids in prop::collection::vec(0u32..3000, 1..6000)) {
            let mut seen = Seen::default();
            let mut model: Vec<u32> = Vec::new();
            for n in ids {
                let known = model.iter().rev().take(SEEN_MAX).any(|m| *m == n);
                prop_assert_eq!(seen.push(id(n)) != Sight::First, known);
                if !known {
                    model.push(n);
                }
                prop_assert!(seen.ids.len() <= SEEN_MAX);
            }
        }
    }
}
