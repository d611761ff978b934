//! The comet's door for this bench: the raw write on a room's sockets, and how many writes there were.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use pushmesh_protocol::RoomId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const WITHIN: Duration = Duration::from_secs(20);

/// A connection to `services/comet/src/floor.rs`.
pub struct Hook(TcpStream);

impl Hook {
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("the comet's door for the floor")?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Has the room's shards write these to each member, one round after the other; how many writes it took.
    pub async fn write(&mut self, room: &RoomId, rounds: &[Vec<u8>]) -> anyhow::Result<u64> {
        self.write_paced(room, rounds, Duration::ZERO).await
    }

    /// The same, with so much time from the begin of one round to that of the next.
    pub async fn write_paced(&mut self, room: &RoomId, rounds: &[Vec<u8>], period: Duration) -> anyhow::Result<u64> {
        let mut request = part(room.as_str().as_bytes());
        request.extend((period.as_micros() as u32).to_be_bytes());
        request.extend((rounds.len() as u32).to_be_bytes());
        rounds.iter().for_each(|bytes| request.extend(part(bytes)));
        let (writes, short) = self.ask(&request).await?;
        if short > 0 {
            bail!("the floor's loop found {short} sockets full: their streams are spoilt");
        }
        Ok(writes)
    }

    /// How many writes the comet has done by itself.
    pub async fn written(&mut self) -> anyhow::Result<u64> {
        self.ask(&part(b"")).await.map(|(writes, _)| writes)
    }

    async fn ask(&mut self, request: &[u8]) -> anyhow::Result<(u64, u64)> {
        let asked = async {
            self.0.write_all(request).await?;
            Ok::<_, std::io::Error>((self.0.read_u64().await?, self.0.read_u64().await?))
        };
        timeout(WITHIN, asked).await.context("the comet's door for the floor is silent")?.context("the floor's door")
    }
}

fn part(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}
