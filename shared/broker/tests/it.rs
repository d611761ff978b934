//! A server's life depends on its parent's.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use pushmesh_broker::{Options, Server};

const STORE_DIR: &str = "PUSHMESH_TEST_STORE_DIR";

/// Not a test of its own: the parent that the test below kills.
#[tokio::test]
async fn parent() {
    let Some(dir) = std::env::var_os(STORE_DIR) else { return };
    let server = Server::start(Options::new(dir)).await.expect("a server");
    println!("\npid {}", server.pid().expect("it runs"));
    std::future::pending::<()>().await;
}

#[test]
fn a_server_dies_with_its_killed_parent() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut parent = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "parent", "--nocapture"])
        .env(STORE_DIR, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this very program");
    let lines = BufReader::new(parent.stdout.take().expect("it is piped")).lines();
    let pid = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("pid ").map(str::to_owned));
    let proc = format!("/proc/{}/stat", pid.expect("the server's pid"));
    assert!(runs(&proc));
    parent.kill().expect("it runs");
    parent.wait().expect("it was killed");
    let begun = Instant::now();
    while runs(&proc) {
        assert!(begun.elapsed() < Duration::from_secs(60), "the server outlives its parent");
        std::thread::yield_now();
    }
}

/// Neither gone nor waiting to be reaped.
fn runs(proc: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new(proc)).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).is_some_and(|state| !"ZX".contains(state))
}
