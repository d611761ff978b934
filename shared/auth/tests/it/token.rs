//! What a token must say, and what it can't do.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use proptest::prelude::*;
use pushmesh_auth::{AuthError, Config, Minter, Scope};
use pushmesh_protocol::{DeviceId, Token, UserId};
use serde_json::{Value, json};

use crate::{JWKS, Keys, NOW, SECRET, client_claims, encoded, hs_token, key, signed};

#[test]
fn each_algorithm_is_good_with_its_own_key() {
    let keys = Keys::new(JWKS);
    let all = [
        ("HS256", "hs", Algorithm::HS256),
        ("RS256", "rs", Algorithm::RS256),
        ("ES256", "es", Algorithm::ES256),
        ("EdDSA", "ed", Algorithm::EdDSA),
    ];
    for (alg, kid, algorithm) in all {
        let token =
            signed(&json!({"alg": alg, "kid": kid, "typ": "JWT"}), &client_claims(), algorithm, &key(algorithm));
        let client = keys.verifier().client_at(&token, NOW * 1000).unwrap_or_else(|error| panic!("{alg}: {error}"));
        assert_eq!(client.user.as_str(), "alice");
        assert_eq!(client.sid.unwrap().as_str(), "s-1");
        assert_eq!(client.device, None);
        assert_eq!(client.expires, (NOW + 60) * 1000);
    }
}

#[test]
fn a_minted_token_is_good() {
    let keys = Keys::new(JWKS);
    let path = keys.config.jwks_file.as_ref().unwrap();
    let minter = Minter::from_jwks(path).unwrap();
    let (user, sid, device) = (UserId::new("bob").unwrap(), Token::new("s").unwrap(), DeviceId::new("phone").unwrap());
    let minute = Duration::from_secs(60);
    let client = keys.verifier().client(&minter.client_of_device(&user, &device, Some(&sid), minute)).unwrap();
    assert_eq!((client.user, client.sid, client.device), (user.clone(), Some(sid), Some(device)));
    assert_eq!(keys.verifier().client(&minter.client(&user, None, minute)).unwrap().sid, None);

    let token = minter.backend("billing", &[Scope::LoginWrite, Scope::CallWrite], minute);
    let backend = keys.verifier().backend(&token, Scope::CallWrite).unwrap();
    assert_eq!(backend.name.as_str(), "billing");
    assert_eq!(backend.scopes, [Scope::LoginWrite, Scope::CallWrite]);
    let refused = keys.verifier().backend(&token, Scope::PushWrite).unwrap_err();
    assert_eq!(refused.to_string(), "scope lacks push:write");

    let past = minter.clone().at(NOW * 1000).client(&user, None, minute);
    assert!(keys.verifier().client_at(&past, NOW * 1000).is_ok());
    assert_eq!(keys.verifier().client_at(&past, (NOW + 600) * 1000).unwrap_err().reason(), "exp");

    let named = Config { issuer: "us".into(), ..keys.config.clone() };
    let theirs = minter.named(&named).client(&user, None, minute);
    assert!(keys.verifier().client(&theirs).is_err());
    assert!(pushmesh_auth::Verifier::load(&named).unwrap().client(&theirs).is_ok());
}

fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = client_claims();
    change(&mut claims);
    claims
}

fn without(claim: &str) -> String {
    hs_token(&with(|claims| drop(claims.as_object_mut().unwrap().remove(claim))))
}

fn said(claim: &str, value: Value) -> String {
    hs_token(&with(|claims| claims[claim] = value))
}

fn headed(header: Value) -> String {
    signed(&header, &client_claims(), Algorithm::HS256, &key(Algorithm::HS256))
}

