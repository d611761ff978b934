//! nats-server children.

use std::time::Duration;

use pushmesh_broker::{ClusterOptions, Options, Server};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{Port, wait_for};

/// A server alone, with JetStream, in a directory of its own.
pub struct Nats {
    server: Server,
    _port: Port,
    _dir: Option<TempDir>,
}

impl Nats {
    pub async fn start() -> Nats {
        Self::start_with(|_| {}).await
    }

    /// Starts with changed options, such as `extra` lines of configuration.
    pub async fn start_with(change: impl FnOnce(&mut Options)) -> Nats {
        let dir = tempfile::Builder::new().prefix("pushmesh-nats-").tempdir().expect("a temporary directory");
        let mut options = Options::new(dir.path());
        change(&mut options);
        Self::run(options, Some(dir)).await
    }

    /// On a port that stays its own while it is down.
    async fn run(options: Options, dir: Option<TempDir>) -> Nats {
        let port = Port::take();
        let options = Options { port: port.number(), start_timeout: Duration::from_secs(60), ..options };
        let server = Server::start(options).await.unwrap_or_else(|error| panic!("no nats-server: {error}"));
        Nats { server, _port: port, _dir: dir }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// SIGTERM, and waits for its end.
    pub async fn stop(&mut self) {
        self.server.stop().await;
    }

    /// Kills it if it runs, and starts it again on the same port and data.
    pub async fn restart(&mut self) {
        self.server.restart().await.unwrap_or_else(|error| panic!("no nats-server: {error}"));
    }

    /// SIGSTOP: connections stay, nothing is answered.
    pub fn pause(&self) {
        self.server.pause();
    }

    pub fn resume(&self) {
        self.server.resume();
    }

    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.server.log_file()).unwrap_or_default();
            let lines: Vec<_> = log.lines().rev().take(30).collect();
            eprintln!("--- end of the log of nats-server at {} ---", self.url());
            for line in lines.into_iter().rev() {
                eprintln!("{line}");
            }
        }
        self.server.kill();
    }
}

/// Servers that form one cluster.
pub struct Cluster {
    nodes: Vec<Nats>,
    _routes: Vec<Port>,
    _dir: TempDir,
}

impl Cluster {
    /// Starts `size` servers; ready when JetStream has elected its leader and all of them know it.
    pub async fn start(size: usize) -> Cluster {
        let dir = tempfile::Builder::new().prefix("pushmesh-cluster-").tempdir().expect("a temporary directory");
        let routes: Vec<_> = (0..size).map(|_| Port::take()).collect();
        let peers: Vec<u16> = routes.iter().map(Port::number).collect();
        let mut nodes = Vec::with_capacity(size);
        for (index, port) in peers.iter().enumerate() {
            let options = Options {
                name: format!("node-{index}"),
                monitor_port: Some(0),
                cluster: Some(ClusterOptions { name: "pushmesh".to_owned(), port: *port, peers: peers.clone() }),
                ..Options::new(dir.path().join(format!("node-{index}")))
            };
            nodes.push(Nats::run(options, None).await);
        }
        let cluster = Cluster { nodes, _routes: routes, _dir: dir };
        for node in &cluster.nodes {
            ready(node).await;
        }
        cluster
    }

    /// Starts a server again; returns when it has caught up with the others.
    pub async fn restart(&mut self, index: usize) {
        self.nodes[index].restart().await;
        ready(&self.nodes[index]).await;
    }

    /// All servers, separated by commas.
    pub fn url(&self) -> String {
        self.nodes.iter().map(Nats::url).collect::<Vec<_>>().join(",")
    }

    pub fn node(&mut self, index: usize) -> &mut Nats {
        &mut self.nodes[index]
    }
}

async fn ready(node: &Nats) {
    let url = node.server.monitor_url().expect("it was asked for");
    wait_for("JetStream to be ready in the cluster", Duration::from_secs(120), || healthy(&url)).await;
}

/// Asks the server's own health check.
async fn healthy(url: &str) -> Result<(), String> {
    let address = url.trim_start_matches("http://");
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = ask.await.map_err(|error| error.to_string())?;
    if answer.split(' ').nth(1) == Some("200") { Ok(()) } else { Err(answer) }
}
