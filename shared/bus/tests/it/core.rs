use std::time::Duration;

use bytes::Bytes;
use pushmesh_bus::{ConnectError, RequestError};
use pushmesh_protocol::{
    Kind, Partition,
    name::{Filter, QueueGroup, Subject},
};
use pushmesh_testkit::{Nats, Port, wait_for};

use super::*;

fn question() -> Subject {
    Subject::calls(&Kind::new("group").unwrap(), Partition(3))
}

#[tokio::test]
async fn a_request_is_answered_or_says_why_not_and_leaves_nothing() {
    let nats = Nats::start().await;
    let (asker, answerer) = (connect(&nats).await, connect(&nats).await);
    assert_eq!(asker.request(question(), Bytes::new(), SOON).await, Err(RequestError::NoResponders));

    // Registered when it returns: the first request is already answered.
    let mut questions = answerer.subscribe_group(question().into(), QueueGroup::LOGIN_INGEST).await.unwrap();
    let answering = tokio::spawn(async move {
        while let Some(message) = questions.next().await {
            if message.payload.as_ref() != b"silence" {
                answerer.reply(message.reply.unwrap(), message.payload).await.unwrap();
            }
        }
    });
    assert_eq!(asker.request(question(), "hello".into(), SOON).await.unwrap(), "hello");

    let short = Duration::from_millis(50);
    let silent = (0..100).map(|_| asker.request(question(), "silence".into(), short));
    let outcomes = futures_util::future::join_all(silent).await;
    assert!(outcomes.iter().all(|outcome| *outcome == Err(RequestError::Timeout(short))));
    assert_eq!(asker.awaited(), 0, "a request that timed out leaves nothing");

    let big = Bytes::from(vec![0; 1_100_000]);
    assert!(matches!(asker.request(question(), big, SOON).await, Err(RequestError::TooLarge { .. })));
    answering.abort();
}

#[tokio::test]
async fn a_subscription_survives_a_restart_and_requests_fail_at_once_meanwhile() {
    let mut nats = Nats::start().await;
    let bus = connect(&nats).await;
    let mut acks = bus.subscribe(Subject::ack(Partition(1)).into()).await.unwrap();
    let mut health = bus.health();
    assert_eq!(health.borrow().connections, 1);

    nats.kill();
    tokio::time::timeout(SOON, health.wait_for(|health| !health.connected)).await.unwrap().unwrap();
    assert_eq!(bus.request(question(), Bytes::new(), SOON).await, Err(RequestError::Disconnected));

    nats.restart().await;
    tokio::time::timeout(SOON, health.wait_for(|health| health.connected)).await.unwrap().unwrap();
    bus.publish(Subject::ack(Partition(1)), "again".into()).await.unwrap();
    assert_eq!(acks.next().await.unwrap().payload, "again");
    assert_eq!(health.borrow().connections, 2);
    bus.drain().await;
    assert!(acks.next().await.is_none());
}

