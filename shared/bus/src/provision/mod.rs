//! Making a server fit for a mesh: [`provision()`].

mod spec;

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use pushmesh_protocol::{
    message::MeshInfo,
    name::{Bucket, Key, Stream},
    topology::{ConsumerSpec, Storage, Topology},
    wire,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    Bus, KvError,
    api::{CallError, code, subject},
};

/// Requests on their way at once.
const AT_ONCE: usize = 64;
/// How long one request is tried: a cluster that has just started elects its leaders first.
const PATIENCE: Duration = Duration::from_secs(60);

/// What provisioning did and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Like `stream LOGIN`, `consumer p7 of LOGIN`, `bucket mesh`, `kind squad`.
    pub created: Vec<String>,
    pub unchanged: Vec<String>,
    /// What is there and not as it should be. Nothing of it was changed: that is a person's to decide.
    pub differs: Vec<Difference>,
}

/// A field that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub what: String,
    /// In the words of the JetStream API.
    pub field: String,
    /// As JSON.
    pub wanted: String,
    pub found: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProvisionError {
    #[error("NATS did not answer about {what}: {reason}")]
    Outage { what: String, reason: String },
    #[error("NATS refused {what}: {reason}")]
    Rejected { what: String, reason: String },
    #[error(
        "NATS has no room for {what}: the bounds of the mesh's streams and buckets add up to {file} bytes on file and {memory} \
         in memory: raise the server's max_file_store and max_memory_store, or lower stream_max_bytes"
    )]
    NoRoom { what: String, file: u64, memory: u64 },
    #[error("the mesh has {found} partitions and was to have {wanted}: the number never changes")]
    Partitions { wanted: u16, found: u16 },
    #[error("the key info of bucket mesh is malformed: {0}")]
    MalformedInfo(String),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeshInfoError {
    #[error("not provisioned: run `pushmesh provision`")]
    NotProvisioned,
    #[error("NATS did not answer: {0}")]
    Outage(String),
    #[error("the key info of bucket mesh is malformed: {0}")]
    Malformed(String),
}

/// What the mesh was provisioned with.
pub async fn mesh_info(bus: &Bus) -> Result<MeshInfo, MeshInfoError> {
    Ok(read_info(bus, bus.inner.config.kv_timeout).await?.ok_or(MeshInfoError::NotProvisioned)?.1)
}

/// Creates what is missing. Idempotent, and safe to run from many places at once; never changes or deletes what is there,
/// but adds new kinds to the mesh's info.
pub async fn provision(bus: &Bus, topology: &Topology) -> Result<Report, ProvisionError> {
    let config = &topology.config;
    let wanted = MeshInfo { partitions: config.partitions, kinds: config.kinds.clone() };
    // Before anything is created: consumers of partitions that nobody will own would hold messages for ever.
    if let Some((_, found)) = read_info(bus, PATIENCE).await? {
        same_partitions(&wanted, &found)?;
    }
    let mut report = Report::default();
    let streams = topology.streams.iter().map(|spec| (format!("stream {}", spec.name), spec::stream(spec)));
    let buckets = topology.buckets.iter().map(|spec| (format!("bucket {}", spec.name), spec::bucket(spec)));
    let made: Vec<_> = stream::iter(streams.chain(buckets))
        .map(|(what, config)| one_stream(bus, topology, what, config))
        .buffered(AT_ONCE)
        .collect()
        .await;
    for outcome in made {
        report.add(outcome?);
    }
    consumers(bus, topology, &mut report).await?;
    info(bus, &wanted, &mut report).await?;
    Ok(report)
}

/// One thing, and how it was found.
struct Outcome {
    what: String,
    created: bool,
    differs: Vec<(String, String, String)>,
}

impl Report {
    fn add(&mut self, Outcome { what, created, differs }: Outcome) {
        // A server of another version may make something otherwise than asked: that is told too.
        let of = |(field, wanted, found)| Difference { what: what.clone(), field, wanted, found };
        let as_wanted = differs.is_empty();
        self.differs.extend(differs.into_iter().map(of));
        if created {
            self.created.push(what);
        } else if as_wanted {
            self.unchanged.push(what);
        }
    }
}

