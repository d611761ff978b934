//! What `bench room` prints; the keys are a contract.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{
    floor::Cpu,
    flow::{DATA_BYTES, LIKES_EACH},
    stage::RAISED,
    taken::{ClassTaken, Latency, NAMES, Taken},
    tally::Class,
};
use crate::bench::{Verdict, latency::rounded, load::Load};

#[derive(Debug, Serialize)]
pub struct Results {
    /// Of the largest room.
    connections: u64,
    pub loads: Vec<LoadTaken>,
    pub gift_storm: Option<GiftStorm>,
    small_rooms_p99_ratio: Option<f64>,
    /// Beside a raw loop over the same sockets.
    cpu_ratio_100_per_s: Option<f64>,
    slow_clients_p99_ratio: Option<f64>,
    /// What 100 % is.
    pub sustained: Vec<Sustained>,
    pub chat_storm: Option<ChatStorm>,
    cpu_100_per_s: Option<Cpu>,
    small_rooms: Option<SmallRooms>,
    slow_clients: Option<SlowClients>,
    workload: String,
}

#[derive(Debug, Serialize)]
pub struct Sustained {
    pub connections: u64,
    pub messages_per_s: f64,
    /// Whether it held for a whole window; absent where the rate was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<bool>,
}

#[derive(Debug, Serialize)]
pub struct LoadTaken {
    percent: u64,
    connections: u64,
    messages_per_s: f64,
    /// Into how many virtual rooms the room was cut in the end.
    parts: u16,
    ledger_exact: bool,
    #[serde(flatten)]
    classes: Classes,
    load: Load,
}

/// Under the classes' names.
#[derive(Debug)]
struct Classes([ClassTaken; Class::ALL.len()]);

impl Serialize for Classes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(NAMES.into_iter().zip(&self.0))
    }
}

#[derive(Debug, Serialize)]
pub struct ChatStorm {
    connections: u64,
    chat_per_s: f64,
    parts: u16,
    #[serde(flatten)]
    classes: Classes,
    load: Load,
}

#[derive(Debug, Serialize)]
pub struct GiftStorm {
    per_s: f64,
    connections: u64,
    ledger_exact: bool,
    #[serde(flatten)]
    gift: ClassTaken,
    load: Load,
}

#[derive(Debug, Serialize)]
pub struct SlowClients {
    pub slow: u64,
    pub connections: u64,
    /// Of chat, at the clients that read.
    pub without: Latency,
    pub with: Latency,
    pub comet_mib_before: f64,
    pub comet_mib_after: f64,
    pub closed_too_slow: u64,
}

#[derive(Debug, Serialize)]
pub struct SmallRooms {
    pub rooms: u64,
    pub messages_per_s: f64,
    /// Of chat in the small rooms, while nothing is said in the big one, and at half of its rate.
    pub without: Latency,
    pub with: Latency,
}

/// Gifts' p99 at 80 and at 150 % of what holds.
const GOALS_MS: [(u64, f64); 2] = [(80, 50.0), (150, 200.0)];
const GOAL_SLOW: f64 = 1.2;
const GOAL_CPU: f64 = 1.5;

impl Results {
    pub fn new(sizes: &[u64]) -> Self {
        let raised: Vec<_> = RAISED.iter().map(|(service, setting)| format!("{service} {setting}")).collect();
        Self {
            connections: sizes.iter().copied().max().unwrap_or_default(),
            loads: Vec::new(),
            gift_storm: None,
            small_rooms_p99_ratio: None,
            cpu_ratio_100_per_s: None,
            slow_clients_p99_ratio: None,
            sustained: Vec::new(),
            chat_storm: None,
            cpu_100_per_s: None,
            small_rooms: None,
            slow_clients: None,
            workload: format!(
                "WebSocket clients in other processes; gifts 1 %, chat 20 %, likes 79 % of all messages through api's HTTP \
                 door, likes {LIKES_EACH} a request, and 1 % of class normal beside them; {DATA_BYTES} bytes of chat; open \
                 loop, latencies from when a message was due to each client's reading of it; not default: {}",
                raised.join(", ")
            ),
        }
    }

    pub fn cpu(&mut self, found: Cpu) {
        self.cpu_ratio_100_per_s = found.ratio;
        self.cpu_100_per_s = Some(found);
    }

    pub fn slow(&mut self, found: SlowClients) {
        self.slow_clients_p99_ratio = ratio(&found.with, &found.without);
        self.slow_clients = Some(found);
    }

    pub fn small(&mut self, found: SmallRooms) {
        self.small_rooms_p99_ratio = ratio(&found.with, &found.without);
        self.small_rooms = Some(found);
    }
}

fn ratio(with: &Latency, without: &Latency) -> Option<f64> {
    (without.p99_ms > 0.0).then(|| rounded(with.p99_ms / without.p99_ms))
}

impl LoadTaken {
    pub fn new(percent: u64, connections: u64, ledger_exact: bool, taken: Taken) -> Self {
        let mix = taken.mix;
        Self {
            percent,
            connections,
            messages_per_s: rounded(mix.gift + mix.high + mix.low),
            parts: taken.parts,
            ledger_exact,
            classes: Classes(taken.classes),
            load: taken.load,
        }
    }

    fn class(&self, class: Class) -> &ClassTaken {
        &self.classes.0[class as usize]
    }
}

impl ChatStorm {
    pub fn new(connections: u64, taken: Taken) -> Self {
        Self {
            connections,
            chat_per_s: rounded(taken.mix.high),
            parts: taken.parts,
            classes: Classes(taken.classes),
            load: taken.load,
        }
    }
}

