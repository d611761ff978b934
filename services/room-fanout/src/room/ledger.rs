//! [`Ledger`]: what each user has given in a room.

use std::collections::HashMap;

use pushmesh_protocol::{UserId, frame::Ranked, message::Millis, room::Gift};

/// One user's account, with the sequence of the last gift in it: that gift and those before it are never added again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Row {
    pub total: u64,
    pub gifts: u64,
    /// The gift that made `total` what it is.
    pub reached: u64,
    pub applied: u64,
    /// How many thresholds the total has crossed, and of how many that is known to be stored.
    pub level: u32,
    pub level_told: u32,
    /// In the bucket; 0: not there.
    pub revision: u64,
    /// Stands in the list of rows to be stored.
    pub dirty: bool,
}

/// Somebody crossed a threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LevelUp {
    pub user: UserId,
    pub level: u32,
    pub total: u64,
    pub at: Millis,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    rows: HashMap<UserId, Row>,
    dirty: Vec<UserId>,
    /// Levels that are not known to be stored.
    levels_open: u64,
    /// Levels that somebody still has to be asked to store.
    level_ups: Vec<LevelUp>,
}

impl Ledger {
    /// Adds a gift to its sender's row; returns his total and by which gift it was reached, or `None` if it was in there.
    pub fn credit(&mut self, sequence: u64, gift: &Gift, thresholds: &[u64]) -> Option<(u64, u64)> {
        let row = self.rows.entry(gift.from.clone()).or_default();
        if sequence <= row.applied {
            return None;
        }
        row.applied = sequence;
        row.gifts += 1;
        if gift.value > 0 {
            row.total = row.total.saturating_add(gift.value);
            row.reached = sequence;
        }
        if !std::mem::replace(&mut row.dirty, true) {
            self.dirty.push(gift.from.clone());
        }
        let crossed = thresholds.partition_point(|threshold| *threshold <= row.total) as u32;
        for level in row.level + 1..=crossed {
            self.levels_open += 1;
            self.level_ups.push(LevelUp { user: gift.from.clone(), level, total: row.total, at: gift.at });
        }
        row.level = row.level.max(crossed);
        Some((row.total, row.reached))
    }

    /// From the bucket. What was reached and is not known to be stored has to be stored again.
    pub fn restore(&mut self, user: UserId, row: Row, at: Millis) {
        for level in row.level_told + 1..=row.level {
            self.levels_open += 1;
            self.level_ups.push(LevelUp { user: user.clone(), level, total: row.total, at });
        }
        self.rows.insert(user, row);
    }

    pub fn take_level_ups(&mut self) -> Vec<LevelUp> {
        std::mem::take(&mut self.level_ups)
    }

    pub fn has_level_ups(&self) -> bool {
        !self.level_ups.is_empty()
    }

    /// This level is stored; levels are stored in their order.
    pub fn level_stored(&mut self, user: &UserId, level: u32) {
        let Some(row) = self.rows.get_mut(user) else { return };
        let level = level.min(row.level);
        if level > row.level_told {
            self.levels_open -= u64::from(level - row.level_told);
            row.level_told = level;
            if !std::mem::replace(&mut row.dirty, true) {
                self.dirty.push(user.clone());
            }
        }
    }

    /// Whether nothing is left to be stored.
    pub fn is_clean(&self) -> bool {
        self.dirty.is_empty() && self.levels_open == 0
    }

    /// Whether a level-up is not known to be stored.
    pub fn has_open_levels(&self) -> bool {
        self.levels_open > 0
    }

    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The rows that changed since they were taken; each is clean from here on.
    pub fn take_dirty(&mut self) -> Vec<(UserId, Row)> {
        let users = std::mem::take(&mut self.dirty);
        users
            .into_iter()
            .filter_map(|user| {
                let row = self.rows.get_mut(&user)?;
                row.dirty = false;
                let row = row.clone();
                Some((user, row))
            })
            .collect()
    }

    pub fn written(&mut self, user: &UserId, revision: u64) {
        if let Some(row) = self.rows.get_mut(user) {
            row.revision = revision;
        }
    }

    pub fn unwritten(&mut self, user: &UserId) {
        if let Some(row) = self.rows.get_mut(user)
            && !std::mem::replace(&mut row.dirty, true)
        {
            self.dirty.push(user.clone());
        }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn rows(&self) -> impl Iterator<Item = (&UserId, &Row)> {
        self.rows.iter()
    }

    /// The greatest totals, as many as there are places for.
    pub fn ranking(&self, places: usize) -> Vec<Ranked> {
        let mut all: Vec<_> = self.rows.iter().filter(|(_, row)| row.total > 0).collect();
        let key = |(user, row): &(&UserId, &Row)| (std::cmp::Reverse(row.total), row.reached, (*user).clone());
        if places < all.len() {
            all.select_nth_unstable_by_key(places, key);
            all.truncate(places);
        }
        all.sort_unstable_by_key(key);
        all.into_iter().map(|(user, row)| Ranked { user: user.clone(), total: row.total }).collect()
    }
}

#[cfg(test)]
mod tests {
    use pushmesh_protocol::{GiftKey, RoomId, Token};

    use super::*;

    fn gift(from: &str, value: u64) -> Gift {
        Gift {
            key: GiftKey::new("018cc251-f400-7000-8000-000000000001").unwrap(),
            room: RoomId::new("room").unwrap(),
            from: UserId::new(from).unwrap(),
            to: None,
            gift: Token::new("rose").unwrap(),
            count: 1,
            value,
            note: None,
            at: 7,
            trace: None,
        }
    }

    #[test]
    fn a_gift_counts_once_and_each_threshold_is_told_once() {
        let mut ledger = Ledger::default();
        let levels = [10, 20, 1_000];
        assert_eq!(ledger.credit(5, &gift("ann", 25), &levels), Some((25, 5)));
        assert_eq!(ledger.credit(5, &gift("ann", 25), &levels), None);
        assert_eq!(ledger.credit(6, &gift("ann", 0), &levels), Some((25, 5)), "worth nothing, but counted");
        let ups = ledger.take_level_ups();
        assert_eq!(ups.iter().map(|up| (up.level, up.total)).collect::<Vec<_>>(), [(1, 25), (2, 25)]);
        assert_eq!(ledger.take_dirty().len(), 1);
        assert!(!ledger.is_clean() && !ledger.has_dirty());
        ledger.level_stored(&ups[0].user, 1);
        let stored = ledger.take_dirty();
        assert_eq!((stored[0].1.gifts, stored[0].1.level, stored[0].1.level_told), (2, 2, 1));
        // A successor asks again for what is not known to be stored.
        let mut next = Ledger::default();
        next.restore(stored[0].0.clone(), stored[0].1.clone(), 0);
        assert_eq!(next.take_level_ups().iter().map(|up| up.level).collect::<Vec<_>>(), [2]);
        ledger.level_stored(&ups[0].user, 2);
        ledger.take_dirty();
        assert!(ledger.is_clean());
    }

    #[test]
    fn places_beyond_the_top_are_sorted_when_asked() {
        let mut ledger = Ledger::default();
        for n in 0..50u64 {
            ledger.credit(n + 1, &gift(&format!("u{n}"), 1 + n / 2), &[]);
        }
        let ranking = ledger.ranking(3);
        let told: Vec<_> = ranking.iter().map(|ranked| (ranked.user.as_str(), ranked.total)).collect();
        assert_eq!(told, [("u48", 25), ("u49", 25), ("u46", 24)]);
        assert_eq!(ledger.ranking(100).len(), 50);
    }
}
