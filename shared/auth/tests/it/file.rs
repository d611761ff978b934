//! The key file: what it may hold, and what happens when it changes.

use std::os::unix::fs::PermissionsExt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use pushmesh_auth::{Config, Minter, Verifier, generate_jwks};
use pushmesh_protocol::UserId;
use serde_json::{Value, json};

use crate::{JWKS, Keys, NOW, SECRET, client_claims, hs_token};

fn oct(kid: &str, secret: &[u8]) -> Value {
    json!({"kty": "oct", "kid": kid, "k": URL_SAFE_NO_PAD.encode(secret)})
}

fn refused(keys: Value) -> String {
    let keys = Keys::new(&json!({ "keys": keys }).to_string());
    Verifier::load(&keys.config).map(drop).unwrap_err().to_string()
}

#[test]
fn a_bad_file_says_which_key_and_why() {
    let small = include_str!("keys/small.n");
    let cases = [
        (json!([]), "has 0 keys to check signatures with; expected 1 to 64"),
        (json!([oct("a", b"short")]), "key a is too short; HS256 needs at least 32 bytes"),
        (
            json!([{"kty": "RSA", "kid": "r", "n": small, "e": "AQAB"}]),
            "key r is too short; RS256 needs at least 2048 bits",
        ),
        (json!([oct("a", SECRET), oct("a", SECRET)]), "key a has the kid of another"),
        (json!([{"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}]), "key #0 has an unsupported type"),
        (json!([{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]), "coordinates that are not 32 bytes"),
        (json!([{"kty": "OKP", "crv": "Ed25519", "x": "AA"}]), "a point that is not 32 bytes"),
        (
            json!([{"kty": "oct", "kid": "a", "alg": "HS512", "k": URL_SAFE_NO_PAD.encode(SECRET)}]),
            "an alg that its type",
        ),
        (json!([{"kty": "oct", "kid": "a"}]), "lacks a field of its type"),
        (json!([{"kty": "oct", "kid": "a", "k": "!"}]), "not base64url"),
        (json!([{"kty": "oct", "use": "enc", "k": "AA"}]), "has 0 keys"),
    ];
    for (keys, expected) in cases {
        let text = refused(keys);
        assert!(text.contains(expected), "{expected:?} is not in {text:?}");
    }
    let keys = Keys::new("{\"keys\": \"hunter2\"}");
    let text = Verifier::load(&keys.config).map(drop).unwrap_err().to_string();
    assert!(text.contains("line 1") && !text.contains("hunter2"), "{text}");
    let nowhere = Config { jwks_file: Some("/nowhere/jwks.json".into()), ..Config::default() };
    assert!(Verifier::load(&nowhere).map(drop).unwrap_err().to_string().contains("/nowhere/jwks.json can't be read"));
}

#[test]
fn a_changed_file_is_used_and_a_bad_one_is_not() {
    let keys = Keys::new(JWKS);
    let verifier = keys.verifier();
    let token = hs_token(&client_claims());
    assert!(verifier.client_at(&token, NOW * 1000).is_ok());

    keys.replace("{");
    assert!(verifier.refresh().is_err());
    assert!(verifier.client_at(&token, NOW * 1000).is_ok(), "the old keys stay in use");
    assert!(verifier.refresh().is_ok(), "and the same bad file is not read again");

    keys.replace(&json!({"keys": [oct("hs", b"another secret that has 32 bytes")]}).to_string());
    verifier.refresh().unwrap();
    assert_eq!(verifier.client_at(&token, NOW * 1000).unwrap_err().reason(), "signature");

    std::fs::remove_file(keys.config.jwks_file.as_ref().unwrap()).unwrap();
    assert!(verifier.refresh().is_err(), "gone is bad too");
    keys.replace(JWKS);
    verifier.refresh().unwrap();
    assert!(verifier.client_at(&token, NOW * 1000).is_ok());
}

#[test]
fn a_change_is_seen_by_itself() {
    let keys = Keys::new(JWKS);
    let verifier = keys.verifier();
    let token = hs_token(&client_claims());
    keys.replace(&json!({"keys": [oct("hs", b"another secret that has 32 bytes")]}).to_string());
    let begun = std::time::Instant::now();
    while verifier.client_at(&token, NOW * 1000).is_ok() {
        assert!(begun.elapsed().as_secs() < 60, "the new keys are not in use after a minute");
        std::thread::yield_now();
    }
}

#[test]
fn a_generated_file_is_private_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    generate_jwks(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(generate_jwks(&path).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);

    let config = Config { jwks_file: Some(path.clone()), ..Config::default() };
    let token =
        Minter::from_jwks(&path).unwrap().client(&UserId::new("u").unwrap(), None, std::time::Duration::from_secs(9));
    assert_eq!(Verifier::load(&config).unwrap().client(&token).unwrap().user.as_str(), "u");
}

#[test]
fn settings_have_limits() {
    let wrong = |config: Config| config.validate().unwrap_err().to_string();
    let seconds = std::time::Duration::from_secs;
    assert_eq!(wrong(Config { leeway: seconds(31), ..Config::default() }), "leeway must be 0s to 30s");
    assert_eq!(wrong(Config { issuer: String::new(), ..Config::default() }), "issuer must not be empty");
    let same = Config { client_audience: "a".into(), backend_audience: "a".into(), ..Config::default() };
    assert!(wrong(same).contains("must differ"));
    assert!(Config::default().validate().is_ok());
    assert_eq!(pushmesh_config::lenient_tables(&pushmesh_config::schema::<Config>()), Vec::<String>::new());
}
