//! `pushmesh up`: a whole mesh in one process.
//!
//! [`Mesh::start`] is the diagram; [`services`] says how each service is configured there.

mod folder;
mod mesh;
mod services;

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use pushmesh_protocol::{Kind, Partitions, topology::TopologyConfig};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub use self::mesh::Mesh;
use crate::{
    doors::{Ready, default_data},
    exit::{Failure, Outcome},
    output::Output,
    provision::{distinct, partitions},
};

#[derive(Debug, clap::Args)]
pub struct Up {
    /// Folder for all it keeps; the other commands find the mesh by it [default: ~/.local/share/pushmesh]
    #[arg(long, value_name = "DIR", env = "PUSHMESH_DATA")]
    data: Option<PathBuf>,
    /// Print where everything is as one JSON object
    #[arg(long)]
    json: bool,
    /// Let the system choose every port, instead of 7400 to 7498
    #[arg(long)]
    free_ports: bool,
    /// Use this NATS server instead of an own one
    #[arg(long, value_name = "URL")]
    nats_url: Option<String>,
    /// Open the backend doors without tokens; they listen on loopback only
    #[arg(long)]
    insecure_local: bool,
    /// Parts that work is cut into: 1 to 1024, kept from the first start with a data folder on
    #[arg(long, default_value = "16", value_parser = partitions)]
    partitions: Partitions,
    /// Push kinds, separated by commas; others than group, discuss and org are served as flat groups
    #[arg(long, value_delimiter = ',', default_value = "group,discuss,org")]
    kinds: Vec<Kind>,
    /// What is logged, like RUST_LOG: warn, info, comet=debug
    #[arg(long, default_value = "warn")]
    log: String,
    /// Where spans go
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp: Option<String>,
    /// The share of messages that is traced, 0 to 1
    #[arg(long, default_value_t = 1.0)]
    sample_ratio: f64,
    /// Write where everything is into this file, as JSON, once all is ready
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// What a mesh is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Everything it keeps. One mesh a folder.
    pub data: PathBuf,
    /// Let the system choose every port.
    pub free_ports: bool,
    /// Another NATS server than its own.
    pub nats_url: Option<String>,
    /// Open the backend doors without tokens.
    pub insecure_local: bool,
    pub topology: TopologyConfig,
    /// Connections that the comet takes from one address.
    pub connections_per_address: u32,
    /// Logs, spans and metrics of the process. `None`: set up elsewhere, or not at all.
    pub telemetry: Option<pushmesh_telemetry::Config>,
}

impl Options {
    /// A mesh of its own in `folder`, that is in nobody's way.
    pub fn demo(folder: &Path) -> Self {
        Self {
            data: folder.to_owned(),
            free_ports: true,
            nats_url: None,
            insecure_local: false,
            topology: TopologyConfig {
                partitions: Partitions::new(16).expect("16 is in 1 to 1024"),
                ..Default::default()
            },
            connections_per_address: 20_000,
            telemetry: Some(pushmesh_telemetry::Config { log: "error".to_owned(), ..Default::default() }),
        }
    }
}

impl Up {
    pub async fn run(self) -> Outcome {
        distinct(&self.kinds)?;
        let mut signals = Signals::new()?;
        let output = Output { json: self.json };
        let mut mesh = tokio::select! {
            mesh = Mesh::start(self.options()) => mesh?,
            () = signals.next() => return Ok(()),
        };
        if let Some(path) = &self.ready_file {
            mesh.ready().write(path).map_err(Failure::config)?;
        }
        output.line(greeting(mesh.ready(), self.data.is_some()), mesh.ready())?;
        let broken = tokio::select! {
            broken = mesh.broken() => Some(broken),
            () = signals.next() => None,
        };
        if broken.is_none() {
            eprintln!("draining; once more stops at once");
        }
        let stopped = tokio::select! {
            stopped = mesh.stop() => stopped,
            () = signals.next() => return Err(Failure::failed(anyhow!("stopped before all was drained"))),
        };
        match broken {
            Some(error) => Err(Failure::failed(error)),
            None => Ok(stopped?),
        }
    }

    fn options(&self) -> Options {
        Options {
            data: self.data.clone().unwrap_or_else(default_data),
            free_ports: self.free_ports,
            nats_url: self.nats_url.clone(),
            insecure_local: self.insecure_local,
            topology: TopologyConfig { partitions: self.partitions, kinds: self.kinds.clone(), ..Default::default() },
            connections_per_address: 20_000,
            telemetry: Some(pushmesh_telemetry::Config {
                log: self.log.clone(),
                otlp_endpoint: self.otlp.clone(),
                sample_ratio: self.sample_ratio,
                ..Default::default()
            }),
        }
    }
}

/// SIGINT and SIGTERM, whichever comes.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What is where, and what to type next.
fn greeting(ready: &Ready, own_data: bool) -> String {
    let mut text = format!("pushmesh is up; its data is in {}\n\n", ready.data.display());
    for (service, doors) in &ready.doors {
        let doors: Vec<_> = doors.iter().map(|(door, address)| format!("{door} {address}")).collect();
        writeln!(text, "  {service:<14} {}", doors.join("   ")).expect("a String takes everything");
    }
    writeln!(text, "  {:<14} {}", "nats", ready.nats).expect("a String takes everything");
    text.push_str("\nIn a second terminal:\n\n");
    if own_data {
        writeln!(text, "  export PUSHMESH_DATA={}", ready.data.display()).expect("a String takes everything");
    }
    text.push_str(
        "  pushmesh member add group friends alice bob\n  \
           pushmesh call start group friends standup\n  \
           pushmesh tail --user alice\n  \
           pushmesh call end group standup\n  \
           pushmesh token client alice        # for a client of your own\n\n\
         Ctrl-C drains and ends it.",
    );
    text
}
