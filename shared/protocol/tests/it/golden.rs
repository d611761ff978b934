//! Golden vectors: every frame in both encodings, byte for byte.
//!
//! A changed vector is a changed protocol. `UPDATE_GOLDEN=1 cargo test -p pushmesh-protocol` writes the file anew;
//! say in CHANGELOG.md why.

use std::{collections::BTreeMap, fs, path::PathBuf};

use pushmesh_protocol::frame::{ClientFrame, Code, Encoding, ServerFrame};
use serde::{Deserialize, Serialize};

use crate::samples;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Vector {
    from: String,
    messagepack_hex: String,
    json: serde_json::Value,
}

#[test]
fn every_frame_has_its_golden_vector() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/frames.json");
    let now = vectors();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, serde_json::to_string_pretty(&now).unwrap() + "\n").unwrap();
    }
    let golden: BTreeMap<String, Vector> = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    for (name, vector) in &now {
        assert_eq!(Some(vector), golden.get(name), "frame {name}");
    }
    assert_eq!(now.len(), golden.len());
}

#[test]
fn every_vector_decodes_to_its_frame() {
    for (name, frame) in samples::client() {
        for encoding in [Encoding::MessagePack, Encoding::Json] {
            assert_eq!(ClientFrame::decode(encoding, &frame.encode(encoding)).as_ref(), Ok(&frame), "{name}");
        }
    }
    for (name, frame) in samples::server() {
        for encoding in [Encoding::MessagePack, Encoding::Json] {
            assert_eq!(ServerFrame::decode(encoding, &frame.encode(encoding)).as_ref(), Ok(&frame), "{name}");
        }
    }
}

#[test]
fn every_code_has_a_sample() {
    let json = |bytes: Vec<u8>| serde_json::from_slice::<(serde_json::Value, serde_json::Value)>(&bytes).unwrap().0;
    let seen: Vec<_> = samples::client()
        .into_iter()
        .map(|(_, frame)| json(frame.encode(Encoding::Json)))
        .chain(samples::server().into_iter().map(|(_, frame)| json(frame.encode(Encoding::Json))))
        .collect();
    for (code, name) in Code::ALL {
        assert!(seen.iter().any(|seen| seen == name), "{name} has no sample");
        assert_eq!(code.name(), name);
    }
}

fn vectors() -> BTreeMap<String, Vector> {
    let vector = |from: &str, pack: Vec<u8>, json: Vec<u8>| Vector {
        from: from.into(),
        messagepack_hex: pack.iter().map(|byte| format!("{byte:02x}")).collect(),
        json: serde_json::from_slice(&json).unwrap(),
    };
    let client = samples::client().into_iter().map(|(name, frame)| {
        let vector = vector("client", frame.encode(Encoding::MessagePack), frame.encode(Encoding::Json));
        (name.to_owned(), vector)
    });
    let server = samples::server().into_iter().map(|(name, frame)| {
        let vector = vector("server", frame.encode(Encoding::MessagePack), frame.encode(Encoding::Json));
        (name.to_owned(), vector)
    });
    client.chain(server).collect()
}
