//! A comet that nobody hears, and what it does when it is heard again.

use std::time::{Duration, Instant};

use comet::Config;
use pushmesh_protocol::name::Key;
use pushmesh_testkit::wait_for;

use crate::{
    harness::{SOON, Tcp, login, push},
    mesh::{Mesh, order},
    relay::Relay,
};

/// Less than others wait before they take a silent comet for dead: whom they do has been silent for longer.
const AFTER: Duration = Duration::from_secs(1);

fn reput(config: &mut Config) {
    config.reput_after = AFTER;
}

#[tokio::test(flavor = "multi_thread")]
async fn unheard_for_too_long_it_puts_all_sessions_again_though_its_own_connection_was_well() {
    let mesh = Mesh::start().await;
    let relay = Relay::to(mesh.nats.port()).await;
    let (_ingest, observer) = tokio::join!(mesh.ingest(), mesh.member("test", "observer", ""));
    let comet = mesh.comet_at(&relay.url(), "comet-1", reput).await;
    let (mut client, ok) = Tcp::log_in(&comet, login(&mesh.token("ann", None))).await;
    let key = Key::session(mesh.partition("ann"), &"ann".parse().unwrap(), &ok.conn_id);
    let view = observer.view();
    let is_heard = || {
        let view = view.borrow();
        view.member(&"comet".parse().unwrap(), &comet.instance).is_some_and(|member| member.alive)
    };
    wait_for("the comet to be heard", SOON, || async { if is_heard() { Ok(()) } else { Err("silent") } }).await;
    let connections = relay.connections("main");

    relay.mute("heartbeat");
    wait_for("its silence", SOON, || async { if is_heard() { Err("still heard") } else { Ok(()) } }).await;
    // Everybody took it for gone, and ended its logins.
    mesh.sessions.purge(&key).await.unwrap();
    mesh.send(&comet, "ann", &ok.conn_id, 5, order(1)).await;
    assert_eq!(client.next().await, Some(push(1, 10)), "its own connection is well");
    assert_eq!(mesh.session("ann", &ok.conn_id).await, None);

    relay.unmute();
    wait_for("the session put again", SOON, || async {
        mesh.session("ann", &ok.conn_id).await.map(|_| ()).ok_or("not there")
    })
    .await;
    assert_eq!(relay.connections("main"), connections);
    // Its end is written under the new revision.
    drop(client);
    wait_for("left", SOON, || async {
        mesh.session("ann", &ok.conn_id).await.and_then(|session| session.left).ok_or("not left")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_bus_was_away_for_too_long_all_sessions_are_put_again() {
    let mut mesh = Mesh::start().await;
    let (_ingest, comet) = tokio::join!(mesh.ingest(), mesh.comet("comet-1", reput));
    let (client, ok) = Tcp::log_in(&comet, login(&mesh.token("ann", None))).await;
    let key = Key::session(mesh.partition("ann"), &"ann".parse().unwrap(), &ok.conn_id);
    let before = mesh.sessions.get(&key).await.unwrap().unwrap().revision;
    mesh.nats.kill();
    // What comes back was sent before this, or comes back after the restart.
    let away = Instant::now();
    wait_for("an outage that is too long", SOON, || async {
        let so_far = away.elapsed();
        if so_far > AFTER { Ok(()) } else { Err(format!("{so_far:?} so far")) }
    })
    .await;
    mesh.nats.restart().await;
    wait_for("the session put again", SOON, || async {
        match mesh.sessions.get(&key).await {
            Ok(Some(entry)) if entry.revision > before => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    drop(client);
    wait_for("left", SOON, || async {
        mesh.session("ann", &ok.conn_id).await.and_then(|session| session.left).ok_or("not left")
    })
    .await;
}