#[tokio::test]
async fn a_refused_publish_is_an_event() {
    let nats = Nats::start_with(|options| {
        options.extra = r#"
            authorization {
              users: [
                { user: tester, password: secret, permissions: {
                  publish: { deny: ["pm.v1.ack.>"] }, subscribe: { deny: ["pm.v1.hb.>"] } } }
              ]
            }"#
        .to_owned();
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let password = dir.path().join("password");
    std::fs::write(&password, "secret\n").unwrap();
    let bus = connect_as(&nats, "tester", |config| {
        config.user = Some("tester".to_owned());
        config.password_file = Some(password.clone());
    })
    .await;

    // The server's refusal comes without a failure of the publish.
    bus.publish(Subject::ack(Partition(1)), Bytes::new()).await.unwrap();
    let _deaf = bus.subscribe(Filter::heartbeats()).await.unwrap();
    let mut health = bus.health();
    let health = tokio::time::timeout(SOON, health.wait_for(|health| health.permission_violations == 2)).await;
    let health = health.unwrap().unwrap().clone();
    assert!(health.last_violation.unwrap().contains("pm.v1.hb"));

    std::fs::write(&password, "wrong").unwrap();
    let mut config = pushmesh_bus::Config::to(nats.url());
    config.user = Some("tester".to_owned());
    config.password_file = Some(password);
    let error = pushmesh_bus::Bus::connect(&config, &token("tester"), &"t1".parse().unwrap()).await.err().unwrap();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn no_server_is_told_after_the_wait() {
    let nobody = Port::take();
    let mut config = pushmesh_bus::Config::to(format!("nats://127.0.0.1:{}", nobody.number()));
    config.connect_wait = Duration::from_millis(300);
    let error = pushmesh_bus::Bus::connect(&config, &token("tester"), &"t1".parse().unwrap()).await.err().unwrap();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_connected_server_that_answers_nothing_gets_a_new_connection() {
    let (mut nats, bus) = mesh().await;
    let stubborn = connect_as(&nats, "stubborn", |config| {
        config.ack_timeout = Duration::from_millis(500);
        config.outage_hold = Duration::from_millis(500);
        config.ping_interval = Duration::from_secs(5);
    })
    .await;
    nats.pause();
    wait_for("the forced reconnect", SOON, async || {
        let _ = stubborn.store(numbered(1)).await;
        if stubborn.health().borrow().forced_reconnects > 0 { Ok(()) } else { Err("none") }
    })
    .await;
    nats.resume();
    wait_for("the message to be stored", SOON, async || stubborn.store(numbered(1)).await).await;
    drop(bus);
    nats.kill();
}

#[tokio::test]
async fn an_nkey_opens_and_another_does_not() {
    // The pair of the NATS documentation.
    let nats = Nats::start_with(|options| {
        let public = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
        options.extra = format!("authorization {{ users: [ {{ nkey: {public} }} ] }}\n");
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let seed = dir.path().join("seed");
    std::fs::write(&seed, "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY\n").unwrap();
    let bus = connect_as(&nats, "tester", |config| config.nkey_seed_file = Some(seed)).await;
    bus.publish(Subject::ack(Partition(1)), Bytes::new()).await.unwrap();

    let config = pushmesh_bus::Config::to(nats.url());
    let error = pushmesh_bus::Bus::connect(&config, &token("tester"), &"t1".parse().unwrap()).await.err().unwrap();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn a_dedicated_connection_and_a_dropped_bus_leave_nothing_behind() {
    let nats = Nats::start().await;
    let bus = connect(&nats).await;
    let own = bus.dedicated("heartbeat").await.unwrap();
    let mut beats = own.subscribe(Filter::heartbeats()).await.unwrap();
    let beat = Subject::heartbeat(&token("tester"), &"t1".parse().unwrap());
    own.publish(beat.clone(), "echo".into()).await.unwrap();
    assert_eq!(beats.next().await.unwrap().payload, "echo", "a member hears itself");

    drop(own);
    drop(beats);
    drop(bus);
    // Its tasks have ended when nobody is connected any more: the answer of a subscriber of the only other connection.
    let watcher = connect(&nats).await;
    wait_for("the connections to close", SOON, async || {
        let connections = watcher.request(beat.clone(), Bytes::new(), SOON).await;
        if connections == Err(RequestError::NoResponders) { Ok(()) } else { Err("somebody listens") }
    })
    .await;
}

#[tokio::test]
async fn a_full_subscription_drops_the_newest_and_says_so() {
    let nats = Nats::start().await;
    let bus = connect_as(&nats, "slow", |config| config.subscription_capacity = 1024).await;
    let mut acks = bus.subscribe(Subject::ack(Partition(1)).into()).await.unwrap();
    for number in 0..5000 {
        bus.publish(Subject::ack(Partition(1)), number.to_string().into()).await.unwrap();
    }
    let mut health = bus.health();
    let told = health.wait_for(|health| health.slow_consumer_events > 0);
    tokio::time::timeout(SOON, told).await.expect("an event").unwrap();
    for expected in 0..1024 {
        assert_eq!(super::number(&acks.next().await.unwrap().payload), expected);
    }
}

#[tokio::test]
async fn a_malformed_address_names_its_field() {
    let config = pushmesh_bus::Config::to("http://nats:4222");
    let error = pushmesh_bus::Bus::connect(&config, &token("tester"), &"t1".parse().unwrap()).await.err().unwrap();
    assert!(error.to_string().starts_with("nats.url "), "{error}");
    let config = pushmesh_bus::Config { in_flight_max: 5000, ..pushmesh_bus::Config::default() };
    assert_eq!(config.validate().unwrap_err().to_string(), "in_flight_max must be 1 to 3000 messages");
}

#[tokio::test]
async fn a_tls_server_wants_the_clients_certificate_and_shows_its_own() {
    let tls = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls");
    let file = |name: &str| tls.join(name);
    let nats = Nats::start_with(|options| {
        options.extra = format!(
            "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}\n",
            file("server.pem"),
            file("server.key"),
            file("ca.pem")
        );
    })
    .await;
    let bus = connect_as(&nats, "tester", |config| {
        config.ca_file = Some(file("ca.pem"));
        config.cert_file = Some(file("client.pem"));
        config.key_file = Some(file("client.key"));
    })
    .await;
    assert_eq!(bus.request(question(), Bytes::new(), SOON).await, Err(RequestError::NoResponders));

    let mut config = pushmesh_bus::Config::to(nats.url());
    config.connect_wait = Duration::from_millis(100);
    config.ca_file = Some(file("ca.pem"));
    let error = pushmesh_bus::Bus::connect(&config, &token("tester"), &"t1".parse().unwrap()).await.err().unwrap();
    assert!(matches!(error, ConnectError::Unreachable { .. } | ConnectError::Refused { .. }), "{error}");
}
