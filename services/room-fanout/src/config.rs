//! Configuration.

use std::time::Duration;

use pushmesh_boot::{FieldError, ServiceConfig};
use pushmesh_protocol::topology::{ROOM_HIGH_AGE, ROOM_NORMAL_AGE};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::room::{Limits, PartLimits};

/// How soon, how often and how much.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long chat gathers for a frame: 0 to 1 s. Default "10ms". Gifts never wait.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub high_within: Duration,
    /// How long items of class normal gather: 0 to 5 s. Default "50ms".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub normal_within: Duration,
    /// How long likes and other items of class low gather: 0 to 10 s. Default "200ms".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub low_within: Duration,
    /// Totals of what one user has given in one room whose crossing is a level-up, ascending: at most 100. Default 1000,
    /// 10000, 100000, 1000000.
    pub levels: Vec<u64>,
    /// At most so often a room's ranking is told and stored: 100 ms to 1 h. Default "1s".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub ranking_every: Duration,
    /// How long a stored ranking stays in ROOM_NORMAL: 1 s to 1 d, in whole seconds. Default "1m". What a busy room has given
    /// by the second must not drive mutes and roles out of the stream, which are kept for a day.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub rankings_kept: Duration,
    /// How often changes of how many are in a room are told: 100 ms to 1 h. Default "2s".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub presence_every: Duration,
    /// In rooms of up to so many connections it is told by name who came and went, where comets tell it: up to 1000.
    /// Default 0: nowhere.
    pub notices_up_to: u64,
    /// How often a room's heads are repeated after its last message: 100 ms to 1 min. Default "2s". A client that lost the last
    /// frame knows it after so long.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub heads_every: Duration,
    /// For how long they are repeated: up to 1 h. Default "30s".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub heads_for: Duration,
    /// What changed is written to the bucket `ledger` so often: 50 ms to 1 min. Default "1s". A new owner replays what was
    /// not written.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub write_every: Duration,
    /// A room without people and messages for so long leaves memory: 1 s to 30 d. Default "10m".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub idle_after: Duration,
    /// What is stored of a room, its givers' totals too, is removed once nothing was said in it for so long: 1 d or more; "0s":
    /// never. Default "365d". Used again, such a room begins at zero.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub forget_after: Duration,
    /// What each chain of a room (gifts, chat, normal) keeps in memory for those who come back, at most 1,024 items: 4 KiB to
    /// 64 MiB. Default "512KiB", which is more than one who comes back is told. Chat of a room that is cut keeps up to eight
    /// times as much.
    #[serde(with = "pushmesh_config::size")]
    #[schemars(with = "pushmesh_config::SizeText")]
    pub tail_bytes: usize,
    /// When a room is cut into virtual rooms.
    pub parts: Parts,
    /// How long a hand-over waits for what is on its way: up to 60 s. Default "4s". The next owner replays the rest.
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub handover_max: Duration,
}

/// Over one of these a room is cut into parts, whose members see each other's chat; below half of all, it is merged again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Parts {
    /// Connections of one part: 1 or more. Default 10000.
    pub members: u64,
    /// Chat messages a second that one member sees: 1 or more. Default 100.
    pub messages_per_second: u64,
    /// Bytes of chat a second that go out to all members together. Default "64MiB".
    #[serde(with = "pushmesh_config::size")]
    #[schemars(with = "pushmesh_config::SizeText")]
    pub bytes_per_second: usize,
    /// Most parts: a power of two, 1 to 64; 1: rooms are never cut. Default 64.
    pub max: u16,
    /// Merged only after so long below half of every limit: up to 1 d. Default "30s".
    #[serde(with = "pushmesh_config::duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    pub merge_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            high_within: limits.high_within,
            normal_within: limits.normal_within,
            low_within: limits.low_within,
            levels: limits.levels,
            ranking_every: limits.ranking_every,
            rankings_kept: Duration::from_secs(60),
            presence_every: limits.presence_every,
            notices_up_to: limits.notices_up_to,
            heads_every: limits.heads_every,
            heads_for: limits.heads_for,
            write_every: Duration::from_secs(1),
            idle_after: limits.idle_after,
            forget_after: limits.forget_after.unwrap_or_default(),
            tail_bytes: limits.tail_bytes,
            parts: Parts::default(),
            handover_max: Duration::from_secs(4),
        }
    }
}

impl Default for Parts {
    fn default() -> Self {
        let limits = PartLimits::default();
        Self {
            members: limits.members,
            messages_per_second: limits.messages_per_second,
            bytes_per_second: limits.bytes_per_second as usize,
            max: limits.max,
            merge_after: limits.merge_after,
        }
    }
}

