//! What the clients of a room must have seen: from what api accepted, who is there, and how the room was cut. It uses no
//! counter of a service.

use std::collections::BTreeMap;

use pushmesh_protocol::room::part_of;

use crate::bench::population;

/// Into how many parts a room was cut, by the offset after which it was.
#[derive(Debug, Clone, Default)]
pub struct Cuts(BTreeMap<u64, u16>);

impl Cuts {
    pub fn note(&mut self, after: u64, parts: u16) {
        self.0.insert(after, parts.max(1));
    }

    /// Into how many parts the room was cut when this was said.
    pub fn at(&self, offset: u64) -> u16 {
        self.0.range(..offset).next_back().map_or(1, |(_, parts)| *parts)
    }

    pub fn last(&self) -> u16 {
        self.0.last_key_value().map_or(1, |(_, parts)| *parts)
    }
}

/// Who is in a room, by part, for every number of parts.
#[derive(Debug)]
pub struct Members {
    count: u64,
    /// By the logarithm of the number of parts.
    parts: Vec<Vec<u64>>,
}

const PARTS_MAX: u32 = 6;

impl Members {
    pub fn new(users: impl Iterator<Item = u64>) -> Self {
        let mut parts: Vec<_> = (0..=PARTS_MAX).map(|log| vec![0; 1 << log]).collect();
        let mut count = 0;
        for user in users {
            count += 1;
            let user = population::user(user);
            for counts in &mut parts {
                let of = counts.len() as u16;
                counts[usize::from(part_of(&user, of))] += 1;
            }
        }
        Self { count, parts }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many see what this speaker says in a room of so many parts.
    pub fn who_see(&self, speaker: u64, parts: u16) -> u64 {
        let counts = &self.parts[parts.ilog2().min(PARTS_MAX) as usize];
        counts[usize::from(part_of(&population::user(speaker), counts.len() as u16))]
    }

    /// How often lines of chat (sequence and speaker) must have been seen.
    pub fn chat(&self, said: impl Iterator<Item = (u64, u64)>, cuts: &Cuts) -> u64 {
        said.map(|(offset, speaker)| self.who_see(speaker, cuts.at(offset))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chat_is_seen_by_the_speakers_part_from_the_cut_on() {
        let members = Members::new(0..1000);
        let mut cuts = Cuts::default();
        assert_eq!((cuts.at(5), cuts.last()), (1, 1));
        cuts.note(10, 4);
        cuts.note(20, 2);
        assert_eq!((cuts.at(10), cuts.at(11), cuts.at(20), cuts.at(21), cuts.last()), (1, 4, 4, 2, 2));
        let of_all = |parts: u16| (0..1000).map(|user| members.who_see(user, parts)).max().unwrap();
        assert_eq!(of_all(1), 1000);
        assert!((200..300).contains(&of_all(4)), "{}", of_all(4));
        let seen = members.chat([(10, 7), (11, 7)].into_iter(), &cuts);
        assert_eq!(seen, 1000 + members.who_see(7, 4));
        let parts: u64 = members.parts[2].iter().sum();
        assert_eq!(parts, members.count());
    }
}
