//! `pushmesh bench room`: gifts, chat and likes through api into rooms, at rates from half of what holds to more than that.

mod audience;
mod digest;
mod expected;
mod floor;
mod flow;
mod hall;
mod line;
mod mix;
mod results;
mod seat;
mod stage;
mod taken;
mod tally;
mod wire;

use std::time::Duration;

use pushmesh_protocol::metric::comet;

use self::{
    audience::Range,
    floor::Cpu,
    mix::{Beside, Mix, Times},
    results::{ChatStorm, GiftStorm, LoadTaken, SlowClients, SmallRooms, Sustained},
    stage::{Place, Stage},
    taken::{Latency, Taken},
    tally::Class,
};
pub use self::{audience::run as serve_audience, results::Results};
use super::{Common, Frame, search::Search};

/// Options of `bench room`.
#[derive(Debug, clap::Args)]
pub struct Room {
    #[command(flatten)]
    pub(super) common: Common,
    /// Connections in one room: one or more sizes, 20 to 15,000 each [default: 5000,15000, quick 100]
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u64).range(20..=15_000))]
    connections: Vec<u64>,
    /// How long each load lasts, after the time in which its room settles [default: 15s, quick 1s]
    #[arg(long, value_parser = crate::duration::parse)]
    window: Option<Duration>,
    /// Messages a second that hold: 100 % without a search
    #[arg(long)]
    sustained: Option<f64>,
    /// Which parts of the bench [default: all]
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Loads,
    ChatStorm,
    GiftStorm,
    SlowClients,
    SmallRooms,
    Cpu,
}

/// How the bench goes about it.
struct Plan {
    is_quick: bool,
    sizes: Vec<u64>,
    loads: Times,
    tries: Times,
    /// The first rate that is tried, and how many are.
    first: f64,
    tries_max: usize,
    precision: f64,
    /// Gifts a second, and connections of the room they go to.
    gifts: (f64, u64),
    small_rooms: u64,
    /// Chat in all small rooms together.
    small_per_s: f64,
    /// One client in so many reads nothing.
    slow_share: u64,
    /// Connections that get 100 messages a second.
    hundred: u64,
    hundred_times: Times,
    /// Of a turn of these and one of the floor.
    pairs: usize,
}

const PERCENTS: [u64; 3] = [50, 80, 150];
const SMALL_ROOM: u64 = 10;
/// A rate that was found by trying and did not hold for the whole window is lowered so.
const LOWER: f64 = 0.9;
const LOWERED: usize = 6;
/// The groups of clients.
const MAIN: usize = 0;
const SMALL: usize = 1;
const OTHERS: usize = 2;

impl Room {
    fn plan(&self) -> Plan {
        let seconds = Duration::from_secs;
        let given =
            |default: &[u64]| if self.connections.is_empty() { default.to_vec() } else { self.connections.clone() };
        if self.common.quick {
            let window = self.window.unwrap_or(seconds(1));
            let times = Times { settle: Duration::ZERO, window };
            return Plan {
                is_quick: true,
                sizes: given(&[100]),
                loads: times,
                tries: times,
                first: 400.0,
                tries_max: 2,
                precision: 2.0,
                gifts: (200.0, 20),
                small_rooms: 5,
                small_per_s: 50.0,
                slow_share: 10,
                hundred: 50,
                hundred_times: times,
                pairs: 1,
            };
        }
        let window = self.window.unwrap_or(seconds(15));
        Plan {
            is_quick: false,
            sizes: given(&[5000, 15_000]),
            loads: Times { settle: seconds(6), window },
            tries: Times { settle: seconds(5), window: seconds(5) },
            first: 1000.0,
            tries_max: 12,
            precision: 1.15,
            gifts: (5000.0, 100),
            small_rooms: 1000,
            small_per_s: 500.0,
            slow_share: 10,
            hundred: 1000,
            hundred_times: Times { settle: Duration::ZERO, window: seconds(5) },
            pairs: 5,
        }
    }

    fn has(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    pub async fn measure(&self, frame: &Frame) -> anyhow::Result<Results> {
        let plan = self.plan();
        let mut bench = Bench { stage: Stage::set(frame).await?, plan };
        let mut results = Results::new(&bench.plan.sizes);
        let sizes = bench.plan.sizes.clone();
        for (number, size) in sizes.into_iter().enumerate() {
            bench.stage.enter(size).await?;
            let sustained = bench.sustained(size, self.sustained).await?;
            let per_s = sustained.messages_per_s;
            results.sustained.push(sustained);
            if self.has(Part::Loads) {
                bench.loads(size, per_s, &mut results).await?;
            }
            if number > 0 {
                continue;
            }
            if self.has(Part::ChatStorm) {
                results.chat_storm = Some(bench.chat_storm(size, per_s).await?);
            }
            if self.has(Part::Cpu) {
                results.cpu(bench.cpu().await?);
            }
            if self.has(Part::GiftStorm) {
                results.gift_storm = Some(bench.gift_storm().await?);
            }
            if self.has(Part::SlowClients) {
                results.slow(bench.slow_clients(size, per_s).await?);
            }
            if self.has(Part::SmallRooms) {
                results.small(bench.small_rooms(size, per_s).await?);
            }
        }
        frame.say_complaints(&bench.stage.mesh);
        Ok(results)
    }
}

struct Bench<'a> {
    stage: Stage<'a>,
    plan: Plan,
}

