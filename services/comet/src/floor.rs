//! For `pushmesh bench fanout`: the least that a delivery can cost on this machine, on the sockets of a room's members.
//!
//! A loop that writes given bytes to each of them and does nothing else, run by the shards that own the sockets. Compiled
//! with the feature `bench-floor` alone, and open only where the environment asks for it: whoever connects writes to
//! clients.
//!
//! A request is a room, the microseconds from one round to the next, and what each of its members is sent in each round,
//! one write; without a room it only asks for counts. The answer is two `u64`: the writes of all shards (asked for counts,
//! the product's own so far), and how many of them were not whole. Numbers are big-endian, lengths are `u32`.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use pushmesh_protocol::RoomId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use crate::{
    shard::{
        Shard, State,
        command::{Queues, Urgent},
    },
    socket,
};

/// Set to anything, it opens the door.
const ENABLED: &str = "BENCH_FLOOR";
/// Most bytes of a request's part.
const PART_MAX: usize = 1 << 20;

/// What a shard is to do.
#[derive(Debug)]
pub struct Order {
    job: Option<Job>,
    answer: oneshot::Sender<Written>,
}

#[derive(Debug, Clone)]
struct Job {
    room: RoomId,
    period: Duration,
    rounds: Arc<[Bytes]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Written {
    writes: u64,
    /// The socket took less, or nothing: its stream is spoilt.
    short: u64,
}

/// The door, where the environment wants one.
pub async fn open(shards: &[Queues]) -> std::io::Result<Option<(SocketAddr, impl Future<Output = ()> + use<>)>> {
    if std::env::var_os(ENABLED).is_none() {
        return Ok(None);
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let shards = shards.to_vec();
    tracing::info!("the bench's door is open: whoever connects writes to clients");
    Ok(Some((listener.local_addr()?, async move {
        while let Ok((stream, _)) = listener.accept().await {
            // It ends with the bench.
            let _ended = serve(stream, &shards).await;
        }
    })))
}

async fn serve(mut stream: TcpStream, shards: &[Queues]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let room = part(&mut stream).await?;
        let job = if room.is_empty() {
            None
        } else {
            let period = Duration::from_micros(stream.read_u32().await?.into());
            let mut rounds = Vec::new();
            for _ in 0..stream.read_u32().await? {
                rounds.push(part(&mut stream).await?);
            }
            let room = std::str::from_utf8(&room).ok().and_then(|room| room.parse().ok());
            Some(Job { room: room.ok_or(std::io::ErrorKind::InvalidData)?, period, rounds: rounds.into() })
        };
        let mut answers = Vec::new();
        for queues in shards {
            let (answer, answered) = oneshot::channel();
            let order = Box::new(Order { job: job.clone(), answer });
            queues.urgent.send(Urgent::Floor(order)).await.map_err(|_| std::io::ErrorKind::BrokenPipe)?;
            answers.push(answered);
        }
        let mut all = Written::default();
        for answered in answers {
            let written = answered.await.map_err(|_| std::io::ErrorKind::BrokenPipe)?;
            all.writes += written.writes;
            all.short += written.short;
        }
        stream.write_u64(all.writes).await?;
        stream.write_u64(all.short).await?;
    }
}

async fn part(stream: &mut TcpStream) -> std::io::Result<Bytes> {
    let length = stream.read_u32().await? as usize;
    if length > PART_MAX {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes.into())
}

impl Shard {
    /// Writes, or says what was written.
    pub fn floor(&self, state: &mut State, order: Order) {
        let written = match &order.job {
            None => Written { writes: state.written + state.tally.writes, short: 0 },
            Some(job) => write(state, job),
        };
        // The bench may have gone.
        let _ = order.answer.send(written);
    }
}

fn write(state: &mut State, job: &Job) -> Written {
    let mut written = Written::default();
    let Some(number) = state.rooms.find(&job.room) else { return written };
    let crowd = &state.rooms.room(number).crowd;
    let members = (0..crowd.places()).map(|at| crowd.member(at));
    let sockets: Vec<_> = members.filter(|member| !member.is_hole()).map(|member| member.fd()).collect();
    let begun = Instant::now();
    for (round, bytes) in (0..).zip(job.rounds.iter()) {
        // Nothing else is done meanwhile: what the comet would do between two frames is nothing too.
        let at = begun + job.period * round;
        while let Some(wait) = at.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero()) {
            std::thread::park_timeout(wait);
        }
        for fd in &sockets {
            written.writes += 1;
            written.short += u64::from(!matches!(socket::send(*fd, bytes), Ok(sent) if sent == bytes.len()));
        }
    }
    written
}
