//! A mesh that `pushmesh up` runs.

use std::fs;

use pushmesh_testkit::{Process, wait_for};
use serde_json::Value;

use crate::command::{PATIENCE, options};

pub struct Mesh {
    pub process: Process,
    pub ready: Value,
    pub dir: tempfile::TempDir,
}

impl Mesh {
    pub async fn up(extra: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (data, file) = (dir.path().join("data"), dir.path().join("ready.json"));
        let args = ["up", "--free-ports", "--partitions", "8", "--data", data.to_str().unwrap(), "--ready-file"];
        let args: Vec<_> = args.into_iter().chain([file.to_str().unwrap()]).chain(extra.iter().copied()).collect();
        let process = Process::run("up", options(&args));
        let process = std::sync::Mutex::new(process);
        let ready = wait_for("up to be ready", PATIENCE, async || {
            let mut process = process.lock().unwrap();
            assert!(process.is_running(), "up ended: {}", process.stderr());
            fs::read(&file).map_err(|error| format!("{error}; log: {}", process.stderr()))
        });
        let ready = serde_json::from_slice(&ready.await).unwrap();
        Self { process: process.into_inner().unwrap(), ready, dir }
    }

    pub fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    pub fn door(&self, service: &str, door: &str) -> &str {
        self.ready["doors"][service][door].as_str().unwrap_or_else(|| panic!("no {door} of {service}: {}", self.ready))
    }
}