impl Config {
    pub fn limits(&self) -> Limits {
        Limits {
            high_within: self.high_within,
            normal_within: self.normal_within,
            low_within: self.low_within,
            levels: self.levels.clone(),
            ranking_every: self.ranking_every,
            presence_every: self.presence_every,
            notices_up_to: self.notices_up_to,
            heads_every: self.heads_every,
            heads_for: self.heads_for,
            idle_after: self.idle_after,
            forget_after: Some(self.forget_after).filter(|after| !after.is_zero()),
            tail_bytes: self.tail_bytes,
            parts: PartLimits {
                members: self.parts.members,
                messages_per_second: self.parts.messages_per_second,
                bytes_per_second: self.parts.bytes_per_second as u64,
                max: self.parts.max,
                merge_after: self.parts.merge_after,
            },
            ..Limits::default()
        }
    }
}

impl ServiceConfig for Config {
    fn validate(&self) -> Result<(), FieldError> {
        let (ms, second, hour) = (Duration::from_millis, Duration::from_secs(1), Duration::from_secs(3600));
        let durations = [
            ("high_within", self.high_within, Duration::ZERO, second),
            ("normal_within", self.normal_within, Duration::ZERO, 5 * second),
            ("low_within", self.low_within, Duration::ZERO, 10 * second),
            ("ranking_every", self.ranking_every, ms(100), hour),
            ("rankings_kept", self.rankings_kept, second, 24 * hour),
            ("presence_every", self.presence_every, ms(100), hour),
            ("heads_every", self.heads_every, ms(100), 60 * second),
            ("heads_for", self.heads_for, Duration::ZERO, hour),
            ("write_every", self.write_every, ms(50), 60 * second),
            ("idle_after", self.idle_after, second, 30 * 24 * hour),
            ("parts.merge_after", self.parts.merge_after, Duration::ZERO, 24 * hour),
            ("handover_max", self.handover_max, Duration::ZERO, 60 * second),
        ];
        for (field, value, min, max) in durations {
            if value < min || value > max {
                return Err(FieldError::new(field, format!("is {value:?}; it must be {min:?} to {max:?}")));
            }
        }
        if self.levels.len() > 100 || !self.levels.is_sorted_by(|a, b| a < b) || self.levels.first() == Some(&0) {
            return Err(FieldError::new("levels", "must be at most 100 totals above 0, ascending"));
        }
        if self.notices_up_to > 1000 {
            return Err(FieldError::new("notices_up_to", "must be at most 1000 connections"));
        }
        // As long as the streams hold something of it, an owner may have to apply that.
        if !self.forget_after.is_zero() && self.forget_after < ROOM_HIGH_AGE.max(ROOM_NORMAL_AGE) {
            return Err(FieldError::new("forget_after", "must be at least 1d, or 0s for never"));
        }
        if !(4 << 10..=64 << 20).contains(&self.tail_bytes) {
            return Err(FieldError::new("tail_bytes", "must be 4KiB to 64MiB"));
        }
        let counts = [
            ("parts.members", self.parts.members),
            ("parts.messages_per_second", self.parts.messages_per_second),
            ("parts.bytes_per_second", self.parts.bytes_per_second as u64),
        ];
        if let Some((field, _)) = counts.into_iter().find(|(_, value)| *value == 0) {
            return Err(FieldError::new(field, "must be at least 1"));
        }
        if !self.parts.max.is_power_of_two() || self.parts.max > 64 {
            return Err(FieldError::new("parts.max", "must be a power of two, 1 to 64"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use pushmesh_boot::Settings;

    use super::*;

    #[test]
    fn the_defaults_are_good_and_a_wrong_key_is_not_passed_over() {
        Config::default().validate().unwrap();
        let schema = pushmesh_config::schema::<Settings<Config>>();
        assert_eq!(pushmesh_config::lenient_tables(&schema), Vec::<String>::new());
    }

    #[test]
    fn the_defaults_are_the_rooms_own() {
        assert_eq!(Config::default().limits(), Limits::default());
    }

    #[test]
    fn a_value_out_of_bounds_is_refused_by_its_field() {
        let refused = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.validate().unwrap_err().field
        };
        assert_eq!(refused(|config| config.high_within = Duration::from_secs(2)), "high_within");
        assert_eq!(refused(|config| config.levels = vec![10, 10]), "levels");
        assert_eq!(refused(|config| config.forget_after = Duration::from_secs(7_200)), "forget_after");
        assert_eq!(refused(|config| config.tail_bytes = 1), "tail_bytes");
        assert_eq!(refused(|config| config.parts.max = 48), "parts.max");
        assert_eq!(refused(|config| config.parts.members = 0), "parts.members");
    }
}
