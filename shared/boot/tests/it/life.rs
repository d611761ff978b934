//! Starting, being ready, losing NATS, and the ways to end.

use std::time::Duration;

use pushmesh_auth::{Minter, Scope, generate_jwks};
use pushmesh_testkit::{Nats, Port, Process, wait_for};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::{SOON, channel, get, mesh, post, provision_mesh, reasons, set, start, tiny};

// By the answer's status, or by the code of its refusal.
async fn grpc_status(process: &Process, door: &str, service: &str) -> Result<ServingStatus, Code> {
    let mut health = HealthClient::new(channel(process, door).await);
    let answer = health.check(HealthCheckRequest { service: service.to_owned() }).await;
    answer.map(|answer| answer.into_inner().status()).map_err(|refused| refused.code())
}

// The services that reflection lists.
async fn reflected(process: &Process, door: &str) -> Vec<String> {
    let mut client = ServerReflectionClient::new(channel(process, door).await);
    let list = MessageRequest::ListServices(String::new());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    match answers.message().await.unwrap().unwrap().message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => list.service.into_iter().map(|service| service.name).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_ready_service_tells_of_itself_and_drains() {
    let nats = mesh().await;
    let mut process = start(&nats).await;
    assert_eq!(reasons(&process).await, Vec::<String>::new());
    assert_eq!(get(&process, "admin", "/healthz").await, (200, "ok\n".into()));
    let (_, build) = get(&process, "admin", "/buildinfo").await;
    assert!(build.contains("\"service\":\"tiny\"") && build.contains("\"version\""), "{build}");
    let (_, metrics) = get(&process, "admin", "/metrics").await;
    assert!(metrics.contains("pushmesh_boot_ready{service=\"tiny\"} 1"), "{metrics}");
    assert!(metrics.contains("pushmesh_boot_build_info{"), "{metrics}");

    let level = async |filter: &'static str| {
        let url = format!("http://{}/log-level", process.door("admin"));
        reqwest::Client::new().put(url).body(filter).send().await.unwrap().status().as_u16()
    };
    assert_eq!(level("debug").await, 200);
    assert_eq!(level("a=b=c").await, 400);

    assert_eq!(get(&process, "admin", "/nowhere").await.0, 404);

    process.expect_drained(SOON).await;
    let log = process.stderr();
    let order = ["\"message\":\"ready\"", "\"message\":\"draining\"", "\"message\":\"ended in order\""];
    let places: Vec<_> =
        order.iter().map(|line| log.find(line).unwrap_or_else(|| panic!("no {line} in {log}"))).collect();
    assert!(places.is_sorted(), "{log}");
}

#[tokio::test]
async fn health_and_reflection_stand_at_the_grpc_door_and_the_admin_port() {
    let nats = mesh().await;
    let mut process = start(&nats).await;
    for door in ["grpc", "admin"] {
        let listed = reflected(&process, door).await;
        for expected in ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"] {
            assert!(listed.iter().any(|name| name == expected), "no {expected} at {door}: {listed:?}");
        }
        assert_eq!(grpc_status(&process, door, "").await, Ok(ServingStatus::Serving), "{door}");
        assert_eq!(grpc_status(&process, door, "tiny").await, Ok(ServingStatus::Serving), "{door}");
        assert_eq!(grpc_status(&process, door, "pushmesh.v1.Elsewhere").await, Err(Code::NotFound), "{door}");
    }

    assert_eq!(post(&process, "/latch").await.0, 200);
    assert_eq!(reasons(&process).await, ["told to be not ready"]);
    for (door, service) in [("grpc", ""), ("grpc", "tiny"), ("admin", ""), ("admin", "tiny")] {
        wait_for("health to follow", SOON, async || match grpc_status(&process, door, service).await {
            Ok(ServingStatus::NotServing) => Ok(()),
            other => Err(format!("{door} {service:?}: {other:?}")),
        })
        .await;
    }
    assert_eq!(post(&process, "/unlatch").await.0, 200);
    assert_eq!(reasons(&process).await, Vec::<String>::new());

    // Who watches is told of the end, and holds nothing up.
    let mut watching = HealthClient::new(channel(&process, "grpc").await);
    let mut statuses = watching.watch(HealthCheckRequest { service: "tiny".into() }).await.unwrap().into_inner();
    let mut seen = vec![statuses.message().await.unwrap().unwrap().status()];
    process.expect_drained(SOON).await;
    while let Ok(Some(answer)) = statuses.message().await {
        seen.push(answer.status());
    }
    assert_eq!(seen.last(), Some(&ServingStatus::NotServing), "{seen:?}");
}

