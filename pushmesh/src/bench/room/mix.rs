//! What is offered: how much of each class, and for how long.

use std::{sync::Arc, time::Duration};

use pushmesh_protocol::RoomId;

use super::tally::Class;

/// Messages a second, by class; a like is one, however many come in a request.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Mix {
    pub gift: f64,
    pub high: f64,
    pub normal: f64,
    pub low: f64,
}

/// Shares of all that people send.
const GIFTS: f64 = 0.01;
const CHAT: f64 = 0.20;
const LIKES: f64 = 0.79;
/// Beside it, of the application itself: so that class normal has something to carry.
const NORMAL: f64 = 0.01;
/// What a storm makes of the chat.
const STORM: f64 = 10.0;

impl Mix {
    /// Lines to api that a flow has: more than it needs, so that it seldom waits for an answer.
    pub const LINES: usize = 64;

    /// Of so many messages a second in all.
    pub fn of(per_s: f64) -> Self {
        Self { gift: per_s * GIFTS, high: per_s * CHAT, normal: per_s * NORMAL, low: per_s * LIKES }
    }

    pub fn gifts(per_s: f64) -> Self {
        Self { gift: per_s, ..Self::default() }
    }

    /// Ten times the chat, and all else as it was.
    pub fn storm(self) -> Self {
        Self { high: self.high * STORM, ..self }
    }

    pub fn of_class(&self, class: Class) -> f64 {
        match class {
            Class::Gift => self.gift,
            Class::High => self.high,
            Class::Normal => self.normal,
            Class::Low => self.low,
        }
    }

    /// Lines to api for a class: for half a second of its messages, within bounds.
    pub fn lines(&self, class: Class) -> usize {
        ((self.of_class(class) / 2.0) as usize).clamp(8, 8 * Self::LINES)
    }
}

/// Chat in small rooms, beside the big one.
pub struct Beside {
    pub rooms: Arc<[RoomId]>,
    /// In all of them together.
    pub per_s: f64,
}

/// How long.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// At the beginning: a room finds out how it should be cut. What is said then counts, how long it takes does not.
    pub settle: Duration,
    pub window: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_what_people_send_and_a_little_of_the_application() {
        let mix = Mix::of(10_000.0);
        assert_eq!((mix.gift, mix.high, mix.normal, mix.low), (100.0, 2000.0, 100.0, 7900.0));
        assert_eq!(mix.storm(), Mix { high: 20_000.0, ..mix });
        assert_eq!((mix.lines(Class::Gift), mix.storm().lines(Class::High)), (50, 512));
    }
}
