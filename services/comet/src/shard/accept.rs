//! New connections: at a bounded pace, and whatever the kernel says.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpStream};

use super::{Shard, enter};
use crate::{limit::Rate, socket};

/// How long to wait when descriptors or memory have run out: who leaves meanwhile makes room.
const EXHAUSTED: Duration = Duration::from_millis(50);
/// Accepts in a row before other tasks get their turn.
const IN_A_ROW: u32 = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    Tcp,
}

/// Accepts until the comet goes.
pub async fn run(shard: Rc<Shard>, listener: TcpListener, transport: Transport) {
    let per_second = shard.config.limits.accepts_per_second;
    let rate = Rate { per_second, burst: per_second.div_ceil(4).max(1) };
    let mut in_a_row = 0;
    loop {
        pace(&shard, rate).await;
        let accepted = tokio::select! {
            () = shard.leaving.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => welcome(&shard, stream, peer, transport),
            Err(error) => {
                shard.metrics.accept_errors.increment(1);
                // Any other error is that one connection's, which is gone already.
                if socket::is_exhaustion(&error) {
                    tracing::warn!(%error, "cannot accept: descriptors or memory have run out");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
        in_a_row += 1;
        if in_a_row % IN_A_ROW == 0 {
            tokio::task::yield_now().await;
        }
    }
    // Whoever is in the kernel's queue already is told, not reset.
    while let Some(Ok((stream, peer))) = listener.accept().now_or_never() {
        welcome(&shard, stream, peer, transport);
    }
}

fn welcome(shard: &Rc<Shard>, stream: TcpStream, peer: SocketAddr, transport: Transport) {
    let knock = shard.door.knock();
    tokio::task::spawn_local(enter::run(shard.clone(), stream, transport, peer.ip(), knock));
}

async fn pace(shard: &Shard, rate: Rate) {
    loop {
        let now = shard.now();
        let wait = {
            let accepts = &mut shard.state.borrow_mut().accepts;
            if accepts.take(rate, now) { None } else { Some(accepts.wait(rate, now)) }
        };
        match wait {
            None => return,
            Some(micros) => tokio::time::sleep(Duration::from_micros(micros)).await,
        }
    }
}
