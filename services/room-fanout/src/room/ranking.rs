//! [`Top`]: who has given the most.

use pushmesh_protocol::{UserId, frame::Ranked};

/// The greatest totals, the greatest first; of equal ones the one that was reached first.
///
/// Totals only grow, so that who is not among them now needs a gift to come in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Top {
    places: Vec<Place>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    user: UserId,
    total: u64,
    /// The sequence of the gift that made it so.
    reached: u64,
}

impl Place {
    fn is_before(&self, other: &Place) -> bool {
        let key = |place: &Place| (std::cmp::Reverse(place.total), place.reached);
        key(self).cmp(&key(other)).then_with(|| self.user.cmp(&other.user)).is_lt()
    }
}

impl Top {
    /// The user's total is now `total`, by the gift `reached`.
    pub fn note(&mut self, user: &UserId, total: u64, reached: u64, places: usize) {
        if total == 0 {
            return;
        }
        let place = Place { user: user.clone(), total, reached };
        if let Some(at) = self.places.iter().position(|place| place.user == *user) {
            self.places.remove(at);
        } else if self.places.len() >= places && !self.places.last().is_some_and(|last| place.is_before(last)) {
            return;
        }
        let at = self.places.partition_point(|other| other.is_before(&place));
        self.places.insert(at, place);
        self.places.truncate(places);
    }

    pub fn list(&self) -> Vec<Ranked> {
        self.places.iter().map(|place| Ranked { user: place.user.clone(), total: place.total }).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_what_sorting_everybody_gives(gifts in prop::collection::vec((0u8..30, 0u64..20), 0..300)) {
            let mut top = Top::default();
            let mut totals: BTreeMap<UserId, (u64, u64)> = BTreeMap::new();
            for (sequence, (user, value)) in (1..).zip(gifts) {
                let user = UserId::new(&format!("u{user}")).unwrap();
                let entry = totals.entry(user.clone()).or_default();
                if value > 0 {
                    *entry = (entry.0 + value, sequence);
                }
                top.note(&user, entry.0, entry.1, 10);
                let mut all: Vec<_> = totals.iter().filter(|(_, (total, _))| *total > 0).collect();
                all.sort_by_key(|(user, (total, reached))| (std::cmp::Reverse(*total), *reached, (*user).clone()));
                let expected: Vec<_> =
                    all.iter().take(10).map(|(user, (total, _))| Ranked { user: (*user).clone(), total: *total }).collect();
                prop_assert_eq!(top.list(), expected);
            }
        }
    }
}
