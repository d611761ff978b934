use std::process::Command;

use org_push::Config;

#[test]
fn the_example_configuration_is_good() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config.example.toml");
    let args = ["--config", file, "--check-config"];
    let output = Command::new(env!("CARGO_BIN_EXE_org-push")).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_unknown_key_is_an_error() {
    let lenient = pushmesh_config::lenient_tables(&pushmesh_config::schema::<Config>());
    assert!(lenient.is_empty(), "{lenient:?}");
}
