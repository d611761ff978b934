//! A demo that is not let finish.

use std::path::Path;

use pushmesh_testkit::{Process, wait_for};

use crate::command::{PATIENCE, options};

/// A demo whose temporary folders are in `dir`; nobody takes part but a few viewers.
fn demo(dir: &Path) -> Process {
    let args = ["demo", "--json", "--speed", "0.1", "--viewers", "20", "--processes", "1"];
    Process::run("demo", options(&args).env("TMPDIR", dir))
}

fn folders(dir: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// It ends with 130, without a verdict, and nothing is left.
async fn expect_interrupted(mut demo: Process, dir: &Path) {
    demo.expect_exit(130, PATIENCE).await;
    assert!(demo.stderr().contains("error: interrupted"), "{}", demo.stderr());
    assert_eq!(demo.stdout(), "");
    assert_eq!(folders(dir), [""; 0].map(std::path::PathBuf::from), "its folder is left");
}

#[tokio::test]
async fn a_demo_that_is_interrupted_leaves_no_folder() {
    let dir = tempfile::tempdir().unwrap();
    let mut starting = demo(dir.path());
    let server = || folders(dir.path()).iter().any(|folder| folder.join("nats/nats-server.log").exists());
    wait_for("its nats-server", PATIENCE, async || if server() { Ok(()) } else { Err("no log") }).await;
    starting.interrupt();
    expect_interrupted(starting, dir.path()).await;

    let mut playing = demo(dir.path());
    wait_for("the viewers", PATIENCE, async || {
        let said = playing.stderr();
        if said.contains("viewers are in their rooms") { Ok(()) } else { Err(said) }
    })
    .await;
    playing.term();
    expect_interrupted(playing, dir.path()).await;
}
