//! The one place that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use pushmesh_protocol::message::Millis;

pub(crate) fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}