async fn one_stream(bus: &Bus, topology: &Topology, what: String, wanted: Value) -> Result<Outcome, ProvisionError> {
    #[derive(Deserialize)]
    struct Info {
        config: Value,
    }
    let name = wanted["name"].as_str().expect("every spec has a name");
    let stream = Stream::from_server(name);
    let deadline = Instant::now() + PATIENCE;
    let info = async || bus.call::<Info>(&subject::stream_info(&stream), Bytes::new(), deadline).await;
    match info().await {
        Ok(found) => {
            let differs = spec::differences(&wanted, &found.config);
            return Ok(Outcome { what, created: false, differs });
        }
        Err(error) if error.has_code(code::STREAM_NOT_FOUND) => {}
        Err(error) => return Err(failed(what, error)),
    }
    match bus.call::<Info>(&subject::stream_create(&stream), wanted.to_string(), deadline).await {
        Ok(found) => {
            let differs = spec::differences(&wanted, &found.config);
            Ok(Outcome { what, created: true, differs })
        }
        // Somebody else was faster.
        Err(error) if error.has_code(code::STREAM_NAME_IN_USE) => match info().await {
            Ok(found) => {
                let differs = spec::differences(&wanted, &found.config);
                Ok(Outcome { what, created: false, differs })
            }
            Err(error) => Err(failed(what, error)),
        },
        Err(error) if error.has_code(code::STORAGE_EXCEEDED) || error.has_code(code::MEMORY_EXCEEDED) => {
            let [file, memory] = [Storage::File, Storage::Memory].map(|storage| topology.bounds(storage));
            Err(ProvisionError::NoRoom { what, file, memory })
        }
        Err(error) => Err(failed(what, error)),
    }
}

async fn consumers(bus: &Bus, topology: &Topology, report: &mut Report) -> Result<(), ProvisionError> {
    let mut found: HashMap<&Stream, HashMap<String, Value>> = HashMap::new();
    for spec in &topology.consumers {
        if !found.contains_key(&spec.stream) {
            found.insert(&spec.stream, list_consumers(bus, &spec.stream).await?);
        }
    }
    let outcomes: Vec<_> = stream::iter(&topology.consumers)
        .map(|spec| one_consumer(bus, spec, found[&spec.stream].get(spec.name.as_str())))
        .buffered(AT_ONCE)
        .collect()
        .await;
    for outcome in outcomes {
        report.add(outcome?);
    }
    Ok(())
}

async fn one_consumer(bus: &Bus, spec: &ConsumerSpec, found: Option<&Value>) -> Result<Outcome, ProvisionError> {
    let what = format!("consumer {} of {}", spec.name, spec.stream);
    let wanted = spec::consumer(spec);
    if let Some(found) = found {
        return Ok(Outcome { what, created: false, differs: spec::differences(&wanted, found) });
    }
    #[derive(Deserialize)]
    struct Info {
        config: Value,
    }
    let create = subject::consumer_create(&spec.stream, spec.name.as_str(), spec.filter.as_str());
    let request = json!({ "stream_name": spec.stream.as_str(), "config": wanted, "action": "create" });
    let deadline = Instant::now() + PATIENCE;
    match bus.call::<Info>(&create, request.to_string(), deadline).await {
        Ok(_) => Ok(Outcome { what, created: true, differs: vec![] }),
        Err(error) if error.has_code(code::CONSUMER_EXISTS) || error.has_code(code::CONSUMER_NAME_IN_USE) => {
            let info = subject::consumer_info(&spec.stream, spec.name.as_str());
            match bus.call::<Info>(&info, Bytes::new(), deadline).await {
                Ok(found) => Ok(Outcome { what, created: false, differs: spec::differences(&wanted, &found.config) }),
                Err(error) => Err(failed(what, error)),
            }
        }
        Err(error) => Err(failed(what, error)),
    }
}