/// Every bad token, and how its refusal must begin.
fn bad_tokens() -> Vec<(&'static str, String, &'static str)> {
    let good = hs_token(&client_claims());
    let (head, signature) = good.rsplit_once('.').unwrap();
    let none = |alg: &str| format!("{}.{}.", encoded(&json!({"alg": alg, "kid": "hs"})), encoded(&client_claims()));
    // The public key, as it stands in the file, as the secret of an HS256 token.
    let modulus = JWKS.split("\"n\": \"").nth(1).unwrap().split('"').next().unwrap();
    let swapped = EncodingKey::from_secret(&URL_SAFE_NO_PAD.decode(modulus).unwrap());
    let attacker = EncodingKey::from_secret(b"the attacker's own secret, 32 by.");
    let own_key = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(b"the attacker's own secret, 32 by.")});
    let own = |header: Value| signed(&header, &client_claims(), Algorithm::HS256, &attacker);
    let es_zero = {
        let message = format!("{}.{}", encoded(&json!({"alg": "ES256", "kid": "es"})), encoded(&client_claims()));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode([0u8; 64]))
    };
    let twice = {
        let payload = r#"{"iss":"pushmesh","aud":"pushmesh-client","sub":"alice","sub":"root","exp":4000000000}"#;
        let message = format!("{}.{}", encoded(&json!({"alg": "HS256", "kid": "hs"})), URL_SAFE_NO_PAD.encode(payload));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &key(Algorithm::HS256), Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    };
    vec![
        ("nothing", String::new(), "token is malformed"),
        ("no token", "hello".into(), "token is malformed"),
        ("two parts", "a.b".into(), "token is malformed"),
        ("four parts", format!("{good}.x"), "token is malformed"),
        ("3,073 bytes", format!("{good}{}", "A".repeat(3073 - good.len())), "token has 3073 bytes; the limit is 3072"),
        ("no base64", good.replacen("ey", "!!", 1), "token is malformed: the header"),
        ("a header of text", format!("{}.e30.AA", URL_SAFE_NO_PAD.encode("\"x\"")), "token is malformed: the header"),
        ("no alg", headed(json!({"kid": "hs"})), "token is malformed: the header"),
        ("alg none", none("none"), "alg"),
        ("alg nOnE", none("nOnE"), "alg"),
        ("alg of another key", headed(json!({"alg": "RS256", "kid": "hs"})), "alg"),
        ("alg HS512", headed(json!({"alg": "HS512", "kid": "hs"})), "alg"),
        (
            "HS/RS swap",
            signed(&json!({"alg": "HS256", "kid": "rs"}), &client_claims(), Algorithm::HS256, &swapped),
            "alg",
        ),
        ("no kid with several keys", headed(json!({"alg": "HS256"})), "kid is missing"),
        ("unknown kid", headed(json!({"alg": "HS256", "kid": "x"})), "kid names no known key"),
        ("kid as a path", headed(json!({"alg": "HS256", "kid": "../../../dev/null"})), "kid names no known key"),
        ("kid as SQL", headed(json!({"alg": "HS256", "kid": "' OR 1=1 --"})), "kid names no known key"),
        ("kid as a number", headed(json!({"alg": "HS256", "kid": 1})), "token is malformed: the header"),
        ("jwk in the header", own(json!({"alg": "HS256", "kid": "hs", "jwk": own_key})), "signature"),
        ("jku in the header", own(json!({"alg": "HS256", "kid": "hs", "jku": "https://evil/jwks"})), "signature"),
        ("x5u in the header", own(json!({"alg": "HS256", "kid": "hs", "x5u": "https://evil/c"})), "signature"),
        ("crit", headed(json!({"alg": "HS256", "kid": "hs", "crit": ["exp"]})), "crit"),
        ("no signature", format!("{head}."), "signature"),
        ("half a signature", format!("{head}.{}", &signature[..20]), "signature"),
        ("another payload", format!("{}.{signature}", head.replacen('.', ".e30", 1)), "signature"),
        ("ES256 of zeros", es_zero, "signature"),
        ("payload of text", hs_token(&json!("x")), "token is malformed: the payload"),
        ("a claim twice", twice, "token is malformed: the payload"),
        ("no exp", without("exp"), "exp is missing"),
        ("no aud", without("aud"), "aud is missing"),
        ("no iss", without("iss"), "iss is missing"),
        ("no sub", without("sub"), "sub is missing"),
        ("exp null", said("exp", Value::Null), "exp is missing"),
        ("exp as text", said("exp", json!("4000000000")), "exp must be a number"),
        ("exp below zero", said("exp", json!(-1)), "exp must be a number"),
        ("exp beyond all dates", said("exp", json!(1e300)), "exp must be a number"),
        ("expired", said("exp", json!(NOW - 11)), "exp has passed"),
        ("not yet", said("nbf", json!(NOW + 11)), "nbf is still to come"),
        ("nbf as text", said("nbf", json!("0")), "nbf must be a number"),
        ("wrong iss", said("iss", json!("evil")), "iss is wrong; expected \"pushmesh\""),
        ("iss as a list", said("iss", json!(["pushmesh"])), "iss must be a text"),
        ("wrong aud", said("aud", json!("pushmesh-backend")), "aud is wrong; expected \"pushmesh-client\""),
        ("aud empty", said("aud", json!([])), "aud is wrong"),
        ("aud as an object", said("aud", json!({"a": "pushmesh-client"})), "aud must be a text or a list"),
        ("sub with a dot", said("sub", json!("alice.*")), "sub has '.' at byte 5"),
        ("sub empty", said("sub", json!("")), "sub is empty"),
        ("sub of 65 bytes", said("sub", json!("a".repeat(65))), "sub has 65 bytes; the limit is 64"),
        ("sub as a number", said("sub", json!(7)), "sub must be a text"),
        ("sid with a wildcard", said("sid", json!(">")), "sid has '>'"),
        ("device with a line break", said("device", json!("a\r\nb")), "device has '\\r'"),
    ]
}

