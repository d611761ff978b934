//! api's HTTP door, as a backend or a client uses it.

use std::collections::BTreeMap;

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::PATIENCE;

/// An answer, whatever it says.
#[derive(Debug, Clone)]
pub struct Said {
    pub status: StatusCode,
    pub retry_after: Option<u64>,
    pub body: Value,
}

#[derive(Debug, Clone)]
pub struct Front {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Front {
    pub fn new(address: &str, token: &str) -> Self {
        let http = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client");
        Self { http, base: format!("http://{address}"), token: token.to_owned() }
    }

    /// The same door with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Said {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.expect("api answers");
        let status = response.status();
        let retry_after = response.headers().get(header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        let text = response.text().await.expect("an answer");
        Said { status, retry_after, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
    }

    pub async fn get(&self, path: &str) -> Said {
        self.ask(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Said {
        self.ask(Method::POST, path, Some(body)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Said {
        self.ask(Method::PUT, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Said {
        self.ask(Method::DELETE, path, None).await
    }

    /// Gives a gift of this value; the key makes it one.
    pub async fn gift(&self, room: &str, key: &str, from: &str, value: u64) -> Said {
        let body = json!({ "key": key, "gift": "rose", "count": 1, "value": value, "from": from });
        self.post(&format!("/v1/rooms/{room}/gifts"), &body).await
    }

    /// Says a line of chat; its offset.
    pub async fn chat(&self, room: &str, from: &str, text: &str) -> u64 {
        let said = self.try_chat(room, from, text).await;
        said.body["sequence"].as_u64().unwrap_or_else(|| panic!("a line is stored: {said:?}"))
    }

    pub async fn try_chat(&self, room: &str, from: &str, text: &str) -> Said {
        let body = json!({ "type": "chat", "from": from, "data": text });
        self.post(&format!("/v1/rooms/{room}/messages"), &body).await
    }

    /// How many likes were accepted.
    pub async fn like(&self, room: &str, from: &str, count: u32) -> u64 {
        let said = self.post(&format!("/v1/rooms/{room}/likes"), &json!({ "from": from, "count": count })).await;
        said.body["accepted"].as_u64().unwrap_or(0)
    }

    /// Where to connect over `transport`: names of comets by their addresses.
    pub async fn connect(&self, transport: &str) -> BTreeMap<String, String> {
        let said = self.get(&format!("/v1/connect?transport={transport}")).await;
        let named = |candidate: &Value| {
            Some((candidate["address"].as_str()?.to_owned(), candidate["comet"].as_str()?.to_owned()))
        };
        let candidates = said.body["candidates"].as_array();
        candidates.into_iter().flatten().map(|one| named(one).unwrap_or_else(|| panic!("{said:?}"))).collect()
    }

    pub async fn room(&self, room: &str) -> Value {
        let said = self.get(&format!("/v1/rooms/{room}")).await;
        assert!(said.status.is_success(), "{said:?}");
        said.body
    }

    /// Users with the value of their gifts, the greatest first.
    pub async fn ranking(&self, room: &str, places: u32) -> Vec<(String, u64)> {
        let said = self.get(&format!("/v1/rooms/{room}/ranking?places={places}")).await;
        let top = said.body["top"].as_array().unwrap_or_else(|| panic!("a ranking: {said:?}"));
        let place = |place: &Value| Some((place["user"].as_str()?.to_owned(), place["total"].as_u64()?));
        top.iter().map(|ranked| place(ranked).unwrap_or_else(|| panic!("{ranked}"))).collect()
    }
}

/// A key for a gift made now.
pub fn gift_key() -> String {
    uuid::Uuid::now_v7().to_string()
}
