//! Running the binary.

use std::{path::Path, time::Duration};

use pushmesh_testkit::{Process, ProcessOptions};
use serde_json::Value;

pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// How the binary is run, with nothing of the caller's environment that it would heed.
pub fn options(args: &[&str]) -> ProcessOptions {
    ProcessOptions::new(env!("CARGO_BIN_EXE_pushmesh")).args(args).env("HOME", "/nonexistent").env("XDG_DATA_HOME", "")
}

/// Runs a command to its end.
pub async fn run(args: &[&str]) -> Done {
    let mut process = Process::run(&args.join(" "), options(args));
    let status = process.ended(PATIENCE).await;
    Done { code: status.code().expect("no signal"), stdout: process.stdout(), stderr: process.stderr() }
}

/// Runs a command on a mesh's data folder; it must succeed. Its lines of JSON.
pub async fn json(data: &Path, args: &[&str]) -> Vec<Value> {
    let data = data.to_str().unwrap();
    let args: Vec<_> = args.iter().copied().chain(["--json", "--mesh", data]).collect();
    let done = run(&args).await;
    assert_eq!(done.code, 0, "{args:?}: {}", done.stderr);
    done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
