//! [`Tally`]: what has been done, for metrics.

use super::join::NotRecovered;

/// Counts since they were taken last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    pub gifts: u64,
    pub chats: u64,
    pub events: u64,
    pub notes: u64,
    /// Likes, not messages of them.
    pub likes: u64,
    /// Messages that had been applied before.
    pub repeated: u64,
    /// Chats of somebody who was muted when he sent them.
    pub muted: u64,
    /// Rooms cut into more parts, and merged to fewer.
    pub cuts: u64,
    pub merges: u64,
    pub batches: u64,
    pub frames: u64,
    pub frame_bytes: u64,
    pub joins: u64,
    /// Of those who came back: who was told everything, and who was told of a gap, and why.
    pub recovered: u64,
    pub not_recovered: [u64; NotRecovered::ALL.len()],
    /// Lives of api instances whose likes a room remembers no more.
    pub lives_forgotten: u64,
    /// Comets whose counts ended because they were not heard.
    pub comets_expired: u64,
    pub fell_asleep: u64,
    pub woken: u64,
    /// Rooms of which nothing is stored any more.
    pub forgotten: u64,
}