#[tokio::test]
async fn doors_want_tokens_unless_opened_on_loopback() {
    let nats = mesh().await;
    let dir = tempfile::tempdir().unwrap();
    let jwks = dir.path().join("jwks.json");
    generate_jwks(&jwks).unwrap();
    let at = |options| set(options, &format!("nats.url={}", nats.url()));

    let process = Process::start("tiny", set(at(tiny()), &format!("auth.jwks_file={}", jwks.display()))).await;
    assert_eq!(post(&process, "/guarded").await.0, 401);
    let token = Minter::from_jwks(&jwks).unwrap().backend("shop", &[Scope::PushWrite], SOON);
    let url = format!("http://{}/guarded", process.door("grpc"));
    let answer = reqwest::Client::new().post(url).bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "welcome, shop");

    let open = Process::start("tiny", at(tiny()).arg("--insecure-local")).await;
    assert_eq!(post(&open, "/guarded").await, (200, "welcome, insecure-local".into()));

    let wide = set(at(tiny()).arg("--insecure-local"), "service.door.listen=0.0.0.0:0");
    let mut refused = Process::run("tiny", wide);
    refused.expect_exit(78, SOON).await;
    assert!(refused.stderr().contains("must be a loopback address"), "{}", refused.stderr());
}

#[tokio::test]
async fn losing_nats_is_told_and_not_fatal() {
    let mut nats = mesh().await;
    let mut process = start(&nats).await;
    nats.kill();
    wait_for("not ready without NATS", SOON, async || match reasons(&process).await {
        reasons if reasons == ["NATS is not connected"] => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(get(&process, "admin", "/healthz").await.0, 200);
    nats.restart().await;
    wait_for("ready again", SOON, async || match reasons(&process).await {
        reasons if reasons.is_empty() => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    process.expect_drained(SOON).await;
}

#[tokio::test]
async fn a_missing_dependency_ends_with_69() {
    let nobody = Port::take();
    let away = format!("nats.url=nats://127.0.0.1:{}", nobody.number());
    let mut process = Process::run("tiny", set(set(tiny(), &away), "nats.connect_wait=300ms"));
    process.expect_exit(69, SOON).await;
    assert!(process.stderr().contains("NATS is unavailable"), "{}", process.stderr());

    let bare = Nats::start().await;
    let unprovisioned = set(set(tiny(), &format!("nats.url={}", bare.url())), "nats.connect_wait=5s");
    let mut process = Process::run("tiny", unprovisioned);
    process.expect_exit(69, SOON).await;
    assert!(process.stderr().contains("pushmesh provision"), "{}", process.stderr());
}

#[tokio::test]
async fn a_signal_while_it_waits_for_nats_ends_it() {
    let nobody = Port::take();
    let away = format!("nats.url=nats://127.0.0.1:{}", nobody.number());
    let mut process = Process::run("tiny", set(set(tiny(), &away), "nats.connect_wait=60s"));
    wait_for("it to start", SOON, async || match process.stderr().contains("\"door\":\"admin\"") {
        true => Ok(()),
        false => Err("no admin door yet"),
    })
    .await;
    process.expect_drained(SOON).await;
}

#[tokio::test]
async fn a_second_signal_or_the_end_of_the_grace_period_cuts_the_drain_off() {
    let nats = mesh().await;
    let slow = || set(set(tiny(), &format!("nats.url={}", nats.url())), "service.drain_takes=1h");
    let mut process = Process::start("tiny", slow()).await;
    process.term();
    wait_for("draining", SOON, async || match reasons(&process).await {
        reasons if reasons == ["draining"] => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    process.interrupt();
    process.expect_exit(1, SOON).await;
    assert!(process.stderr().contains("a second signal came"), "{}", process.stderr());

    let mut process = Process::start("tiny", set(slow(), "shutdown.grace=300ms")).await;
    process.term();
    process.expect_exit(1, SOON).await;
    assert!(process.stderr().contains("the grace period is over"), "{}", process.stderr());
}

#[tokio::test]
async fn what_is_fatal_ends_with_1_and_says_why() {
    let nats = mesh().await;
    for (path, why) in [("/fail", "told to fail"), ("/panic", "task panicking panicked")] {
        let mut process = start(&nats).await;
        post(&process, path).await;
        process.expect_exit(1, SOON).await;
        assert!(process.stderr().contains(why), "{}", process.stderr());
    }
    let at = |options| set(options, &format!("nats.url={}", nats.url()));
    let mut process = Process::run("tiny", set(at(tiny()), "service.refuse=true"));
    process.expect_exit(1, SOON).await;
    assert!(process.stderr().contains("can't start: it was told to refuse"), "{}", process.stderr());

    let running = start(&nats).await;
    let taken = set(at(tiny()), &format!("admin.listen={}", running.door("admin")));
    let mut process = Process::run("tiny", taken);
    process.expect_exit(1, SOON).await;
    assert!(process.stderr().contains("for the admin port"), "{}", process.stderr());
}

#[tokio::test]
async fn a_refused_permission_is_fatal_at_the_start() {
    let nats = Nats::start_with(|options| {
        options.extra = r#"authorization { users = [
            { user: boss, password: secret },
            { user: tiny, password: secret, permissions: { publish: { deny: "pm.v1.login.report" }, subscribe: ">" } }
        ] }"#
            .to_owned();
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "secret\n").unwrap();
    let config = |user: &str| pushmesh_bus::Config {
        user: Some(user.to_owned()),
        password_file: Some(file.clone()),
        ..pushmesh_bus::Config::to(nats.url())
    };
    provision_mesh(&config("boss")).await;

    let as_tiny = ["nats.user=tiny".to_owned(), format!("nats.password_file={}", file.display())];
    let at = set(tiny(), &format!("nats.url={}", nats.url()));
    let at = as_tiny.iter().fold(at, |options, assignment| set(options, assignment));
    let mut good = Process::start("tiny", at.clone()).await;
    good.expect_drained(SOON).await;
    let mut overreaching = Process::run("tiny", set(at, "service.overreach=true"));
    overreaching.expect_exit(1, SOON).await;
    let log = overreaching.stderr();
    assert!(
        log.contains("NATS refused a permission that this service needs") && log.contains("pm.v1.login.report"),
        "{log}"
    );
}

#[tokio::test]
async fn a_full_door_closes_the_newest_and_says_so() {
    let nats = mesh().await;
    let process = start(&nats).await;
    let held = tokio::sync::Mutex::new(Vec::new());
    for _ in 0..pushmesh_boot::CONNECTIONS_MAX {
        held.lock().await.push(TcpStream::connect(process.door("grpc")).await.unwrap());
    }
    wait_for("a connection to be refused", SOON, async || {
        held.lock().await.push(TcpStream::connect(process.door("grpc")).await.unwrap());
        let (_, metrics) = get(&process, "admin", "/metrics").await;
        let refused = metrics.lines().find(|line| line.starts_with("pushmesh_boot_door_refused_total{"));
        match refused {
            Some(line) if !line.ends_with(" 0") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    drop(held);
    wait_for("room again", SOON, async || {
        let answer = reqwest::Client::new().post(format!("http://{}/unlatch", process.door("grpc"))).send().await;
        answer.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test]
async fn who_says_nothing_or_half_a_preface_keeps_no_place_at_a_door() {
    let nats = mesh().await;
    let quick = set(set(tiny(), &format!("nats.url={}", nats.url())), "doors.first_byte_within=1500ms");
    let process = Process::start("tiny", quick).await;
    for door in ["grpc", "admin"] {
        for said in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM"] {
            let mut silent = TcpStream::connect(process.door(door)).await.unwrap();
            silent.write_all(said.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let closed = tokio::time::timeout(SOON, silent.read_to_end(&mut answer)).await;
            assert!(closed.is_ok_and(|read| read.is_ok_and(|bytes| bytes == 0)), "{door} after {said:?}: {answer:?}");
        }
    }
    // Who has begun may take longer.
    let mut slow = TcpStream::connect(process.door("grpc")).await.unwrap();
    slow.write_all(b"POST /unlatch HTTP/1.1\r\nHost: x\r\nContent-Le").await.unwrap();
    tokio::time::timeout(Duration::from_secs(3), slow.read_u8()).await.unwrap_err();
    slow.write_all(b"ngth: 0\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(SOON, slow.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (_, metrics) = get(&process, "admin", "/metrics").await;
    assert!(metrics.lines().any(|line| line == "pushmesh_boot_door_silent_total{service=\"tiny\"} 6"), "{metrics}");
}
