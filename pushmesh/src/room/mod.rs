//! `pushmesh room`: live rooms, at a terminal.

mod join;
mod keep;
pub mod lines;
mod look;
mod say;

pub use keep::Mute;
pub use say::{Gift, Like};

use crate::exit::Outcome;

#[derive(Debug, clap::Subcommand)]
pub enum RoomCommand {
    /// Enters rooms as a user and prints what happens in them, as it comes
    #[command(
        after_help = "Example:\n  pushmesh room join live-1 --user alice\n  pushmesh room join live-1 live-2 --user alice --json --count 10"
    )]
    Join(join::Join),
    /// Says a line of chat, or anything else, in a user's name
    #[command(
        after_help = "Example:\n  pushmesh room say live-1 'hello everybody' --user alice\n  pushmesh room say live-1 '{\"x\":1}' --user alice --type move"
    )]
    Say(say::Say),
    /// Who is there, its state and its sums
    #[command(after_help = "Example:\n  pushmesh room info live-1")]
    Info(look::Info),
    /// Opens, closes or bans a room; prints its state
    #[command(
        after_help = "Example:\n  pushmesh room state live-1 --banned true     # nobody may send\n  pushmesh room state live-1 --open false      # nobody may join or send"
    )]
    State(keep::State),
    /// Makes somebody a host or an admin of a room, or nothing special
    #[command(after_help = "Example:\n  pushmesh room role live-1 bob admin\n  pushmesh room role live-1 bob none")]
    Role(keep::Role),
    /// Sends somebody out of a room; he may come again
    #[command(after_help = "Example:\n  pushmesh room kick live-1 eve")]
    Kick(keep::Kick),
    /// Puts up a note for everybody in a room
    #[command(after_help = "Example:\n  pushmesh room note live-1 'we begin at nine'")]
    Note(keep::Note),
    /// What was said, given and done in a room, as far as it is kept
    #[command(
        after_help = "Example:\n  pushmesh room history live-1\n  pushmesh room history live-1 --chain gifts --after 120 --limit 500"
    )]
    History(look::History),
    /// Who gave most
    #[command(after_help = "Example:\n  pushmesh room ranking live-1 --places 100")]
    Ranking(look::Ranking),
}

impl RoomCommand {
    pub async fn run(self) -> Outcome {
        match self {
            Self::Join(join) => join.run().await,
            Self::Say(say) => say.run().await,
            Self::Info(info) => info.run().await,
            Self::State(state) => state.run().await,
            Self::Role(role) => role.run().await,
            Self::Kick(kick) => kick.run().await,
            Self::Note(note) => note.run().await,
            Self::History(history) => history.run().await,
            Self::Ranking(ranking) => ranking.run().await,
        }
    }
}
