//! [`Opening`]: a connection whose first words have not come yet.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Sleep;

/// How HTTP/2 begins. Who has said a part of it has not begun anything: only what differs from it, or follows it, tells the
/// server what is spoken, and starts the deadlines of its own.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// It is over once the caller has said enough, or at its deadline.
pub(crate) struct Opening {
    /// Bytes of the preface that have come.
    said: usize,
    deadline: Pin<Box<Sleep>>,
}

impl Opening {
    pub(crate) fn new(within: Duration) -> Self {
        Self { said: 0, deadline: Box::pin(tokio::time::sleep(within)) }
    }

    /// What has come, in its order. `true`: he has begun, and there is no deadline any more.
    pub(crate) fn hear(&mut self, bytes: &[u8]) -> bool {
        let rest = &PREFACE[self.said..];
        self.said += bytes.len().min(rest.len());
        bytes.len() >= rest.len() || !rest.starts_with(bytes)
    }

    /// Ready at the deadline.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.deadline.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_of_the_preface_is_no_beginning() {
        let begun = |pieces: &[&[u8]]| {
            let mut opening = Opening::new(Duration::from_secs(1));
            pieces.iter().map(|piece| opening.hear(piece)).collect::<Vec<_>>()
        };
        assert_eq!(
            begun(&[b"", b"P", b"R", b"I * HTTP/2.0\r\n\r\nSM\r\n\r", b"\n"]),
            [false, false, false, false, true]
        );
        assert_eq!(begun(&[b"P", b"OST /"]), [false, true]);
        assert_eq!(begun(&[b"GET"]), [true]);
        assert_eq!(begun(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nand more"]), [true]);
    }
}
