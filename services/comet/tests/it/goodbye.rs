//! A comet goes with many clients: they are not all sent to the next one at once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pushmesh_protocol::frame::{Reconnect, ServerFrame};

use crate::{
    harness::{Tcp, login},
    mesh::Mesh,
};

const CLIENTS: usize = 200;
const DRAIN_FOR: Duration = Duration::from_secs(8);
const SPREAD: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_sent_away_in_slices_and_come_back_at_different_times() {
    let mesh = Mesh::start().await;
    let _ingest = mesh.ingest().await;
    let going = mesh
        .comet("comet-1", |config| {
            config.drain_for = DRAIN_FOR;
            config.reconnect_spread = SPREAD;
        })
        .await;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        clients.push(Tcp::log_in(&going, login(&mesh.token(&format!("user-{number}"), None))).await.0);
    }
    let begun = Instant::now();
    let goodbye = tokio::spawn(going.drain());
    let leaving = clients.into_iter().map(|mut client| async move {
        let Some(ServerFrame::Reconnect(Reconnect { after_ms, .. })) = client.next().await else {
            panic!("no RECONNECT")
        };
        (after_ms, begun.elapsed())
    });
    let told = join_all(leaving).await;
    // The first half of the time is for slices. A busy machine makes them later, and none earlier.
    let last = told.iter().map(|(_, at)| *at).max().expect("some");
    assert!(last >= DRAIN_FOR / 4, "all were sent away within {last:?}");
    let delays: Vec<_> = told.iter().map(|(after_ms, _)| u64::from(*after_ms)).collect();
    assert!(delays.iter().all(|after| *after <= SPREAD.as_millis() as u64), "{delays:?}");
    let soon = delays.iter().filter(|after| **after < SPREAD.as_millis() as u64 / 2).count();
    let about_half = CLIENTS / 4..=CLIENTS * 3 / 4;
    assert!(about_half.contains(&soon), "{soon} of {CLIENTS} come back within half of the time: {delays:?}");
    goodbye.await.unwrap();
}
