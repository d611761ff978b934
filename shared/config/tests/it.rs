//! Layers, errors, secrets and what is printed, as a service's configuration uses them.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use pushmesh_config::{
    ConfigError, FieldError, Layers, SECRET_MAX_BYTES, Secret, duration, lenient_tables, redacted, schema, size,
    to_toml,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    nats: Nats,
    name: String,
    kinds: Vec<String>,
    ratio: f64,
    open: bool,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Nats {
    url: String,
    port: u16,
    #[serde(with = "duration")]
    #[schemars(with = "pushmesh_config::DurationText")]
    hold: Duration,
    #[serde(with = "duration::option")]
    #[schemars(with = "Option<pushmesh_config::DurationText>")]
    age: Option<Duration>,
    #[serde(with = "size")]
    #[schemars(with = "pushmesh_config::SizeText")]
    hold_max_bytes: usize,
    mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Pull,
    Push,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nats: Nats::default(),
            name: "x".into(),
            kinds: vec!["group".into()],
            ratio: 0.01,
            open: false,
            labels: BTreeMap::new(),
        }
    }
}

impl Default for Nats {
    fn default() -> Self {
        Self {
            url: "nats://127.0.0.1:4222".into(),
            port: 1,
            hold: Duration::from_secs(15),
            age: None,
            hold_max_bytes: 64 << 20,
            mode: Mode::Pull,
        }
    }
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn load(toml: &str, env: &[(&str, &str)], sets: &[&str]) -> Result<Settings, ConfigError> {
    let mut layers = Layers::new().toml(toml, "file test.toml")?.variables(variables(env));
    for set in sets {
        layers = layers.set(set)?;
    }
    layers.load()
}

fn problem(toml: &str, env: &[(&str, &str)], sets: &[&str]) -> String {
    load(toml, env, sets).unwrap_err().to_string()
}

#[test]
fn nothing_said_means_the_defaults() {
    assert_eq!(load("", &[], &[]).unwrap(), Settings::default());
}

#[test]
fn a_later_layer_wins_key_by_key() {
    let toml = "name = 'file'\n[nats]\nurl = 'nats://file'\nport = 2\nhold = '2m'";
    let env = [("PUSHMESH_NATS__URL", "nats://env"), ("PUSHMESH_NATS__HOLD", "250ms"), ("PUSHMESH_HOME", "/x")];
    let settings = load(toml, &env, &["nats.hold=7s", "nats.hold_max_bytes=1KiB"]).unwrap();
    assert_eq!(settings.name, "file");
    assert_eq!(settings.nats.url, "nats://env");
    assert_eq!(settings.nats.port, 2);
    assert_eq!(settings.nats.hold, Duration::from_secs(7));
    assert_eq!(settings.nats.hold_max_bytes, 1024);
}

#[test]
fn a_text_is_a_number_a_boolean_or_a_list_where_one_is_expected() {
    let env = [("PUSHMESH_NATS__PORT", "4222"), ("PUSHMESH_NATS__MODE", "push"), ("PUSHMESH_NATS__AGE", "5s")];
    let sets = ["ratio=0.5", "open=true", "name=42", "kinds=[\"a\", \"b\"]", "labels.zone=a"];
    let settings = load("", &env, &sets).unwrap();
    assert_eq!(settings.nats.port, 4222);
    assert_eq!(settings.nats.mode, Mode::Push);
    assert_eq!(settings.nats.age, Some(Duration::from_secs(5)));
    assert_eq!(settings.ratio, 0.5);
    assert!(settings.open);
    assert_eq!(settings.name, "42", "an id of digits stays a text");
    assert_eq!(settings.kinds, ["a", "b"]);
    assert_eq!(settings.labels["zone"], "a");
}

#[test]
fn an_error_names_key_place_and_expectation() {
    let cases: [(&str, String); 9] = [
        ("nats.urll: is unknown; expected `url`, `port`", problem("[nats]\nurll = 'x'", &[], &[])),
        ("(in file test.toml)", problem("[nats]\nurll = 'x'", &[], &[])),
        ("natz: is unknown", problem("[natz]", &[], &[])),
        ("(in environment variable PUSHMESH_NATS__URLL)", problem("", &[("PUSHMESH_NATS__URLL", "x")], &[])),
        ("nats.port: has the wrong type: found string \"abc\", expected u16", problem("", &[], &["nats.port=abc"])),
        ("(in --set nats.port)", problem("", &[], &["nats.port=abc"])),
        ("nats.hold: \"5\" is no duration", problem("[nats]\nhold = '5'", &[], &[])),
        ("nats.hold_max_bytes: \"5 potatoes\" is no size", problem("", &[], &["nats.hold_max_bytes=5 potatoes"])),
        ("expected `pull` or `push`", problem("", &[], &["nats.mode=both"])),
    ];
    for (expected, found) in cases {
        assert!(found.contains(expected), "{expected:?} is not in {found:?}");
    }
    assert!(problem("", &[], &["nats.port"]).contains("expected a.b=c"));
    assert!(problem("", &[], &["nats..port=1"]).contains("expected a.b=c"));
    assert!(problem("x = ", &[], &[]).contains("is not TOML"));
    let missing = Layers::new().file(std::path::Path::new("/nowhere/x.toml")).unwrap_err().to_string();
    assert!(missing.contains("can't be read") && missing.contains("/nowhere/x.toml"), "{missing}");
}

#[test]
fn what_is_printed_reads_back_as_the_same_and_shows_no_secret() {
    let mut settings = Settings { name: "quote \" \\ \n and é".into(), ..Settings::default() };
    settings.labels.insert("a key".into(), "v".into());
    let text = to_toml(&redacted(&settings).unwrap());
    assert_eq!(Layers::new().toml(&text, "printed").unwrap().load::<Settings>().unwrap(), settings, "{text}");

    settings.nats.url = "nats://user:hunter2@a:4222,nats://b:4222".into();
    settings.labels.insert("api_token".into(), "hunter2".into());
    settings.labels.insert("token_file".into(), "/run/token".into());
    let text = to_toml(&redacted(&settings).unwrap());
    assert!(!text.contains("hunter2"), "{text}");
    assert!(text.contains("nats://redacted@a:4222,nats://b:4222") && text.contains("/run/token"), "{text}");
}

#[test]
fn a_table_that_lets_typos_pass_is_found() {
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema matters")]
    struct Loose {
        a: u8,
    }
    assert_eq!(lenient_tables(&schema::<Settings>()), Vec::<String>::new());
    assert_eq!(lenient_tables(&schema::<Loose>()), ["the root"]);
}

#[test]
fn a_secret_comes_from_its_file_and_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("seed");
    std::fs::write(&path, "  hunter2\n").unwrap();
    let secret = Secret::read(&path).unwrap();
    assert_eq!(secret.expose(), "hunter2");
    assert!(!format!("{secret:?}{}", serde_json::to_string(&secret).unwrap()).contains("hunter2"));

