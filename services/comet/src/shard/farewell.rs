//! The end of a socket: last words that arrive.
//!
//! A socket that is closed with unread bytes in it is reset, and the reset overtakes the words that say why. So the
//! socket is shut for writing first and read empty for a moment: bounded in time, bytes and number.

use std::{cell::Cell, io, rc::Rc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::Shard;

/// How long a client may take nothing of its last words, and how long it may take them all; then how long it may
/// take to close.
const NOTHING_FOR: Duration = Duration::from_secs(2);
const ALL_WITHIN: Duration = Duration::from_secs(10);
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// Bytes that are read and thrown away while it does.
const READ_MAX_BYTES: usize = 256 * 1024;
/// Sockets of one shard in this state; beyond it they are closed at once.
const AT_ONCE: usize = 4096;

impl Shard {
    /// Says `words`, and closes the socket in its own time.
    pub fn part(self: Rc<Self>, stream: TcpStream, words: Vec<u8>) {
        let Some(courtesy) = Courtesy::take(&self.courtesies, AT_ONCE) else {
            let _ = stream.try_write(&words);
            return;
        };
        tokio::task::spawn_local(async move {
            say(stream, &words).await;
            drop(courtesy);
        });
    }
}

/// Closes at once; what the kernel still holds for a reader that doesn't read is thrown away.
pub fn hang_up(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// Writes `words` and waits until the client has read them and gone, within bounds.
pub async fn say(mut stream: TcpStream, words: &[u8]) {
    // A client that doesn't listen has lost nothing by not being told.
    if let Ok(Ok(())) = timeout(ALL_WITHIN, write(&mut stream, words)).await {
        let _ = timeout(CLOSE_WITHIN, read_empty(&mut stream)).await;
    }
}

async fn write(stream: &mut TcpStream, mut words: &[u8]) -> io::Result<()> {
    while !words.is_empty() {
        let written = timeout(NOTHING_FOR, stream.write(words)).await??;
        words = &words[written..];
    }
    stream.shutdown().await
}

async fn read_empty(stream: &mut TcpStream) -> io::Result<()> {
    let (mut sink, mut total) = (Vec::with_capacity(2048), 0);
    while total < READ_MAX_BYTES {
        sink.clear();
        match stream.read_buf(&mut sink).await? {
            0 => break,
            bytes => total += bytes,
        }
    }
    Ok(())
}

/// One of a bounded number.
pub struct Courtesy(Rc<Cell<usize>>);

impl Courtesy {
    pub fn take(count: &Rc<Cell<usize>>, most: usize) -> Option<Self> {
        (count.get() < most).then(|| {
            count.set(count.get() + 1);
            Self(count.clone())
        })
    }
}

impl Drop for Courtesy {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
