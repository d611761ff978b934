//! [`Tail`]: the newest items of a chain, for those who come back.

use std::collections::VecDeque;

use pushmesh_protocol::frame::RoomItem;

/// What an item costs beside its data.
const ITEM_BYTES: usize = 160;

/// Everything of a chain behind an offset, within a bound of number and bytes.
#[derive(Debug, Default)]
pub(super) struct Tail {
    items: VecDeque<RoomItem>,
    bytes: usize,
    floor: u64,
}

impl Tail {
    /// Nothing is known up to `floor`.
    pub fn from(floor: u64) -> Self {
        Self { floor, ..Self::default() }
    }

    /// All items behind this offset are here.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    pub fn push(&mut self, item: RoomItem, max_items: usize, max_bytes: usize) {
        self.bytes += cost(&item);
        self.items.push_back(item);
        while self.items.len() > max_items || self.bytes > max_bytes {
            let Some(oldest) = self.items.pop_front() else { break };
            self.bytes -= cost(&oldest);
            self.floor = oldest.offset;
        }
    }

    /// The items behind `after`, of those that are here.
    pub fn behind(&self, after: u64) -> impl Iterator<Item = &RoomItem> {
        let from = self.items.partition_point(|item| item.offset <= after);
        self.items.range(from..)
    }
}

fn cost(item: &RoomItem) -> usize {
    ITEM_BYTES + item.data.0.len()
}

#[cfg(test)]
mod tests {
    use pushmesh_protocol::{Token, frame};

    use super::*;

    fn item(offset: u64, bytes: usize) -> RoomItem {
        let kind = Token::new("chat").unwrap();
        let data = vec![0; bytes].into();
        RoomItem { chain: frame::Chain::High, offset, prev: 0, kind, from: None, at: 0, data }
    }

    #[test]
    fn it_says_from_where_on_it_is_whole() {
        let mut tail = Tail::from(5);
        for offset in [10, 20, 30] {
            tail.push(item(offset, 1), 2, 10_000);
        }
        let behind = |after| tail.behind(after).map(|item| item.offset).collect::<Vec<_>>();
        assert_eq!((tail.floor(), behind(0), behind(20), behind(30)), (10, vec![20, 30], vec![30], vec![]));
    }

    #[test]
    fn bytes_bound_it_too() {
        let mut tail = Tail::default();
        for offset in 1..100 {
            tail.push(item(offset, 1_000), 1_000, 5_000);
        }
        assert_eq!(tail.behind(0).count(), 4);
        tail.push(item(100, 10_000), 1_000, 5_000);
        assert_eq!((tail.behind(0).count(), tail.floor()), (0, 100));
    }
}
