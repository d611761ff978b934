//! How the server is to run, and the configuration file made of it.

use std::{fmt::Write, path::PathBuf, time::Duration};

/// How to run a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// Everything the server writes: its streams, configuration, log and ports. Created if missing.
    pub store_dir: PathBuf,
    /// Address to listen on. Default 127.0.0.1.
    pub host: String,
    /// 0: a free one, kept over restarts of the same [`Server`](crate::Server).
    pub port: u16,
    /// HTTP monitoring on this port of the loopback address; 0: a free one. Default none.
    pub monitor_port: Option<u16>,
    /// How often what was acknowledged is synced to disk: "always" or a duration. Default "1s".
    pub sync_interval: String,
    /// Bytes that the bounds of all streams on file may add up to. Default 64 GiB: without a figure the server takes three
    /// quarters of what is free on the disk, and refuses a mesh on a disk that its streams would never fill.
    pub max_file_store: u64,
    /// The server's name; must be unique in a cluster. Default "pushmesh".
    pub name: String,
    /// Default none: a server alone.
    pub cluster: Option<ClusterOptions>,
    /// Lines for the configuration file, such as `authorization { … }`. Default none.
    pub extra: String,
    /// How long it may take to accept connections. Default 20 s.
    pub start_timeout: Duration,
}

/// A server's place in a cluster.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    pub name: String,
    /// Port for the other servers.
    pub port: u16,
    /// Cluster ports of all servers on this host.
    pub peers: Vec<u16>,
}

impl Options {
    pub fn new(store_dir: impl Into<PathBuf>) -> Self {
        Self {
            store_dir: store_dir.into(),
            host: "127.0.0.1".to_owned(),
            port: 0,
            monitor_port: None,
            sync_interval: "1s".to_owned(),
            max_file_store: 64 << 30,
            name: "pushmesh".to_owned(),
            cluster: None,
            extra: String::new(),
            start_timeout: Duration::from_secs(20),
        }
    }

    /// The configuration file.
    pub(crate) fn render(&self, port: u16) -> String {
        let Self { host, name, sync_interval, max_file_store, extra, .. } = self;
        let mut text = format!(
            "server_name: {name:?}\n\
             listen: \"{host}:{port}\"\n\
             max_payload: 1MB\n\
             max_pending: 64MB\n\
             write_deadline: \"10s\"\n\
             ping_interval: \"10s\"\n\
             ping_max: 2\n\
             lame_duck_duration: \"30s\"\n\
             lame_duck_grace_period: \"1s\"\n\
             jetstream {{\n  store_dir: {store:?}\n  sync_interval: {sync_interval:?}\n  \
             max_file_store: {max_file_store}\n}}\n",
            store = self.store_dir.join("data"),
        );
        let push = |text: &mut String, line: std::fmt::Arguments<'_>| {
            text.write_fmt(line).expect("a String takes everything");
        };
        if let Some(port) = self.monitor_port {
            push(&mut text, format_args!("http: \"127.0.0.1:{}\"\n", if port == 0 { -1 } else { i32::from(port) }));
        }
        if let Some(cluster) = &self.cluster {
            let routes: Vec<_> = cluster.peers.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
            push(
                &mut text,
                format_args!(
                    "cluster {{\n  name: {:?}\n  listen: \"127.0.0.1:{}\"\n  routes: [{}]\n}}\n",
                    cluster.name,
                    cluster.port,
                    routes.join(", ")
                ),
            );
        }
        text.push_str(extra);
        text
    }
}
