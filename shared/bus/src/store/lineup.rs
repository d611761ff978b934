//! Whose turn it is: of messages to be published, those that stand behind none of their own subject. Pure.

use std::collections::{HashMap, VecDeque};

/// Messages by their place in a group, in line by subject.
#[derive(Debug)]
pub(crate) struct Lineup {
    lines: Vec<VecDeque<usize>>,
    /// Which line a message stands in.
    line_of: Vec<usize>,
}

impl Lineup {
    pub(crate) fn new<'a>(subjects: impl Iterator<Item = &'a str>) -> Self {
        let mut known: HashMap<&str, usize> = HashMap::new();
        let (mut lines, mut line_of) = (Vec::<VecDeque<usize>>::new(), Vec::new());
        for (index, subject) in subjects.enumerate() {
            let line = *known.entry(subject).or_insert_with(|| {
                lines.push(VecDeque::new());
                lines.len() - 1
            });
            lines[line].push_back(index);
            line_of.push(line);
        }
        Self { lines, line_of }
    }

    /// The first of each line, in the group's order.
    pub(crate) fn first_of_each(&self) -> Vec<usize> {
        let mut first: Vec<usize> = self.lines.iter().filter_map(|line| line.front().copied()).collect();
        first.sort_unstable();
        first
    }

    /// The first of its line leaves: it is the next one's turn.
    pub(crate) fn done(&mut self, index: usize) {
        let line = &mut self.lines[self.line_of[index]];
        debug_assert_eq!(line.front(), Some(&index), "only the first of a line has its turn");
        line.pop_front();
    }

    /// Nobody of its line has a turn any more; whoever stood behind it.
    pub(crate) fn close(&mut self, index: usize) -> impl Iterator<Item = usize> + use<> {
        std::mem::take(&mut self.lines[self.line_of[index]]).into_iter().skip(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_a_subject_at_a_time_in_the_groups_order() {
        let mut lineup = Lineup::new(["a", "b", "a", "c", "b", "a"].into_iter());
        assert_eq!(lineup.first_of_each(), [0, 1, 3]);
        lineup.done(0);
        lineup.done(3);
        assert_eq!(lineup.first_of_each(), [1, 2], "b's first has not been stored yet");
        assert_eq!(lineup.close(1).collect::<Vec<_>>(), [4]);
        lineup.done(2);
        assert_eq!(lineup.first_of_each(), [5]);
        lineup.done(5);
        assert!(lineup.first_of_each().is_empty());
    }
}
