//! What 100 messages a second cost in the comet, beside a loop that only writes: the same sockets, as many bytes a write, and
//! as many writes a second.

use std::time::Duration;

use anyhow::Context;
use pushmesh_protocol::{
    RoomId, Token,
    frame::{Chain, Encoding, Room, RoomItem, ServerFrame},
    metric::comet,
};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{
    mix::{Mix, Times},
    stage::{Place, Stage},
    tally::Class,
};
use crate::bench::{fanout::Hook, latency::rounded, machine};

/// 100 a second. With so many lines of chat alone the room would now and then be cut in two.
const MIX: Mix = Mix { gift: 0.0, high: 90.0, normal: 10.0, low: 0.0 };
/// Of a room that nobody is in: its frames are read and count for nothing.
const NOWHERE: &str = "floor";

#[derive(Debug, Serialize)]
pub struct Cpu {
    pub connections: u64,
    pub cpu_us_per_delivery: f64,
    /// With the same number of messages a write; absent without the comet's hook for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor_us_per_delivery: Option<f64>,
    #[serde(skip)]
    pub ratio: Option<f64>,
    pub messages_per_write: f64,
    pub p99_ms: f64,
    pub pairs: usize,
}

/// One turn of each.
struct Pair {
    real_us: f64,
    floor_us: Option<f64>,
    messages_per_write: f64,
    p99_ms: f64,
}

/// So many pairs; the median of each.
pub async fn measure(
    stage: &mut Stage<'_>,
    place: &mut Place,
    connections: u64,
    times: Times,
    pairs: usize,
) -> anyhow::Result<Cpu> {
    let mut all = Vec::new();
    for _ in 0..pairs {
        let pair = pair(stage, place, connections, times).await?;
        let Pair { real_us, floor_us, messages_per_write, .. } = &pair;
        let floor = floor_us.map_or_else(|| "not to be had".to_owned(), |us| format!("{us:.2} µs"));
        stage.frame.say(format_args!(
            "{real_us:.2} µs of CPU a delivery, {messages_per_write:.2} messages a write; floor {floor}"
        ));
        all.push(pair);
    }
    let median = |of: fn(&Pair) -> Option<f64>| {
        let mut values: Vec<_> = all.iter().filter_map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().map(rounded)
    };
    Ok(Cpu {
        connections,
        cpu_us_per_delivery: median(|pair| Some(pair.real_us)).unwrap_or_default(),
        floor_us_per_delivery: median(|pair| pair.floor_us),
        ratio: median(|pair| pair.floor_us.map(|floor| pair.real_us / floor)),
        messages_per_write: median(|pair| Some(pair.messages_per_write)).unwrap_or_default(),
        p99_ms: median(|pair| Some(pair.p99_ms)).unwrap_or_default(),
        pairs,
    })
}

async fn pair(stage: &mut Stage<'_>, place: &mut Place, connections: u64, times: Times) -> anyhow::Result<Pair> {
    let taken = stage.run(place, MIX, None, times).await?;
    let delivered = taken.class(Class::High).delivered + taken.class(Class::Normal).delivered;
    let messages = delivered.max(1) as f64;
    let writes = taken.counted(comet::WRITES.name, "").max(1) as f64;
    let bytes = taken.counted(comet::BYTES_OUT.name, "") as f64 / writes;
    let seconds = taken.load.service_cpu_s.get("comet").copied().unwrap_or_default();
    let rounds_per_s = writes / connections as f64 / (times.settle + times.window).as_secs_f64();
    let messages_per_write = messages / writes;
    let floor = match stage.mesh.door("comet", "floor") {
        Ok(door) => {
            let pid = stage.mesh.pids().get("comet").copied().context("the mesh has no comet")?;
            let rounds = (rounds_per_s * times.window.as_secs_f64()).max(1.0) as u64;
            let mut hook = Hook::connect(door).await?;
            let cpu = write(&mut hook, &place.room, bytes as usize, rounds, rounds_per_s, pid).await?;
            Some(cpu.as_secs_f64() * 1e6 / (rounds * connections) as f64 / messages_per_write)
        }
        Err(_) => None,
    };
    Ok(Pair {
        real_us: seconds * 1e6 / messages,
        floor_us: floor,
        messages_per_write,
        p99_ms: taken.class(Class::High).p99_ms,
    })
}

// The comet's CPU for so many rounds of writes to all members.
async fn write(
    hook: &mut Hook,
    room: &RoomId,
    bytes: usize,
    rounds: u64,
    per_s: f64,
    comet: u32,
) -> anyhow::Result<Duration> {
    let frame = [frame(bytes)?];
    let used = || machine::cpu_time(comet).context("the comet has ended");
    let before = used()?;
    let every = Duration::from_secs_f64(1.0 / per_s.max(1.0));
    let mut ticks = interval_at(Instant::now(), every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for _ in 0..rounds {
        ticks.tick().await;
        hook.write(room, &frame).await?;
    }
    Ok(used()? - before)
}

/// A message of so many bytes, or a few more.
fn frame(bytes: usize) -> anyhow::Result<Vec<u8>> {
    let of = |padding: usize| -> anyhow::Result<Vec<u8>> {
        let item = RoomItem {
            chain: Chain::Loose,
            offset: 0,
            prev: 0,
            kind: Token::new("floor")?,
            from: None,
            at: 0,
            data: vec![b'.'; padding].into(),
        };
        let room = Room { room: RoomId::new(NOWHERE)?, epoch: 0, items: vec![item], heads: None };
        let payload = ServerFrame::Room(room).encode(Encoding::MessagePack);
        let length = u16::try_from(payload.len()).context("a write of rooms is smaller")?;
        let head = match length {
            0..=125 => vec![0x82, length as u8],
            _ => [&[0x82, 126][..], &length.to_be_bytes()].concat(),
        };
        Ok([head, payload].concat())
    };
    let empty = of(0)?.len();
    of(bytes.saturating_sub(empty))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::room::wire::{Piece, piece};

    #[test]
    fn the_floors_message_is_one_and_as_large_as_the_others() {
        for bytes in [10, 300, 5000] {
            let frame = frame(bytes).unwrap();
            assert!(frame.len() >= bytes && frame.len() <= bytes.max(80) + 8, "{} for {bytes}", frame.len());
            assert!(
                matches!(piece(&frame), Piece::Message(payload, size) if size == frame.len() && payload[0] == 0x92)
            );
        }
    }
}