#[test]
fn a_bad_token_is_refused_by_the_name_of_what_is_wrong() {
    let verifier = Keys::new(JWKS).verifier();
    for (what, token, expected) in bad_tokens() {
        let error = verifier.client_at(&token, NOW * 1000).expect_err(what);
        let text = error.to_string();
        assert!(text.starts_with(expected), "{what}: {text:?} does not begin with {expected:?}");
        for part in token.split('.').filter(|part| part.len() > 8) {
            assert!(!format!("{text} {error:?}").contains(part), "{what}: the error tells of the token");
        }
    }
}

#[test]
fn clocks_may_differ_by_the_leeway_and_no_more() {
    let verifier = Keys::new(JWKS).verifier();
    let token = hs_token(&with(|claims| claims["nbf"] = json!(NOW)));
    let at = |seconds: u64| verifier.client_at(&token, seconds * 1000);
    assert!(at(NOW - 10).is_ok());
    assert!(at(NOW - 11).unwrap_err().to_string().starts_with("nbf"));
    assert!(at(NOW + 69).is_ok());
    assert!(at(NOW + 70).unwrap_err().to_string().starts_with("exp"));
}

#[test]
fn a_list_of_audiences_and_a_fraction_of_a_second_are_fine() {
    let verifier = Keys::new(JWKS).verifier();
    let token = hs_token(&with(|claims| {
        claims["aud"] = json!(["other", "pushmesh-client"]);
        claims["exp"] = json!(NOW as f64 + 0.5);
    }));
    assert_eq!(verifier.client_at(&token, NOW * 1000).unwrap().expires, NOW * 1000 + 500);
}

#[test]
fn client_and_backend_tokens_are_not_each_other() {
    let verifier = Keys::new(JWKS).verifier();
    let minter = Minter::hs256(SECRET);
    let client = hs_token(&client_claims());
    let refused = verifier.backend_at(&client, Scope::LoginWrite, NOW * 1000).unwrap_err();
    assert_eq!(refused.reason(), "aud");
    let one_key = Keys::new(&json!({"keys": [{"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET)}]}).to_string());
    let backend = minter.backend("b", &Scope::ALL, Duration::from_secs(60));
    assert!(one_key.verifier().backend(&backend, Scope::PushWrite).is_ok(), "one key needs no kid");
    assert_eq!(one_key.verifier().client(&backend).unwrap_err().reason(), "aud");
}

#[test]
fn without_keys_nobody_is_let_in() {
    let verifier = pushmesh_auth::Verifier::load(&Config::default()).unwrap();
    assert_eq!(verifier.client(&hs_token(&client_claims())).unwrap_err(), AuthError::NoKeys);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn no_text_panics_or_is_let_in(text in ".{0,200}", at in 0usize..150, byte in any::<u8>()) {
        let verifier = pushmesh_auth::Verifier::load(&Keys::new(JWKS).config).unwrap();
        prop_assert!(verifier.client_at(&text, NOW * 1000).is_err());
        // One changed byte of a good token: refused, or the very same token.
        let good = hs_token(&client_claims());
        let mut bytes = good.clone().into_bytes();
        bytes[at] = byte;
        if let Ok(changed) = String::from_utf8(bytes) {
            prop_assert_eq!(verifier.client_at(&changed, NOW * 1000).is_ok(), changed == good);
        }
    }
}
