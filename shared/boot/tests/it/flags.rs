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
    let (code, _, err) = run(set(tiny(), "auth.jwks_file=/nowhere/jwks.json")).await;
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("/nowhere/jwks.json can't be read"), "{err}");
    let (code, _, err) = run(tiny().arg("--config").arg("/nowhere/tiny.toml")).await;
    assert_eq!(code, 78);
    assert!(err.contains("file /nowhere/tiny.toml"), "{err}");
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
