use std::process::Command;

#[test]
fn the_example_configuration_is_good() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml");
    let args = ["--config", file, "--check-config"];
    let output = Command::new(env!("CARGO_BIN_EXE_room-fanout")).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
