//! Push kinds are configuration.

use e2e::{Mesh, Shape};

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_kind_is_a_name_and_a_process() {
    let mesh = Mesh::start(Shape { more_kinds: vec!["squad"], ..Shape::default() }).await;
    let backend = mesh.backend();
    backend.member("squad", "red", &["alice"]).await;
    backend.start_call("squad", "red", "raid").await;
    let mut alice = mesh.login("alice").await;
    alice.expect_call("raid").await;
    let pulled = alice.client.calls().await.expect("all four answer");
    assert_eq!((pulled.calls.len(), pulled.missing.len()), (1, 0));
    backend.end_call("squad", "raid").await;
    alice.expect_ended("raid").await;
    mesh.stop().await;
}