impl Bench<'_> {
    async fn room(&mut self, size: u64) -> anyhow::Result<Place> {
        self.stage.room(Range { from: 0, to: size }, MAIN).await
    }

    /// The highest rate at which nothing queues up.
    async fn sustained(&mut self, connections: u64, given: Option<f64>) -> anyhow::Result<Sustained> {
        let found = |messages_per_s, held| Sustained { connections, messages_per_s, held };
        if let Some(per_s) = given {
            return Ok(found(per_s, None));
        }
        let mut place = self.room(connections).await?;
        let (mut search, mut per_s) = (Search::new(self.plan.first, self.plan.precision), self.plan.first);
        for _ in 0..self.plan.tries_max {
            let Some(next) = search.next() else { break };
            per_s = next;
            let taken = self.stage.run(&mut place, Mix::of(per_s), None, self.plan.tries).await?;
            search.tried(per_s, taken.held);
        }
        per_s = search.highest().unwrap_or(per_s);
        for _ in 0..LOWERED {
            // As the loads will have it: in a room that was not cut by a higher rate.
            let mut place = self.room(connections).await?;
            let taken = self.stage.run(&mut place, Mix::of(per_s), None, self.plan.loads).await?;
            if taken.held || self.plan.is_quick {
                return Ok(found(per_s, Some(taken.held)));
            }
            per_s *= LOWER;
        }
        self.stage.frame.say(format_args!("no rate held for the whole window; {per_s:.0}/s is taken"));
        Ok(found(per_s, Some(false)))
    }

    async fn loads(&mut self, size: u64, per_s: f64, results: &mut Results) -> anyhow::Result<()> {
        let mut place = self.room(size).await?;
        for percent in PERCENTS {
            let mix = Mix::of(per_s * percent as f64 / 100.0);
            self.stage.frame.say(format_args!("{percent} % into one room of {size}"));
            let taken = self.stage.run(&mut place, mix, None, self.plan.loads).await?;
            let ledger_exact = self.stage.ledger_is_exact(&place).await?;
            results.loads.push(LoadTaken::new(percent, size, ledger_exact, taken));
        }
        Ok(())
    }

    async fn chat_storm(&mut self, size: u64, per_s: f64) -> anyhow::Result<ChatStorm> {
        self.stage.frame.say("a storm of chat: ten times of what belongs to half of the rate");
        let mut place = self.room(size).await?;
        let taken = self.stage.run(&mut place, Mix::of(per_s / 2.0).storm(), None, self.plan.loads).await?;
        Ok(ChatStorm::new(size, taken))
    }

    async fn gift_storm(&mut self) -> anyhow::Result<GiftStorm> {
        let (per_s, connections) = self.plan.gifts;
        self.stage.frame.say(format_args!("a storm of gifts into a room of {connections}"));
        let mut place = self.room(connections).await?;
        let taken = self.stage.run(&mut place, Mix::gifts(per_s), None, self.plan.loads).await?;
        let ledger_exact = self.stage.ledger_is_exact(&place).await?;
        Ok(GiftStorm::new(per_s, connections, ledger_exact, &taken))
    }

    /// 100 messages a second into one room.
    async fn cpu(&mut self) -> anyhow::Result<Cpu> {
        let connections = self.plan.hundred.min(self.plan.sizes[0]);
        self.stage.frame.say(format_args!("100 messages a second into a room of {connections}"));
        let mut place = self.room(connections).await?;
        floor::measure(&mut self.stage, &mut place, connections, self.plan.hundred_times, self.plan.pairs).await
    }

    /// Some of a room read nothing: what the others have of it.
    async fn slow_clients(&mut self, size: u64, per_s: f64) -> anyhow::Result<SlowClients> {
        let slow = size / self.plan.slow_share;
        self.stage.frame.say(format_args!("{slow} of {size} clients that read nothing"));
        let mut place = self.room(size).await?;
        let range = self.stage.regroup(slow, &mut place, OTHERS).await?;
        let mix = Mix::of(per_s / 2.0);
        let without = self.stage.run(&mut place, mix, None, self.plan.loads).await?;
        let before = self.stage.comet_memory_mib();
        self.stage.deafen(range, true).await?;
        let with = self.stage.run(&mut place, mix, None, self.plan.loads).await?;
        let after = self.stage.comet_memory_mib();
        self.stage.deafen(range, false).await?;
        self.stage.joined(size).await?;
        let high = |taken: &Taken| Latency::of(&taken.groups[MAIN].of(Class::High).latencies);
        Ok(SlowClients {
            slow,
            connections: size,
            without: high(&without),
            with: high(&with),
            comet_mib_before: before,
            comet_mib_after: after,
            closed_too_slow: with.counted(comet::CLOSED.name, "reason=\"too_slow\""),
        })
    }

    /// Small rooms beside the big one: what its load does to them.
    async fn small_rooms(&mut self, size: u64, per_s: f64) -> anyhow::Result<SmallRooms> {
        let rooms = self.plan.small_rooms;
        self.stage.frame.say(format_args!("{rooms} rooms of {SMALL_ROOM} beside one of {size}"));
        self.stage.enter(size + rooms * SMALL_ROOM).await?;
        let mut place = self.room(size).await?;
        let rooms = self.stage.small_rooms(size, rooms, SMALL_ROOM, SMALL).await?;
        let beside = Beside { per_s: self.plan.small_per_s, rooms };
        let without = self.stage.run(&mut place, Mix::default(), Some(&beside), self.plan.loads).await?;
        let with = self.stage.run(&mut place, Mix::of(per_s / 2.0), Some(&beside), self.plan.loads).await?;
        let high = |taken: &Taken| Latency::of(&taken.groups[SMALL].of(Class::High).latencies);
        Ok(SmallRooms {
            rooms: beside.rooms.len() as u64,
            messages_per_s: beside.per_s,
            without: high(&without),
            with: high(&with),
        })
    }
}
