//! Streams that lose what they held: all of it, what is old, or their end.

use std::path::{Path, PathBuf};

use crate::{
    mesh::{Crew, LONG, Mesh},
    server::{delete_stream, purge_but},
    viewer::Viewer,
};

const SETTINGS: [&str; 1] = ["service.write_every=100ms"];
const MISSING: &str = "pushmesh_room_fanout_missing_total";

/// Gifts and a line, told and counted.
async fn say(mesh: &Mesh, ann: &mut Viewer, gifts: &[u64]) {
    let (count, lines) = (ann.count("gift") + gifts.len(), ann.count("chat") + 1);
    for value in gifts {
        mesh.give("a", "bob", *value).await;
    }
    mesh.chat("a", "bob", &format!("line {lines}")).await;
    ann.until("all that was said", |ann| (ann.count("gift"), ann.count("chat")) == (count, lines)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_deleted_and_made_again_leaves_the_sums_and_what_comes_counts() {
    let mesh = Mesh::start().await;
    let mut crew = Crew::start(&mesh, &["one"], &SETTINGS).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    say(&mesh, &mut ann, &[1, 2, 3]).await;
    let before = ann.position;
    delete_stream(&mesh.nats, "ROOM_HIGH").await;
    mesh.provision().await;
    mesh.give("a", "bob", 10).await;
    mesh.expect_total("a", 16).await;
    ann.until("to be told of a gap", |ann| ann.lost > 0).await;
    assert!(ann.position.epoch > before.epoch);
    assert!(!Viewer::come_back(&mesh, "a", "ann", Some(before)).await.joined.recovered);
    crew.add(&mesh, "two", &SETTINGS).await;
    crew.get("one").kill();
    say(&mesh, &mut ann, &[20]).await;
    mesh.expect_total("a", 36).await;
    assert_eq!(mesh.ranking("a").await, (vec![("bob".to_owned(), 36)], 36));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_purged_but_for_its_newest_loses_nothing_that_was_applied() {
    let mesh = Mesh::start().await;
    let mut crew = Crew::start(&mesh, &["one"], &SETTINGS).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    say(&mesh, &mut ann, &[1, 2, 3]).await;
    let before = ann.position;
    purge_but(&mesh.nats, "ROOM_HIGH", 1).await;
    say(&mesh, &mut ann, &[10]).await;
    crew.add(&mesh, "two", &SETTINGS).await;
    crew.get("one").kill();
    say(&mesh, &mut ann, &[20]).await;
    mesh.expect_total("a", 36).await;
    assert_eq!((ann.lost, ann.position.epoch), (0, before.epoch));
    assert_eq!(mesh.metric(crew.at("two"), MISSING).await, 0.0);
    assert!(Viewer::come_back(&mesh, "a", "ann", Some(before)).await.joined.recovered);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A copy of one stream's directory, of an earlier time.
struct Copy {
    of: PathBuf,
    kept: tempfile::TempDir,
}

impl Copy {
    /// The server is stopped for it.
    async fn make(mesh: &mut Mesh, stream: &str) -> Copy {
        mesh.nats.stop().await;
        let of = mesh.nats.server().store_dir().join("data/jetstream/$G/streams").join(stream);
        let kept = tempfile::tempdir().unwrap();
        copy(&of, kept.path());
        mesh.nats.restart().await;
        Copy { of, kept }
    }

    async fn put_back(&self, mesh: &mut Mesh) {
        mesh.nats.stop().await;
        std::fs::remove_dir_all(&self.of).unwrap();
        copy(self.kept.path(), &self.of);
        mesh.nats.restart().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_restored_from_an_older_copy_is_noticed_and_what_comes_counts() {
    let mut mesh = Mesh::start().await;
    let mut crew = Crew::start(&mesh, &["one"], &SETTINGS).await;
    let mut ann = Viewer::join(&mesh, "a", "ann").await;
    say(&mesh, &mut ann, &[1, 2, 3]).await;
    let older = Copy::make(&mut mesh, "ROOM_HIGH").await;
    say(&mesh, &mut ann, &[10, 20, 30, 40]).await;
    let before = ann.position;
    // Under an owner that lives.
    older.put_back(&mut mesh).await;
    mesh.give("a", "bob", 100).await;
    mesh.expect_total("a", 206).await;
    assert!(mesh.metric(crew.at("one"), MISSING).await >= 1.0);
    ann.until("to be told of a gap", |ann| ann.lost > 0).await;
    say(&mesh, &mut ann, &[200]).await;
    mesh.expect_total("a", 406).await;
    assert!(ann.position.epoch > before.epoch);
    assert!(
        !Viewer::come_back(&mesh, "a", "ann", Some(before)).await.joined.recovered,
        "his offsets mean other messages"
    );
    // And once more, while nobody owns it.
    let before = ann.position;
    for n in 0..5 {
        say(&mesh, &mut ann, &[n]).await;
    }
    crew.get("one").expect_drained(LONG).await;
    older.put_back(&mut mesh).await;
    mesh.give("a", "cat", 1_000).await;
    crew.add(&mesh, "two", &SETTINGS).await;
    mesh.expect_total("a", 1_416).await;
    assert!(mesh.metric(crew.at("two"), MISSING).await >= 1.0);
    assert!(!Viewer::come_back(&mesh, "a", "ann", Some(before)).await.joined.recovered);
    // The third owner has learned it from the second.
    crew.add(&mesh, "three", &SETTINGS).await;
    crew.get("two").kill();
    mesh.give("a", "bob", 10_000).await;
    mesh.expect_total("a", 11_416).await;
    assert_eq!(mesh.metric(crew.at("three"), MISSING).await, 0.0);
    assert_eq!(mesh.ranking("a").await.0, [("bob".to_owned(), 10_416), ("cat".to_owned(), 1_000)]);
}
