//! `pushmesh provision`: what a mesh needs on its NATS server.

use std::{path::PathBuf, time::Duration};

use anyhow::anyhow;
use pushmesh_bus::{Bus, ConnectError, Report};
use pushmesh_protocol::{
    Instance, Kind, Partitions, Token,
    topology::{RoomStream, TopologyConfig, topology},
};

use crate::{
    doors::Place,
    duration,
    exit::{Failure, Outcome},
};

#[derive(Debug, clap::Args)]
pub struct Provision {
    /// Servers, separated by commas [default: the running mesh's]
    #[arg(long, value_name = "URL", env = "PUSHMESH_NATS__URL")]
    nats_url: Option<String>,
    /// File with an nkey seed
    #[arg(long, value_name = "FILE")]
    nkey_seed_file: Option<PathBuf>,
    /// File with a user JWT and seed
    #[arg(long, value_name = "FILE")]
    credentials_file: Option<PathBuf>,
    #[command(flatten)]
    topology: Shape,
    #[command(flatten)]
    place: Place,
}

/// What a mesh is provisioned with.
#[derive(Debug, Clone, clap::Args)]
pub struct Shape {
    /// Parts that work is cut into: 1 to 1024, never changed later
    #[arg(long, default_value = "64", value_parser = partitions)]
    pub partitions: Partitions,
    /// Copies of every stream and bucket: 1 to 5, in a cluster 3
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    pub replicas: u8,
    /// Push kinds, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "group,discuss,org")]
    pub kinds: Vec<Kind>,
    /// Bytes that each stream and bucket may hold, where nothing else is said; LOGIN, PUSH, LATE and buckets then refuse what is new
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30)]
    pub stream_max_bytes: u64,
    /// Of ROOM_HIGH: gifts and chat, refused when it is full [default: --stream-max-bytes]
    #[arg(long, value_name = "BYTES")]
    pub room_high_max_bytes: Option<u64>,
    /// How long gifts and chat can be read again: 62m to 24h [default: 2h]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub room_high_max_age: Option<Duration>,
    /// Of ROOM_NORMAL: state, mutes, roles; the oldest go when it is full [default: --stream-max-bytes]
    #[arg(long, value_name = "BYTES")]
    pub room_normal_max_bytes: Option<u64>,
    /// How long these can be read again: 2m to 24h [default: 24h]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub room_normal_max_age: Option<Duration>,
    /// Of ROOM_LOW: likes and notes; the oldest go when it is full [default: --stream-max-bytes]
    #[arg(long, value_name = "BYTES")]
    pub room_low_max_bytes: Option<u64>,
    /// How long these can be read again: 2m to 24h [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub room_low_max_age: Option<Duration>,
}

impl Shape {
    /// Or which of the settings no mesh can have.
    pub fn config(&self) -> Result<TopologyConfig, Failure> {
        let stream = |max_bytes, max_age| RoomStream { max_bytes, max_age };
        let config = TopologyConfig {
            partitions: self.partitions,
            kinds: self.kinds.clone(),
            replicas: self.replicas,
            stream_max_bytes: self.stream_max_bytes,
            room_high: stream(self.room_high_max_bytes, self.room_high_max_age),
            room_normal: stream(self.room_normal_max_bytes, self.room_normal_max_age),
            room_low: stream(self.room_low_max_bytes, self.room_low_max_age),
        };
        config.validate().map_err(Failure::usage)?;
        Ok(config)
    }
}

pub fn partitions(text: &str) -> Result<Partitions, String> {
    let count = text.parse().map_err(|_| "must be 1 to 1024".to_owned())?;
    Partitions::new(count).map_err(|error| error.to_string())
}

impl Provision {
    pub async fn run(self) -> Outcome {
        distinct(&self.topology.kinds)?;
        let config = self.topology.config()?;
        let url = match self.nats_url {
            Some(url) => url,
            None => self.place.nats()?,
        };
        let nats = pushmesh_bus::Config {
            nkey_seed_file: self.nkey_seed_file,
            credentials_file: self.credentials_file,
            ..pushmesh_bus::Config::to(url)
        };
        let bus = connect(&nats, "provision").await?;
        let report = pushmesh_bus::provision(&bus, &topology(&config)).await;
        bus.drain().await;
        let report = report.map_err(|error| {
            let outage = matches!(error, pushmesh_bus::ProvisionError::Outage { .. });
            if outage { Failure::unavailable(error) } else { Failure::config(error) }
        })?;
        self.place.output().line(told(&report), &report)?;
        match report.differs.len() {
            0 => Ok(()),
            count => {
                Err(Failure::config(anyhow!("{count} fields differ from what was asked for; nothing was changed")))
            }
        }
    }
}

/// Connects the command line itself to a server.
pub async fn connect(config: &pushmesh_bus::Config, what: &str) -> Result<Bus, Failure> {
    config.validate().map_err(Failure::config)?;
    let service = Token::new("pushmesh-cli").expect("a token");
    let instance = Instance::new(&format!("{what}-{}", std::process::id())).expect("words and a number");
    Bus::connect(config, &service, &instance).await.map_err(|error| match error {
        // Its text has its source's.
        ConnectError::Config(wrong) => Failure::config(anyhow!("NATS address {:?}: {}", config.url, wrong.reason)),
        ConnectError::Secret { .. } | ConnectError::Refused { .. } => Failure::config(error),
        ConnectError::Unreachable { .. } => Failure::unavailable(error),
    })
}

/// A kind is one service's: named twice, two would share its work without knowing.
pub fn distinct(kinds: &[Kind]) -> Result<(), Failure> {
    match kinds.iter().enumerate().find(|(place, kind)| kinds[..*place].contains(kind)) {
        Some((_, kind)) => Err(Failure::usage(anyhow!("--kinds: {kind} is named twice"))),
        None => Ok(()),
    }
}

fn told(report: &Report) -> String {
    let mut text = format!("{} created, {} unchanged", report.created.len(), report.unchanged.len());
    for created in &report.created {
        text.push_str(&format!("\ncreated {created}"));
    }
    for found in &report.differs {
        text.push_str(&format!(
            "\ndiffers: {} {}: wanted {}, found {}",
            found.what, found.field, found.wanted, found.found
        ));
    }
    text
}
