//! SIGHUP.

use std::path::Path;

use pushmesh_auth::{Minter, Scope, generate_jwks};
use pushmesh_testkit::{Process, wait_for};

use crate::{SOON, mesh, reasons, set, tiny};

async fn logged(process: &Process, text: &str) {
    wait_for(text, SOON, async || match process.stderr().contains(text) {
        true => Ok(()),
        false => Err(process.stderr()),
    })
    .await;
}

async fn guarded(process: &Process, jwks: &Path) -> u16 {
    let token = Minter::from_jwks(jwks).unwrap().backend("shop", &[Scope::PushWrite], SOON);
    let url = format!("http://{}/guarded", process.door("grpc"));
    reqwest::Client::new().post(url).bearer_auth(token).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn keys_and_log_level_change_and_the_rest_is_named() {
    let nats = mesh().await;
    let dir = tempfile::tempdir().unwrap();
    let (file, jwks, other) =
        (dir.path().join("tiny.toml"), dir.path().join("jwks.json"), dir.path().join("other.json"));
    generate_jwks(&jwks).unwrap();
    generate_jwks(&other).unwrap();
    let write = |log: &str, more: &str| {
        let auth = format!("[auth]\njwks_file = {jwks:?}\n");
        std::fs::write(&file, format!("{auth}[telemetry]\nlog = {log:?}\n{more}")).unwrap();
    };
    write("warn", "");
    let options = set(tiny(), &format!("nats.url={}", nats.url())).arg("--config").arg(&file);
    let mut process = Process::start("tiny", options).await;
    assert!(!process.stderr().contains("\"message\":\"ready\""), "{}", process.stderr());
    assert_eq!(guarded(&process, &jwks).await, 200);
    assert_eq!(guarded(&process, &other).await, 401);

    std::fs::rename(&other, &jwks).unwrap();
    write("info", "[mesh]\nweight = 20\n[service]\nnumber = 2\n");
    process.hang_up();
    logged(&process, "SIGHUP: the settings are read again").await;
    logged(&process, "\"settings\":\"mesh.weight, service.number\"").await;
    logged(&process, "new keys in use").await;
    assert_eq!(guarded(&process, &jwks).await, 200);

    write("info", "[mesh]\nweight = 2000\n");
    std::fs::write(&jwks, "nonsense").unwrap();
    process.hang_up();
    logged(&process, "SIGHUP: the settings are bad").await;
    logged(&process, "the old keys stay in use").await;
    assert_eq!(reasons(&process).await, Vec::<String>::new());
    process.expect_drained(SOON).await;
}

#[tokio::test]
async fn while_it_starts_it_goes_on() {
    let nobody = pushmesh_testkit::Port::take();
    let away = format!("nats.url=nats://127.0.0.1:{}", nobody.number());
    let mut process = Process::run("tiny", set(set(tiny(), &away), "nats.connect_wait=60s"));
    logged(&process, "\"door\":\"admin\"").await;
    process.hang_up();
    logged(&process, "SIGHUP: the settings are read again").await;
    process.expect_drained(SOON).await;
}
