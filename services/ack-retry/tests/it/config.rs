use std::process::Command;

#[test]
fn the_example_configuration_is_good() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml");
    let args = ["--config", file, "--check-config"];
    let output = Command::new(env!("CARGO_BIN_EXE_ack-retry")).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_value_out_of_bounds_is_named() {
    for (setting, field) in [
        ("service.retry_interval=1ms", "service.retry_interval"),
        ("service.transmissions=0", "service.transmissions"),
        ("service.suspect_after=40s", "service.suspect_after"),
        ("service.inbox_max_per_user=0", "service.inbox_max_per_user"),
        ("service.entries_max=1", "service.entries_max"),
    ] {
        let args = ["--set", setting, "--check-config"];
        let output = Command::new(env!("CARGO_BIN_EXE_ack-retry")).args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(field), "{setting}: {said}");
    }
}
