use pushmesh_auth::Scope;
use reqwest::{Client, Method};
use serde_json::Value;

use crate::mesh::{Mesh, Said};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_document_says_is_served() {
    let mesh = Mesh::start().await;
    let all = mesh.at_one(mesh.backend(&Scope::ALL));
    let response = Client::new().get(all.url("/v1/openapi.json")).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    let document: Value = response.json().await.unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let mut operations = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let real = path.replace("{room}", "stage").replace("{user}", "alice");
        for (method, operation) in methods.as_object().unwrap() {
            operations += 1;
            let method: Method = method.to_uppercase().parse().unwrap();
            let stranger = Client::new().request(method.clone(), all.url(&real)).body("{}").send().await.unwrap();
            let status = stranger.status().as_u16();
            // Each tells a stranger what its security is.
            let is_open =
                operation["security"].as_array().is_some_and(|all| all.iter().all(|one| one == &serde_json::json!({})));
            assert_eq!(status, if is_open { 200 } else { 401 }, "{method} {real}");
            let said = all.ask(method.clone(), &real, "{}").await;
            assert!(![404, 405].contains(&said.status.as_u16()), "{method} {real}: {said:?}");
            let known = &operation["responses"][said.status.as_str()];
            assert!(known.is_object(), "{method} {real} answers what it does not tell: {said:?}");
        }
    }
    assert_eq!(operations, 21);
    // And no method of these paths that it does not name.
    for (path, methods) in document["paths"].as_object().unwrap() {
        let real = path.replace("{room}", "stage").replace("{user}", "alice");
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            if methods.get(method.to_lowercase()).is_none() {
                let said = all.ask(method.parse().unwrap(), &real, "{}").await;
                Said::refused(&said, 405, "method_not_allowed", "");
            }
        }
    }
}