/// Name and configuration of all consumers of a stream.
async fn list_consumers(bus: &Bus, stream: &Stream) -> Result<HashMap<String, Value>, ProvisionError> {
    #[derive(Deserialize)]
    struct Page {
        total: usize,
        consumers: Option<Vec<Consumer>>,
    }
    #[derive(Deserialize)]
    struct Consumer {
        name: String,
        config: Value,
    }
    let mut all = HashMap::new();
    let mut offset = 0;
    loop {
        let request = json!({ "offset": offset }).to_string();
        let deadline = Instant::now() + PATIENCE;
        let page: Page = bus
            .call(&subject::consumer_list(stream), request, deadline)
            .await
            .map_err(|error| failed(format!("the consumers of {stream}"), error))?;
        let consumers = page.consumers.unwrap_or_default();
        offset += consumers.len();
        let last = consumers.is_empty() || offset >= page.total;
        all.extend(consumers.into_iter().map(|consumer| (consumer.name, consumer.config)));
        if last {
            return Ok(all);
        }
    }
}

async fn info(bus: &Bus, wanted: &MeshInfo, report: &mut Report) -> Result<(), ProvisionError> {
    let what = || "key info of bucket mesh".to_owned();
    let kv_failed = |error: KvError| match error {
        KvError::Outage(reason) => ProvisionError::Outage { what: what(), reason },
        error => ProvisionError::Rejected { what: what(), reason: error.to_string() },
    };
    let mesh = bus.bucket_within(&Bucket::MESH, PATIENCE).await.map_err(kv_failed)?;
    let key = Key::mesh_info();
    match mesh.create(&key, wire::encode(wanted).into()).await {
        Ok(_) => {
            report.created.push(what());
            return Ok(());
        }
        Err(KvError::Exists) => {}
        Err(error) => return Err(kv_failed(error)),
    }
    let Some((revision, mut found)) = read_info(bus, PATIENCE).await? else {
        return Err(ProvisionError::Rejected { what: what(), reason: "it vanished".to_owned() });
    };
    same_partitions(wanted, &found)?;
    let new: Vec<_> = wanted.kinds.iter().filter(|kind| !found.kinds.contains(kind)).cloned().collect();
    let extra: Vec<_> = found.kinds.iter().filter(|kind| !wanted.kinds.contains(kind)).map(|k| k.to_string()).collect();
    if !extra.is_empty() {
        report.differs.push(Difference {
            what: what(),
            field: "kinds".to_owned(),
            wanted: format!("without {}", extra.join(", ")),
            found: "with them".to_owned(),
        });
    }
    if new.is_empty() {
        if extra.is_empty() {
            report.unchanged.push(what());
        }
        return Ok(());
    }
    found.kinds.extend(new.iter().cloned());
    mesh.update(&key, wire::encode(&found).into(), revision).await.map_err(kv_failed)?;
    report.created.extend(new.iter().map(|kind| format!("kind {kind}")));
    Ok(())
}

fn same_partitions(wanted: &MeshInfo, found: &MeshInfo) -> Result<(), ProvisionError> {
    let (wanted, found) = (wanted.partitions.count(), found.partitions.count());
    if wanted == found { Ok(()) } else { Err(ProvisionError::Partitions { wanted, found }) }
}

/// The mesh's info with its revision; `None` where there is none yet.
async fn read_info(bus: &Bus, patience: Duration) -> Result<Option<(u64, MeshInfo)>, MeshInfoError> {
    let outage = |error: KvError| MeshInfoError::Outage(error.to_string());
    let mesh = match bus.bucket_within(&Bucket::MESH, patience).await {
        Ok(mesh) => mesh,
        Err(KvError::NoBucket(_)) => return Ok(None),
        Err(error) => return Err(outage(error)),
    };
    let Some(entry) = mesh.get(&Key::mesh_info()).await.map_err(outage)? else { return Ok(None) };
    let info = wire::decode(&entry.value).map_err(|error| MeshInfoError::Malformed(error.to_string()))?;
    Ok(Some((entry.revision, info)))
}

fn failed(what: String, error: CallError) -> ProvisionError {
    let reason = error.to_string();
    if error.is_passing() { ProvisionError::Outage { what, reason } } else { ProvisionError::Rejected { what, reason } }
}

impl From<MeshInfoError> for ProvisionError {
    fn from(error: MeshInfoError) -> Self {
        match error {
            MeshInfoError::Malformed(reason) => Self::MalformedInfo(reason),
            error => Self::Outage { what: "key info of bucket mesh".to_owned(), reason: error.to_string() },
        }
    }
}
