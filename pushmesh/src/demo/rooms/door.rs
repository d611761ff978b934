//! api as a backend uses it, over HTTP.

use std::time::Duration;

use anyhow::{Context, bail};
use pushmesh_protocol::{RoomId, UserId};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::oracle::Books;

/// Everybody who ever gave something stands in the ranking that is asked for.
const PLACES: u16 = 1000;
/// How often something is said again that an outage kept from being stored.
const TRIES: u32 = 5;

/// Where api is, and the token that opens it.
#[derive(Debug, Clone)]
pub struct Door {
    http: reqwest::Client,
    base: String,
    token: String,
}

/// A gift's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Given {
    pub sequence: u64,
    pub repeated: bool,
}

/// A gift as it is asked for; `note` comes back to whoever sees it.
#[derive(Debug, Clone)]
pub struct Present {
    pub key: String,
    pub gift: &'static str,
    pub count: u32,
    pub value: u64,
    pub from: UserId,
    pub note: String,
}

impl Door {
    /// `address` is api's HTTP door, `127.0.0.1:7480`.
    pub fn new(address: &str, token: String) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
        Ok(Self { http, base: format!("http://{address}/v1/rooms"), token })
    }

    pub async fn give(&self, room: &RoomId, present: &Present) -> anyhow::Result<Given> {
        let Present { key, gift, count, value, from, note } = present;
        let body = json!({ "key": key, "gift": gift, "count": count, "value": value, "from": from, "note": note });
        self.post(&format!("{room}/gifts"), &body).await.context("a gift")
    }

    /// The sequence of the line in its room.
    pub async fn say(&self, room: &RoomId, from: &UserId, data: &Value) -> anyhow::Result<u64> {
        #[derive(Deserialize)]
        struct Said {
            sequence: u64,
        }
        let body = json!({ "type": "chat", "from": from, "data": data.to_string() });
        let said: Said = self.post(&format!("{room}/messages"), &body).await.context("a line of chat")?;
        Ok(said.sequence)
    }

    /// How many of the likes were accepted.
    pub async fn like(&self, room: &RoomId, from: &UserId, count: u32) -> anyhow::Result<u64> {
        #[derive(Deserialize)]
        struct Liked {
            accepted: u64,
        }
        // Not said again whatever happens: likes have no key.
        let request =
            self.request(Method::POST, &format!("{room}/likes")).json(&json!({ "from": from, "count": count }));
        let response = request.send().await?;
        match response.status() {
            status if status.is_success() => Ok(response.json::<Liked>().await?.accepted),
            StatusCode::TOO_MANY_REQUESTS => Ok(0),
            status => bail!("likes: {status}: {}", response.text().await?),
        }
    }

    pub async fn books(&self, room: &RoomId) -> anyhow::Result<Books> {
        #[derive(Deserialize)]
        struct Info {
            gifts_total: u64,
            likes_total: u64,
        }
        #[derive(Deserialize)]
        struct Ranking {
            top: Vec<Place>,
        }
        #[derive(Deserialize)]
        struct Place {
            user: UserId,
            total: u64,
        }
        let info: Info = self.get(&room.to_string()).await.context("a room")?;
        let ranking: Ranking = self.get(&format!("{room}/ranking?places={PLACES}")).await.context("a ranking")?;
        let ranking = ranking.top.into_iter().map(|place| (place.user, place.total)).collect();
        Ok(Books { ranking, gifts_total: info.gifts_total, likes_total: info.likes_total })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/{path}", self.base)).bearer_auth(&self.token)
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let response = self.request(Method::GET, path).send().await?;
        match response.status() {
            status if status.is_success() => Ok(response.json().await?),
            status => bail!("{status}: {}", response.text().await?),
        }
    }

    async fn post<T: serde::de::DeserializeOwned>(&self, path: &str, body: &Value) -> anyhow::Result<T> {
        let mut tries = 1;
        loop {
            let response = self.request(Method::POST, path).json(body).send().await?;
            match response.status() {
                status if status.is_success() => return Ok(response.json().await?),
                StatusCode::SERVICE_UNAVAILABLE if tries < TRIES => tries += 1,
                status => bail!("{status}: {}", response.text().await?),
            }
        }
    }
}
