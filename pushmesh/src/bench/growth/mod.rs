//! `pushmesh bench growth`: what each more connection, room, pending push and membership costs.

mod clients;
mod crowd;
mod guest;
mod memberships;
mod owner;
mod pending;
mod rest;
mod results;
mod slope;

use std::time::Duration;

use self::rest::Rest;
pub use self::{guest::run as serve_crowd, results::Results};
use super::{Common, Frame};

/// What `--help` says after the options: the keys are a contract.
pub const AFTER_HELP: &str = "Example:
  pushmesh bench growth
  pushmesh bench growth --only connections --json
  pushmesh bench growth --quick --json

The last line with --json is one object. Its keys connections, rooms, pending and memberships (one that was not measured
is absent) have each
  rows    by size: size; by service rss_mib, and cpu_ms_per_s at rest; of pending and memberships besides: stored_per_s
          through the door, loaded_rss_mib of the owner they came to, take_over_s from its kill (SIGKILL, and another
          process started at once) until that one answers for all partitions and holds everything: null if it does not within 5
          minutes, and then nothing larger is tried. Their rss_mib is the new owner's.
  slopes  lines of least squares through all sizes, each {per_one, at_none, r2}: rss by service (bytes, MiB), cpu by service
          (µs a second, ms a second), take_over (µs, s), loaded_rss (bytes, MiB).
Beside them: fingerprint, seconds.

Exit codes: 0 measured, 1 failed.";

/// Options of `bench growth`.
#[derive(Debug, clap::Args)]
pub struct Growth {
    #[command(flatten)]
    pub(super) common: Common,
    /// Which parts of the bench [default: all]
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<What>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// 1,000 to 15,000 clients that only live
    Connections,
    /// 1 to 10,000 rooms with a member each, in which nobody says anything
    Rooms,
    /// 1 to 100,000 pushes that nobody acknowledges
    Pending,
    /// 10,000 to 1,000,000 memberships of groups
    Memberships,
}

/// How much is done; sizes ascend.
struct Plan {
    connections: Vec<u64>,
    rooms: Vec<u64>,
    pending: Vec<u64>,
    /// Multiples of a group.
    memberships: Vec<u64>,
    /// Clients that acknowledge nothing.
    deaf: u64,
    /// Between two measurements.
    rest: Rest,
    /// The same over a whole heartbeat of every client.
    heartbeats: Rest,
    /// How long each step may take.
    within: Duration,
    look: Duration,
}

impl Plan {
    fn full() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connections: vec![1000, 2000, 5000, 10_000, 15_000],
            rooms: vec![1, 10, 100, 1000, 10_000],
            pending: vec![1, 1000, 10_000, 30_000, 100_000],
            memberships: [10, 100, 300, 1000].map(|groups| groups * memberships::GROUP).to_vec(),
            deaf: 1000,
            rest: Rest { settle: seconds(15), window: seconds(8) },
            heartbeats: Rest { settle: seconds(15), window: seconds(25) },
            within: seconds(300),
            look: Duration::from_millis(100),
        }
    }

    fn quick() -> Self {
        let rest = Rest { settle: Duration::ZERO, window: Duration::from_millis(500) };
        Self {
            connections: vec![50, 100, 200],
            rooms: vec![1, 10, 50],
            pending: vec![1, 200],
            memberships: [1, 5].map(|groups| groups * memberships::GROUP).to_vec(),
            deaf: 20,
            rest,
            heartbeats: rest,
            within: Duration::from_secs(60),
            look: Duration::from_millis(20),
        }
    }
}

impl Growth {
    pub async fn measure(&self, frame: &Frame) -> anyhow::Result<Results> {
        let plan = if self.common.quick { Plan::quick() } else { Plan::full() };
        let has = |what| self.only.is_empty() || self.only.contains(&what);
        let mut results = Results::default();
        if has(What::Connections) {
            results.connections = Some(clients::connections(frame, &plan).await?);
        }
        if has(What::Rooms) {
            results.rooms = Some(clients::rooms(frame, &plan).await?);
        }
        if has(What::Pending) {
            results.pending = Some(pending::measure(frame, &plan).await?);
        }
        if has(What::Memberships) {
            results.memberships = Some(memberships::measure(frame, &plan).await?);
        }
        Ok(results)
    }
}
