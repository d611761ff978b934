//! What came of a unit that is not whole yet.

/// Most bytes before a unit's payload: a WebSocket's header in its longest form.
const HEADER_MAX: usize = 14;

/// The beginning of a unit. However small the pieces it comes in, each byte is copied a few times at most, and a
/// connection that waits for nothing holds no memory for it.
#[derive(Debug, Default)]
pub struct Partial {
    bytes: Vec<u8>,
}

impl Partial {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All that there is to read now: what was kept, and `new` behind it. `unit_max` bounds a unit's payload.
    pub fn join<'a>(&'a mut self, new: &'a mut [u8], unit_max: usize) -> &'a mut [u8] {
        if self.bytes.is_empty() {
            return new;
        }
        let needed = self.bytes.len() + new.len();
        if needed > self.bytes.capacity() {
            // By doubling, but not beyond what one unit can need: a slow writer pays for no more than he sends.
            let room = (self.bytes.capacity() * 2).min(unit_max + HEADER_MAX).max(needed);
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(new);
        &mut self.bytes
    }

    /// Keeps what was not read of what [`join`](Self::join) gave for the same `new`: all but the first `read` bytes.
    pub fn keep(&mut self, new: &[u8], read: usize) {
        if self.bytes.is_empty() {
            self.bytes = new[read..].to_vec();
        } else if read > 0 {
            // Of the new ones only, and exactly as much room as they take.
            self.bytes = self.bytes[read..].to_vec();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_unit_in_single_bytes_moves_in_memory_a_few_times_only() {
        let (mut partial, max, mut moves, mut at) = (Partial::default(), 65_536, 0, std::ptr::null());
        for number in 0..max {
            let mut new = [number as u8];
            assert_eq!(partial.join(&mut new, max).len(), number + 1);
            partial.keep(&new, 0);
            moves += usize::from(std::mem::replace(&mut at, partial.bytes.as_ptr()) != at);
        }
        assert!(moves <= 20, "copied {moves} times");
        assert!(partial.bytes.capacity() <= max + HEADER_MAX);
    }

    #[test]
    fn nothing_is_held_for_what_has_been_read() {
        let mut partial = Partial::default();
        partial.keep(&[1, 2, 3], 1);
        assert_eq!(partial.join(&mut [4, 5], 100), [2, 3, 4, 5]);
        partial.keep(&[4, 5], 3);
        assert_eq!((partial.bytes.as_slice(), partial.bytes.capacity()), (&[5][..], 1));
        partial.join(&mut [6], 100);
        partial.keep(&[6], 2);
        assert!(partial.is_empty() && partial.bytes.capacity() == 0);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_or_doubled(pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), 0usize..60), 0..40)) {
            let (mut partial, mut read, mut sent) = (Partial::default(), Vec::new(), Vec::new());
            for (mut piece, want) in pieces {
                sent.extend_from_slice(&piece);
                let buf = partial.join(&mut piece, 30);
                let take = want.min(buf.len());
                read.extend_from_slice(&buf[..take]);
                partial.keep(&piece, take);
            }
            read.extend_from_slice(&partial.bytes);
            prop_assert_eq!(read, sent);
        }
    }
}
