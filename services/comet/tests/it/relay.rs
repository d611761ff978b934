//! What stands between a comet and its nats-server, and lets through what the test wants.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::task::AbortOnDropHandle;

/// A relay of NATS connections. They end with it.
pub struct Relay {
    port: u16,
    /// Connections by their role, as their names end: `main`, `heartbeat`.
    seen: Arc<Mutex<BTreeMap<String, usize>>>,
    muted: watch::Sender<Option<&'static str>>,
    _task: AbortOnDropHandle<()>,
}

impl Relay {
    pub async fn to(nats: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (muted, is_muted) = watch::channel(None);
        let seen = Arc::<Mutex<BTreeMap<String, usize>>>::default();
        let count = seen.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", nats)).await else { continue };
                connections.spawn(carry(client, server, count.clone(), is_muted.clone()));
            }
        });
        Self { port, seen, muted, _task: AbortOnDropHandle::new(task) }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// From now on nothing that connections of this role say arrives; it is held back.
    pub fn mute(&self, role: &'static str) {
        self.muted.send_replace(Some(role));
    }

    /// What was held back arrives.
    pub fn unmute(&self) {
        self.muted.send_replace(None);
    }

    /// How many connections of this role there have been.
    pub fn connections(&self, role: &str) -> usize {
        self.seen.lock().unwrap().get(role).copied().unwrap_or_default()
    }
}

async fn carry(
    client: TcpStream,
    server: TcpStream,
    seen: Arc<Mutex<BTreeMap<String, usize>>>,
    mut muted: watch::Receiver<Option<&'static str>>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let down = tokio::io::copy(&mut from_server, &mut to_client);
    let up = async {
        let (mut buf, mut role) = (Vec::new(), String::new());
        while from_client.read_buf(&mut buf).await.is_ok_and(|read| read > 0) {
            if role.is_empty() {
                let Some(found) = role_in(&buf) else { continue };
                *seen.lock().unwrap().entry(found.clone()).or_default() += 1;
                role = found;
            }
            if muted.wait_for(|muted| *muted != Some(role.as_str())).await.is_err()
                || to_server.write_all(&buf).await.is_err()
            {
                return;
            }
            buf.clear();
        }
    };
    tokio::select! {
        _ = down => {}
        () = up => {}
    }
}

// `CONNECT {…,"name":"comet/comet-1/heartbeat",…}`
fn role_in(buf: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(buf).ok()?.lines().find(|line| line.starts_with("CONNECT "))?;
    let name = line.split_once(r#""name":""#)?.1.split_once('"')?.0;
    Some(name.rsplit('/').next().unwrap_or(name).to_owned())
}
