//! The floor of a storm: a bare echo server, and the same number of connects to it.
//!
//! Each connection has two echoes of 300 bytes, one after the other: as many turns as a WebSocket's handshake and a LOGIN.

use std::{io, net::SocketAddr, process::Child, time::Duration};

use anyhow::Context;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    process::ChildStdout,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{clients::Answer, crew, machine};

const BYTES: usize = 300;
const TURNS: usize = 2;
/// As long as the comet's: `service.socket.accept_queue`.
const ACCEPT_QUEUE: u32 = 4096;
/// How long one connection may take.
const WITHIN: Duration = Duration::from_secs(60);

/// An echo server in a process of its own; killed on drop.
pub struct EchoServer {
    child: Child,
    pub address: SocketAddr,
}

impl EchoServer {
    pub async fn start() -> anyhow::Result<Self> {
        let mut child = crew::child("echo")?;
        let stdout = child.stdout.take().context("the echo server has no pipe")?;
        let mut lines = BufReader::new(ChildStdout::from_std(stdout)?).lines();
        // Killed by the drop of this if it says nothing good.
        let mut server = Self { child, address: ([127, 0, 0, 1], 0).into() };
        let line = lines.next_line().await?.context("the echo server ended at its start")?;
        server.address = line.parse().context("the echo server's address")?;
        Ok(server)
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        crew::end(&mut self.child);
    }
}

/// The echo server's process: says where it listens, and serves until standard input ends.
pub async fn serve() -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let listener = socket.listen(ACCEPT_QUEUE)?;
    println!("{}", listener.local_addr()?);
    let mut end = BufReader::new(tokio::io::stdin()).lines();
    tokio::select! {
        refused = accept(listener) => Err(refused).context("the echo server can't accept"),
        _ = end.next_line() => Ok(()),
    }
}

async fn accept(listener: TcpListener) -> io::Error {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(echo(stream))),
            Err(error) => return error,
        }
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; BYTES];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            read => stream.write_all(&buffer[..read]).await?,
        }
    }
}

/// Connects so often at a moment; answers when the last has had its echoes. All stay open till then.
pub async fn connect(address: SocketAddr, count: u64, at: Duration) -> Answer {
    let mut all: JoinSet<io::Result<(TcpStream, Duration)>> = JoinSet::new();
    for _ in 0..count {
        all.spawn(async move {
            sleep(at.saturating_sub(machine::now())).await;
            let stream = timeout(WITHIN, turns(address)).await.map_err(|_| io::ErrorKind::TimedOut)??;
            Ok((stream, machine::now()))
        });
    }
    let (mut open, mut last, mut failed) = (Vec::new(), at, 0);
    while let Some(one) = all.join_next().await {
        match one {
            Ok(Ok((stream, when))) => {
                last = last.max(when);
                open.push(stream);
            }
            _ => failed += 1,
        }
    }
    Answer::Echoed { last_us: last.as_micros() as u64, failed }
}

async fn turns(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = [b'x'; BYTES];
    for _ in 0..TURNS {
        stream.write_all(&buffer).await?;
        stream.read_exact(&mut buffer).await?;
    }
    Ok(stream)
}
