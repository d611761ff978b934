//! What the command line says without starting anything.

use pushmesh_testkit::Process;

use crate::{SOON, set, tiny};

async fn run(options: pushmesh_testkit::ProcessOptions) -> (i32, String, String) {
    let mut process = Process::run("tiny", options);
    let status = process.ended(SOON).await;
    (status.code().unwrap(), process.stdout(), process.stderr())
}

#[tokio::test]
async fn good_settings_pass_and_are_printed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tiny.toml");
    std::fs::write(&file, "[nats]\nurl = 'nats://me:hunter2@a:4222'\n[service]\nnumber = 2\n").unwrap();
    let with_file = || tiny().arg("--config").arg(&file);

    let (code, out, _) = run(with_file().arg("--check-config")).await;
    assert_eq!((code, out.as_str()), (0, "configuration is good\n"));

    let printed = with_file().arg("--print-config").env("PUSHMESH_SERVICE__NUMBER", "3");
    let (code, out, _) = run(set(printed, "shutdown.grace=7s")).await;
    assert_eq!(code, 0);
    for expected in ["number = 3", "grace = \"7s\"", "url = \"nats://redacted@a:4222\"", "[service.door]"] {
        assert!(out.contains(expected), "{expected:?} is not in {out}");
    }
    assert!(!out.contains("hunter2"), "{out}");
    std::fs::write(&file, out).unwrap();
    let (code, _, err) = run(with_file().arg("--check-config")).await;
    assert_eq!(code, 0, "what is printed is a good file: {err}");

    let (code, out, _) = run(tiny().arg("--print-schema")).await;
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert_eq!(pushmesh_config::lenient_tables(&schema), Vec::<String>::new());
}

#[tokio::test]
async fn bad_settings_end_with_78_and_say_what_is_wrong() {
    let cases = [
        ("nats.urll=x", "nats.urll: is unknown; expected `url`"),
        ("service.number=10", "service.number: is 10; must be at most 9"),
        ("service.drain_takes=5", "service.drain_takes: \"5\" is no duration"),
        ("mesh.weight=101", "mesh.weight: is 101; must be 1 to 100"),
        ("mesh.instance=a.b", "mesh.instance: has '.' at byte 1"),
        ("telemetry.sample_ratio=2", "telemetry.sample_ratio: is 2; must be 0 to 1"),
        ("auth.leeway=31s", "auth.leeway: must be 0s to 30s"),
        ("nats.ping_interval=1h", "nats.ping_interval: must be 1s to 5s"),
        ("shutdown.grace=0s", "shutdown.grace: must be 100ms to 1h"),
        ("doors.first_byte_within=0s", "doors.first_byte_within: must be 100ms to 1m"),
        ("admin.listen=here", "admin.listen: "),
        ("nonsense", "expected a.b=c"),
    ];
    for (assignment, expected) in cases {
        let (code, _, err) = run(set(tiny(), assignment).arg("--check-config")).await;
        assert_eq!(code, 78, "{assignment}: {err}");
        assert!(err.contains(expected), "{assignment}: {expected:?} is not in {err}");
    }
    let (code, _, err) = run(tiny().env("PUSHMESH_SERVICE__NUMBR", "1")).await;
    assert_eq!(code, 78);
    assert!(err.contains("environment variable PUSHMESH_SERVICE__NUMBR"), "{err}");
    let keyless = || set(tiny(), "auth.jwks_file=/nowhere/jwks.json");
    for started in [keyless(), keyless().arg("--check-config")] {
        let (code, _, err) = run(started).await;
        assert_eq!(code, 78, "{err}");
        assert!(err.contains("auth.jwks_file: /nowhere/jwks.json can't be read"), "{err}");
    }
    let (code, _, err) = run(tiny().arg("--config").arg("/nowhere/tiny.toml")).await;
    assert_eq!(code, 78);
    assert!(err.contains("file /nowhere/tiny.toml"), "{err}");
}

#[tokio::test]
async fn a_door_without_tokens_must_be_on_loopback() {
    let on = |listen: &str| set(tiny(), &format!("service.door.listen={listen}"));
    let checked = |options: pushmesh_testkit::ProcessOptions| run(options.arg("--check-config"));
    for open in [on("0.0.0.0:0").arg("--insecure-local"), set(on("192.0.2.1:0"), "service.door.insecure_local=true")] {
        let (code, _, err) = checked(open).await;
        assert_eq!(code, 78, "{err}");
        assert!(err.contains("service.door.listen: is ") && err.contains("insecure_local"), "{err}");
    }
    for good in [on("0.0.0.0:0"), on("127.0.0.1:0").arg("--insecure-local"), on("[::1]:0").arg("--insecure-local")] {
        let (code, _, err) = checked(good).await;
        assert_eq!(code, 0, "{err}");
    }
}

#[tokio::test]
async fn usage_is_told() {
    let (code, _, err) = run(tiny().arg("--frobnicate")).await;
    assert_eq!(code, 2);
    assert!(err.contains("--frobnicate"), "{err}");
    let (code, out, _) = run(tiny().arg("--help")).await;
    assert_eq!(code, 0);
    assert!(out.contains("Example: tiny --config tiny.toml") && out.contains("69 a dependency"), "{out}");
    let (code, out, _) = run(tiny().arg("--version")).await;
    assert_eq!(code, 0);
    assert!(out.starts_with("tiny 0."), "{out}");
}
