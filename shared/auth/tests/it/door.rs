//! Who comes in by gRPC and HTTP.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use pushmesh_auth::{AuthError, Door, Identity, Minter, Scope, Verifier};
use tonic::{Code, metadata::MetadataMap};

use crate::{JWKS, Keys};

fn metadata(value: &str) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", value.parse().unwrap());
    metadata
}

fn headers(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(axum::http::header::AUTHORIZATION, value.parse().unwrap())])
}

fn door(keys: &Keys, listen: &str, insecure_local: bool) -> Result<Door, pushmesh_auth::DoorError> {
    Door::new(Verifier::load(&keys.config).unwrap(), listen.parse().unwrap(), insecure_local)
}

#[test]
fn a_door_wants_a_token_with_its_scope() {
    let keys = Keys::new(JWKS);
    let door = door(&keys, "0.0.0.0:1", false).unwrap();
    let minter = Minter::from_jwks(keys.config.jwks_file.as_ref().unwrap()).unwrap();
    let token = minter.backend("billing", &[Scope::LoginWrite], Duration::from_secs(60));

    let bearer = format!("bearer {token}");
    assert_eq!(door.check(&metadata(&bearer), Scope::LoginWrite).unwrap().name.as_str(), "billing");
    assert_eq!(door.check_http(&headers(&bearer), Scope::LoginWrite).unwrap().name.as_str(), "billing");

    let code = |value: &str, scope| door.check(&metadata(value), scope).unwrap_err().code();
    assert_eq!(code(&bearer, Scope::PushWrite), Code::PermissionDenied);
    assert_eq!(code("Basic eDp5", Scope::LoginWrite), Code::Unauthenticated);
    assert_eq!(code(&token, Scope::LoginWrite), Code::Unauthenticated);
    assert_eq!(code("Bearer ", Scope::LoginWrite), Code::Unauthenticated);
    assert_eq!(door.check(&MetadataMap::new(), Scope::LoginWrite).unwrap_err().code(), Code::Unauthenticated);

    let status = |headers: &HeaderMap, scope| door.check_http(headers, scope).unwrap_err().http_status();
    assert_eq!(status(&headers(&bearer), Scope::CallWrite), StatusCode::FORBIDDEN);
    assert_eq!(status(&HeaderMap::new(), Scope::LoginWrite), StatusCode::UNAUTHORIZED);
}

#[test]
fn without_tokens_it_opens_on_loopback_only() {
    let keys = Keys::new(JWKS);
    assert!(door(&keys, "0.0.0.0:1", true).err().unwrap().to_string().contains("loopback, not on 0.0.0.0:1"));
    assert!(door(&keys, "[::]:1", true).is_err());
    for local in ["127.0.0.1:1", "[::1]:1"] {
        let door = door(&keys, local, true).unwrap();
        assert_eq!(door.check(&MetadataMap::new(), Scope::PushWrite).unwrap().scopes, Scope::ALL);
        assert!(door.check(&metadata("Bearer a.b.c"), Scope::PushWrite).is_err(), "a token that is shown is checked");
    }
}

#[test]
fn a_door_for_both_knows_clients_from_backends() {
    let keys = Keys::new(JWKS);
    let strict = door(&keys, "127.0.0.1:1", false).unwrap();
    let minter = Minter::from_jwks(keys.config.jwks_file.as_ref().unwrap()).unwrap();
    let minute = Duration::from_secs(60);
    let backend = format!("Bearer {}", minter.backend("billing", &[Scope::RoomWrite], minute));
    let client = format!("Bearer {}", minter.client(&"alice".parse().unwrap(), None, minute));
    for (token, is_client) in [(&backend, false), (&client, true)] {
        let (http, grpc) = (strict.who_http(&headers(token)).unwrap(), strict.who(&metadata(token)).unwrap());
        assert_eq!(http, grpc);
        match http {
            Identity::Client(client) => assert!(is_client && client.user.as_str() == "alice"),
            Identity::Backend(backend) => assert!(!is_client && backend.scopes == [Scope::RoomWrite]),
        }
    }
    assert_eq!(strict.who_http(&HeaderMap::new()).unwrap_err(), AuthError::Missing);
    let broken = &client[..client.len() - 4];
    assert_eq!(strict.who_http(&headers(broken)).unwrap_err(), AuthError::Signature);
    let open = door(&keys, "127.0.0.1:1", true).unwrap();
    assert!(matches!(open.who_http(&HeaderMap::new()), Ok(Identity::Backend(_))));
    assert!(open.who_http(&headers(broken)).is_err(), "a token that is shown is checked");
}
