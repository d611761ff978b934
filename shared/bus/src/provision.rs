//! Making a server fit for a mesh.
use crate::Bus;
use pushmesh_protocol::{message::MeshInfo, topology::Topology};

/// What provisioning did and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    pub created: Vec<String>,
    pub unchanged: Vec<String>,
    pub differs: Vec<Difference>,
}

/// A field that is not as it should be; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// Like `stream LOGIN`.
    pub what: String,
    pub field: String,
    pub wanted: String,
    pub found: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProvisionError {
    #[error("NATS did not answer: {0}")]
    Outage(String),
    #[error("NATS refused {what}: {reason}")]
    Rejected { what: String, reason: String },
    #[error("the server has no JetStream: {0}")]
    NoJetStream(String),
    #[error("the mesh has {found} partitions and was to have {wanted}: that never changes")]
    Partitions { wanted: u16, found: u16 },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MeshInfoError {
    #[error("not provisioned: run `pushmesh provision`")]
    NotProvisioned,
    #[error("NATS did not answer: {0}")]
    Outage(String),
    #[error("key info of bucket mesh is malformed: {0}")]
    Malformed(String),
}

/// Creates what is missing. Idempotent; never changes or deletes what is there.
pub async fn provision(bus: &Bus, topology: &Topology) -> Result<Report, ProvisionError> {
    let _ = (bus, topology);
    Err(ProvisionError::Outage(String::new()))
}

/// What the mesh was provisioned with.
pub async fn mesh_info(bus: &Bus) -> Result<MeshInfo, MeshInfoError> {
    let _ = bus;
    Err(MeshInfoError::NotProvisioned)
}
