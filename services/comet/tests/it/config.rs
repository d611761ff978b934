//! The example configuration, and what a configuration may not say.

use comet::Config;
use pushmesh_boot::{ServiceConfig, Settings};

#[test]
fn the_example_is_the_defaults_said_aloud() {
    let text = include_str!("../../config.example.toml");
    let layers = pushmesh_config::Layers::new().toml(text, "the example").unwrap();
    let settings: Settings<Config> = layers.load().unwrap();
    settings.validate().unwrap();
    assert_eq!(settings.service, Config::default());
}

#[test]
fn no_table_takes_a_key_it_does_not_know() {
    assert_eq!(pushmesh_config::lenient_tables(&pushmesh_config::schema::<Config>()), Vec::<String>::new());
}

#[test]
fn nonsense_is_refused_by_field() {
    let refused = |change: fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    };
    assert_eq!(refused(|config| config.path = "ws".into()), "path must begin with / and have no query");
    assert!(refused(|config| config.limits.frame_bytes = 1 << 20).starts_with("limits.frame_bytes must be"));
    assert!(refused(|config| config.limits.backlog_bytes = 1000).contains("limits.backlog_bytes"));
    assert_eq!(refused(|config| config.reput_after = std::time::Duration::ZERO), "reput_after must be 1s to 1h");
    assert!(refused(|config| config.limits.failed_logins = 0).contains("limits.failed_logins must be 1 or more"));
    assert!(refused(|config| config.heartbeat.misses = 0).contains("heartbeat.misses must be 1 or more"));
    let codes = |code: &str| {
        let mut config = Config::default();
        config.apps.insert(code.into(), "echo".parse().unwrap());
        config.validate().map_err(|error| error.to_string())
    };
    assert_eq!(codes("1000"), Ok(()));
    assert_eq!(codes("999"), Err("apps codes must be 1000 to 65535".into()));
    assert!(codes("70000").is_err() && codes("x").is_err());
}