    std::fs::write(&path, "\n").unwrap();
    assert!(Secret::read(&path).unwrap_err().to_string().contains("is empty"));
    std::fs::write(&path, vec![b'x'; SECRET_MAX_BYTES as usize + 1]).unwrap();
    assert!(Secret::read(&path).unwrap_err().to_string().contains("more than"));
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(Secret::read(&path).unwrap_err().to_string().contains("UTF-8"));
    assert!(Secret::read(&dir.path().join("none")).unwrap_err().to_string().contains("can't be read"));
}

#[test]
fn durations_and_sizes_read_what_people_write() {
    assert_eq!(duration::parse("1m 30s").unwrap(), Duration::from_secs(90));
    assert_eq!(duration::parse("2d").unwrap(), Duration::from_secs(172_800));
    assert_eq!(duration::parse("0").unwrap(), Duration::ZERO);
    for bad in ["", "5", "-5s", "5 weeks", "s", "1.5s", "99999999999999999999999999999999999999d", "5s5"] {
        assert!(duration::parse(bad).is_err(), "{bad}");
    }
    assert_eq!(size::parse("64MiB").unwrap(), 64 << 20);
    assert_eq!(size::parse("4 KiB").unwrap(), 4096);
    assert_eq!(size::parse("512").unwrap(), 512);
    for bad in ["", "MiB", "-1", "1.5GiB", "99999999999TiB", "1mib"] {
        assert!(size::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_field_error_is_seen_from_above() {
    let error = FieldError::new("port", "must be at least 1").within("nats");
    assert_eq!(error.to_string(), "nats.port must be at least 1");
    assert_eq!(ConfigError::from(error).to_string(), "nats.port: must be at least 1");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn durations_and_sizes_come_back(nanos in any::<u64>(), bytes in any::<u64>(), text in ".{0,40}") {
        let value = Duration::from_nanos(nanos);
        prop_assert_eq!(duration::parse(&duration::format(value)).unwrap(), value);
        prop_assert_eq!(size::parse(&size::format(bytes)).unwrap(), bytes);
        let _ = (duration::parse(&text), size::parse(&text));
    }
}
