//! A comet among others: where it sends those it has no room for, and whom its clients leave behind there.

use pushmesh_protocol::frame::{ClientFrame, Encoding, ErrorCode, KickReason, Ping, Pong, ServerFrame};
use pushmesh_testkit::wait_for;

use crate::{
    harness::{Doors, SOON, Tcp, Ws, login},
    mesh::{Mesh, resuming},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_comet_names_another_one_that_is_there_to_stay() {
    let mesh = Mesh::start().await;
    let (_ingest, roomy) = tokio::join!(mesh.ingest(), mesh.comet("comet-2", |_| {}));
    // Far heavier than the one that has room: by weight alone they would be named.
    let going = mesh.member("comet", "comet-3", "ws://going").await;
    let nowhere = mesh.member("comet", "comet-4", "").await;
    going.drain();
    let address = format!("ws://{}", roomy.websocket());
    wait_for("what the others say of themselves", SOON, || async {
        let view = nowhere.view().borrow().clone();
        let comets: Vec<_> = view.members_of(&"comet".parse().unwrap()).cloned().collect();
        let is_said = comets.iter().any(|comet| comet.address == address) && comets.iter().any(|comet| comet.draining);
        if is_said && comets.len() == 3 { Ok(()) } else { Err(format!("{comets:?}")) }
    })
    .await;
    // It knows all of them from its start.
    let full = mesh
        .comet("comet-1", |config| {
            config.limits.connections = 1;
            config.limits.per_address = 1;
        })
        .await;
    let (_first, _) = Tcp::log_in(&full, login(&mesh.token("ann", None))).await;
    let refused = async || {
        let error = Tcp::connect(&full).await.error().await;
        assert_eq!(error.error, ErrorCode::Full, "{error:?}");
        assert!(error.retry_after_ms.is_some_and(|after| after >= 500), "{error:?}");
        error.address.unwrap()
    };
    // Until it has heard how full the other one is, it names the one door that membership knows.
    let tcp = format!("tcp://{}", roomy.tcp());
    wait_for("what the other says of itself", SOON, || async {
        let named = refused().await;
        assert!(named == tcp || named == address, "{named}");
        if named == tcp { Ok(()) } else { Err(named) }
    })
    .await;
    for _ in 0..20 {
        assert_eq!(refused().await, tcp, "each client is sent to a door like the one it came to");
    }
    let mut client = Ws::connect(&full, Encoding::Json).await;
    assert_eq!(client.error().await.address, Some(address));
    client.expect_close(1013).await;
    let (_there, ok) = Tcp::log_in(&roomy, login(&mesh.token("ben", None))).await;
    assert_eq!(ok.user.as_str(), "ben");
    drop((going, nowhere));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_passes_the_limit_of_one_address_or_has_nowhere_to_go_is_sent_nowhere() {
    let mesh = Mesh::start().await;
    let (_ingest, _other) = tokio::join!(mesh.ingest(), mesh.comet("comet-2", |_| {}));
    let comet = mesh.comet("comet-1", |config| config.limits.per_address = 1).await;
    let (_first, _) = Tcp::log_in(&comet, login(&mesh.token("ann", None))).await;
    let error = Tcp::connect(&comet).await.error().await;
    assert_eq!((error.error, error.address), (ErrorCode::Full, None), "elsewhere it would pass the limit");

    let mesh = Mesh::start().await;
    let (_ingest, lonely) = tokio::join!(mesh.ingest(), mesh.comet("comet-1", |config| config.limits.connections = 1));
    let (_first, _) = Tcp::log_in(&lonely, login(&mesh.token("ann", None))).await;
    let error = Tcp::connect(&lonely).await.error().await;
    assert_eq!((error.error, error.address), (ErrorCode::Full, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_elsewhere_closes_the_connection_it_leaves_behind_even_if_nobody_looked_meanwhile() {
    let mesh = Mesh::start().await;
    let (_ingest, first, second) =
        tokio::join!(mesh.ingest(), mesh.comet("comet-1", |_| {}), mesh.comet("comet-2", |_| {}));
    let token = mesh.token("ann", None);
    let (mut left_behind, old) = Tcp::log_in(&first, login(&token)).await;
    let before = mesh.session("ann", &old.conn_id).await.unwrap();
    let (mut resumed, new) = Tcp::log_in(&second, resuming(&token, &old)).await;
    assert_eq!((&new.login_id, new.resumed), (&old.login_id, true));
    assert_eq!(mesh.session("ann", &old.conn_id).await, Some(before.clone()), "who owns the partition must see both");
    let after = mesh.session("ann", &new.conn_id).await.unwrap();
    assert!(after.since > before.since, "{before:?} {after:?}");
    left_behind.send(&ClientFrame::Ping(Ping {})).await;
    assert_eq!(left_behind.next().await, Some(ServerFrame::Pong(Pong {})), "nobody has told it so far");

    let mut config = ack_retry::Config::default();
    config.door.listen.set_port(0);
    let _ack_retry = mesh.run::<ack_retry::Service>("ack-retry-1", config).await;
    assert!(matches!(left_behind.next().await, Some(ServerFrame::Kick(kick)) if kick.reason == KickReason::Replaced));
    left_behind.expect_end().await;
    wait_for("the old key to be purged", SOON, || async {
        mesh.session("ann", &old.conn_id).await.map_or(Ok(()), |session| Err(format!("{session:?}")))
    })
    .await;
    assert_eq!(mesh.session("ann", &new.conn_id).await, Some(after));
    resumed.send(&ClientFrame::Ping(Ping {})).await;
    assert_eq!(resumed.next().await, Some(ServerFrame::Pong(Pong {})));
}
