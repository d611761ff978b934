//! Compiles the contracts with protox: no protoc on the machine.

use std::{env, fs, path::PathBuf};

use prost::Message;

const CONTRACTS: [&str; 5] = [
    "pushmesh/v1/login.proto",
    "pushmesh/v1/directory.proto",
    "pushmesh/v1/call.proto",
    "pushmesh/v1/push.proto",
    "pushmesh/v1/room.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for contract in CONTRACTS {
        println!("cargo::rerun-if-changed={contract}");
    }
    let descriptors = protox::compile(CONTRACTS, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("pushmesh.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