impl GiftStorm {
    pub fn new(per_s: f64, connections: u64, ledger_exact: bool, taken: &Taken) -> Self {
        let (gift, load) = (taken.class(Class::Gift).clone(), taken.load.clone());
        Self { per_s, connections, ledger_exact, gift, load }
    }
}

impl Verdict for Results {
    fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        for load in &self.loads {
            let at = format!("at {} % into {}", load.percent, load.connections);
            let gift = load.class(Class::Gift);
            if let Some((_, goal)) =
                GOALS_MS.iter().find(|(percent, goal)| *percent == load.percent && gift.p99_ms > *goal)
            {
                missed.push(format!("gift p99 {} ms {at} (at most {goal})", gift.p99_ms));
            }
            let lost = gift.lost + load.class(Class::High).lost + load.class(Class::Normal).lost;
            if lost > 0 {
                missed.push(format!("{lost} lost {at}"));
            }
            if !load.ledger_exact {
                missed.push(format!("the ledger is not what was given {at}"));
            }
        }
        if let Some(storm) = self.gift_storm.as_ref().filter(|storm| !storm.ledger_exact || storm.gift.lost > 0) {
            missed.push(format!("a storm of gifts: {} lost, ledger exact: {}", storm.gift.lost, storm.ledger_exact));
        }
        if let Some(ratio) = self.slow_clients_p99_ratio.filter(|ratio| *ratio >= GOAL_SLOW) {
            missed.push(format!("slow clients: p99 of the others times {ratio} (below {GOAL_SLOW})"));
        }
        if let Some(ratio) = self.cpu_ratio_100_per_s.filter(|ratio| *ratio > GOAL_CPU) {
            missed.push(format!("CPU at 100 messages/s {ratio} times the floor (at most {GOAL_CPU})"));
        }
        missed
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Sustained { connections, messages_per_s, held } in &self.sustained {
            let held = if *held == Some(false) { ", which DID NOT HOLD for a whole window" } else { "" };
            writeln!(f, "sustained   {messages_per_s:.0} messages/s into a room of {connections}{held}")?;
        }
        for load in &self.loads {
            let LoadTaken { percent, connections, messages_per_s, parts, classes, load, .. } = load;
            writeln!(f, "\n{percent} %, {messages_per_s:.0}/s into {connections} ({parts} parts)")?;
            table(f, classes)?;
            bottleneck(f, load)?;
        }
        if let Some(ChatStorm { connections, chat_per_s, parts, classes, load }) = &self.chat_storm {
            writeln!(f, "\na storm of chat, {chat_per_s:.0}/s into {connections} ({parts} parts)")?;
            table(f, classes)?;
            bottleneck(f, load)?;
        }
        if let Some(GiftStorm { per_s, connections, ledger_exact, gift, load }) = &self.gift_storm {
            let exact = if *ledger_exact { "exact" } else { "NOT EXACT" };
            writeln!(
                f,
                "\ngift storm  {per_s:.0}/s into {connections}: p50 {} ms, p99 {} ms, lost {}, ledger {exact}",
                gift.p50_ms, gift.p99_ms, gift.lost
            )?;
            bottleneck(f, load)?;
        }
        if let Some(SlowClients {
            slow,
            connections,
            without,
            with,
            comet_mib_before,
            comet_mib_after,
            closed_too_slow,
        }) = &self.slow_clients
        {
            writeln!(
                f,
                "slow        {slow} of {connections}: p99 of the others {} ms, without {} ms; comet {comet_mib_before} MiB, then {comet_mib_after} MiB; {closed_too_slow} closed as too slow",
                with.p99_ms, without.p99_ms
            )?;
        }
        if let Some(SmallRooms { rooms, messages_per_s, without, with }) = &self.small_rooms {
            writeln!(
                f,
                "small rooms {rooms}, {messages_per_s:.0}/s: p99 {} ms beside the big one's load, {} ms without",
                with.p99_ms, without.p99_ms
            )?;
        }
        if let Some(Cpu { connections, cpu_us_per_delivery, messages_per_write, p99_ms, .. }) = &self.cpu_100_per_s {
            writeln!(
                f,
                "100/s       into {connections}: {cpu_us_per_delivery} µs of the comet's CPU a delivery, {messages_per_write} messages a write, p99 {p99_ms} ms"
            )?;
        }
        write!(f, "workload    {}", self.workload)
    }
}

fn table(f: &mut fmt::Formatter<'_>, classes: &Classes) -> fmt::Result {
    writeln!(
        f,
        "{:<8}{:>10}{:>10}{:>13}{:>13}{:>10}{:>8}{:>10}{:>10}{:>10}",
        "", "offered", "accepted", "delivered", "merged", "dropped", "lost", "p50 ms", "p99 ms", "p99.9 ms"
    )?;
    for (name, class) in NAMES.into_iter().zip(&classes.0) {
        let ClassTaken { offered, accepted, delivered, merged, dropped, lost, p50_ms, p99_ms, p999_ms, .. } = class;
        writeln!(
            f,
            "{name:<8}{offered:>10}{accepted:>10}{delivered:>13}{merged:>13}{dropped:>10}{lost:>8}{p50_ms:>10}{p99_ms:>10}{p999_ms:>10}"
        )?;
    }
    Ok(())
}

fn bottleneck(f: &mut fmt::Formatter<'_>, load: &Load) -> fmt::Result {
    match &load.bottleneck {
        Some(bottleneck) => writeln!(f, "BOTTLENECK  {bottleneck}: the mesh may do more"),
        None => Ok(()),
    }
}
