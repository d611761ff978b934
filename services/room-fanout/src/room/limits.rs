//! [`Limits`]: how soon, how often and how much.

use std::time::Duration;

use pushmesh_protocol::message::Millis;

/// What the rules of rooms are measured by.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// How long items gather for a frame, by class. Gifts never wait.
    pub high_within: Duration,
    pub normal_within: Duration,
    pub low_within: Duration,
    /// Largest frame, in bytes, without the 4 bytes that a transport puts before it. A larger single item travels alone.
    pub frame_max_bytes: usize,
    /// What has gathered of a class goes out before its time when it has so many bytes: what a comet writes in one go.
    pub batch_soon_bytes: usize,
    /// Most bytes of frames in one publish.
    pub batch_max_bytes: usize,

    /// Totals whose crossing is a level-up, ascending.
    pub levels: Vec<u64>,
    pub ranking_places: usize,
    pub ranking_every: Duration,

    /// How often a room's heads are repeated, and for how long after its last message.
    pub heads_every: Duration,
    pub heads_for: Duration,

    pub presence_every: Duration,
    /// A comet that was not heard for so long has nobody.
    pub comet_silent_after: Duration,
    /// Up to so many connections who came and went is told by name; 0: never.
    pub notices_up_to: u64,

    pub parts: PartLimits,

    /// What a chain keeps in memory for those who come back; chat up to eight times as much where the room is cut. With more
    /// than is told to one who comes back, the streams are read only for what an earlier owner has told.
    pub tail_items: usize,
    pub tail_bytes: usize,
    /// Most that is told to one who comes back: items a chain, and bytes of frames in all.
    pub recover_items: usize,
    pub recover_bytes: usize,

    /// A room without people and traffic for so long leaves memory once it is stored.
    pub idle_after: Duration,
    /// A room in which nothing was said for so long is forgotten; `None`: none ever is.
    pub forget_after: Option<Duration>,
    /// How many lives of api instances a room remembers the likes of, and how long one is safe from being forgotten.
    pub lives: usize,
    pub life_kept_for: Duration,
}

/// Over one of these a room is cut into parts.
#[derive(Debug, Clone, PartialEq)]
pub struct PartLimits {
    /// Connections a part.
    pub members: u64,
    /// Chat messages a second that one member sees.
    pub messages_per_second: u64,
    /// Bytes of chat a second that go out to all members together.
    pub bytes_per_second: u64,
    /// Most parts: a power of two, at most 64. 1: rooms are never cut.
    pub max: u16,
    /// Merged only after so long below half of every limit.
    pub merge_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            high_within: Duration::from_millis(10),
            normal_within: Duration::from_millis(50),
            low_within: Duration::from_millis(200),
            frame_max_bytes: 1_396,
            batch_soon_bytes: 16 * 1024,
            batch_max_bytes: 256 * 1024,
            levels: vec![1_000, 10_000, 100_000, 1_000_000],
            ranking_places: 10,
            ranking_every: Duration::from_secs(1),
            heads_every: Duration::from_secs(2),
            heads_for: Duration::from_secs(30),
            presence_every: Duration::from_secs(2),
            comet_silent_after: Duration::from_secs(30),
            notices_up_to: 0,
            parts: PartLimits::default(),
            tail_items: 1_024,
            tail_bytes: 512 * 1024,
            recover_items: 1_000,
            recover_bytes: 256 * 1024,
            idle_after: Duration::from_secs(600),
            forget_after: Some(Duration::from_secs(365 * 24 * 3600)),
            lives: 256,
            life_kept_for: Duration::from_secs(20 * 60),
        }
    }
}

impl Default for PartLimits {
    fn default() -> Self {
        Self {
            members: 10_000,
            messages_per_second: 100,
            bytes_per_second: 64 << 20,
            max: 64,
            merge_after: Duration::from_secs(30),
        }
    }
}

/// A duration as the unit that all times here have.
pub(super) fn ms(duration: Duration) -> Millis {
    duration.as_millis() as Millis
}
