//! What a client, or a backend, says to a mesh over HTTP: into rooms, and where to connect.

mod error;
mod gift;
mod likes;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use pushmesh_protocol::{Payload, RoomId, Token, UserId};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use self::likes::{Fate, Likes};
pub use self::{
    error::{ApiError, Refusal},
    gift::{Gift, Given, new_key},
    likes::LikeStats,
};
use crate::{
    backoff::Backoff,
    options::BackoffOptions,
    task::random,
    token::{TokenSource, TokenSourceError},
};

/// How often a room's likes are sent.
const LIKES_EVERY: Duration = Duration::from_secs(1);

/// How an [`Api`] is reached.
#[derive(Debug, Clone)]
pub struct ApiOptions {
    /// `http://host:port`; TLS ends in front of a mesh, and is not spoken here.
    pub url: String,
    pub token: TokenSource,
    /// How long one request may take. Default 10 s.
    pub request_timeout: Duration,
    /// How long a gift is said again until it is answered. Default 55 min: its key is good for an hour.
    pub gift_patience: Duration,
    /// How long a message is said again. Default 15 s: chat of a minute ago is no chat.
    pub message_patience: Duration,
    /// Delays before saying something again, unless api says when.
    pub backoff: BackoffOptions,
}

impl ApiOptions {
    /// The defaults.
    pub fn new(url: impl Into<String>, token: impl Into<TokenSource>) -> Self {
        Self {
            url: url.into(),
            token: token.into(),
            request_timeout: Duration::from_secs(10),
            gift_patience: Duration::from_secs(55 * 60),
            message_patience: Duration::from_secs(15),
            backoff: BackoffOptions::default(),
        }
    }
}

/// The way to a mesh's api; clones share it. With a client's token everything is said in that user's name, with a
/// backend's in the name given to [`in_the_name_of`](Self::in_the_name_of).
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
    from: Option<UserId>,
    /// In that name; taken for a moment, never across an await.
    likes: Arc<Mutex<Likes>>,
}

struct Shared {
    http: reqwest::Client,
    options: ApiOptions,
    /// The one in use; taken for a moment, never across an await.
    token: Mutex<Option<Arc<str>>>,
}

/// A message that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Stored {
    /// Its offset in its chain.
    pub sequence: u64,
}

#[derive(Deserialize)]
struct Accepted {
    accepted: u32,
}

#[derive(Deserialize)]
struct Comets {
    candidates: Vec<Comet>,
}

#[derive(Deserialize)]
struct Comet {
    address: String,
}

impl Api {
    pub fn new(options: ApiOptions) -> Result<Self, ApiError> {
        let url = options.url.trim_end_matches('/').to_owned();
        let bad_url = || ApiError::Url(options.url.clone());
        let parsed = reqwest::Url::parse(&url).map_err(|_| bad_url())?;
        if parsed.scheme() != "http" || !parsed.has_host() || parsed.query().is_some() {
            return Err(bad_url());
        }
        // The mesh's other doors know no proxies of the environment either.
        let http = reqwest::Client::builder().no_proxy().timeout(options.request_timeout).build();
        let http = http.map_err(|_| bad_url())?;
        let options = ApiOptions { url, ..options };
        let shared = Shared { http, options, token: Mutex::default() };
        Ok(Self { shared: Arc::new(shared), from: None, likes: Arc::default() })
    }

    /// The same way, for a backend that speaks for a user; his likes are counted by themselves.
    pub fn in_the_name_of(&self, user: UserId) -> Self {
        Self { shared: self.shared.clone(), from: Some(user), likes: Arc::default() }
    }

    /// Says a line of chat. It is stored when this returns; repeated for a while where that is not sure, and still one line.
    pub async fn chat(&self, room: &RoomId, text: &str) -> Result<Stored, ApiError> {
        self.message(room, &token("chat"), &text.into()).await
    }

    /// Like [`chat`](Self::chat), to fly over the picture.
    pub async fn danmaku(&self, room: &RoomId, text: &str) -> Result<Stored, ApiError> {
        self.message(room, &token("danmaku"), &text.into()).await
    }

    /// A message of the application's own type.
    pub async fn message(&self, room: &RoomId, kind: &Token, data: &Payload) -> Result<Stored, ApiError> {
        let body = json!({ "type": kind, "data": data, "id": uuid::Uuid::now_v7().to_string() });
        let path = format!("/v1/rooms/{room}/messages");
        self.persist(&path, &self.signed(body), self.shared.options.message_patience).await
    }

    /// Gives. Said again, with its key, until it is answered; whoever gives up earlier (drops this future) may give the same
    /// [`Gift`] again later, within an hour, and it is still one.
    pub async fn gift(&self, room: &RoomId, gift: &Gift) -> Result<Given, ApiError> {
        let body = self.signed(serde_json::to_value(gift).expect("a gift has no type that JSON lacks"));
        self.persist(&format!("/v1/rooms/{room}/gifts"), &body, self.shared.options.gift_patience).await
    }

    /// Likes a room: added to those that wait, which are sent once a second. See [`like_stats`](Self::like_stats).
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn like(&self, room: &RoomId, count: u32) {
        let begin = {
            let mut likes = self.likes();
            likes.add(room, count);
            !std::mem::replace(&mut likes.sending, true)
        };
        if begin {
            tokio::spawn(self.clone().send_likes());
        }
    }

    /// Sends likes now; how many of them the mesh took. Not repeated: nothing tells likes from each other.
    pub async fn like_now(&self, room: &RoomId, count: u32) -> Result<u32, ApiError> {
        let path = format!("/v1/rooms/{room}/likes");
        let answer: Accepted = self.post(&path, &self.signed(json!({ "count": count }))).await?;
        Ok(answer.accepted)
    }

    pub fn like_stats(&self) -> LikeStats {
        self.likes().stats
    }

    /// Where to connect: addresses as they are advertised, in the order in which to try them. `transport` is `ws` or `tcp`.
    pub async fn comets(&self, transport: &str) -> Result<Vec<String>, ApiError> {
        let answer: Comets = self.get(&format!("/v1/connect?transport={transport}")).await?;
        Ok(answer.candidates.into_iter().map(|comet| comet.address).collect())
    }

    /// Any operation of api's that is read.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.request(Method::GET, path, None).await
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, ApiError> {
        self.request(Method::POST, path, Some(body)).await
    }

    /// Any operation: `path` begins with `/v1/`. An empty answer is JSON's null. A token that is refused is asked for anew,
    /// once.
    pub async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, ApiError> {
        let token = self.token().await?;
        let refused = match self.once(&method, path, body, &token).await {
            Err(ApiError::Refused(refusal)) if refusal.status == StatusCode::UNAUTHORIZED => refusal,
            done => return done,
        };
        self.shared.token.lock().expect("nobody panics with it").take_if(|known| *known == token);
        let another = self.token().await?;
        if another == token {
            return Err(ApiError::Refused(refused));
        }
        self.once(&method, path, body, &another).await
    }

    async fn once<T: DeserializeOwned>(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        token: &str,
    ) -> Result<T, ApiError> {
        let Shared { http, options, .. } = &*self.shared;
        let mut request = http.request(method.clone(), format!("{}{path}", options.url));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let unanswered = |error: reqwest::Error| {
            let reason = match &error {
                error if error.is_timeout() => format!("it took longer than {:?}", options.request_timeout),
                error => innermost(error),
            };
            ApiError::Unanswered { url: options.url.clone(), reason, sent: !error.is_connect() }
        };
        let response = request.send().await.map_err(unanswered)?;
        if !response.status().is_success() {
            return Err(ApiError::Refused(Box::new(Refusal::of(response).await)));
        }
        let answer = response.bytes().await.map_err(unanswered)?;
        let answer: &[u8] = if answer.is_empty() { b"null" } else { &answer };
        serde_json::from_slice(answer).map_err(|error| ApiError::Malformed(error.to_string()))
    }

    /// Says the same until it is answered, for a while. The first try is made whatever `patience` says.
    async fn persist<T: DeserializeOwned>(&self, path: &str, body: &Value, patience: Duration) -> Result<T, ApiError> {
        let BackoffOptions { first, cap } = self.shared.options.backoff;
        let (mut backoff, until) = (Backoff::new(first, cap), Instant::now() + patience);
        let mut error = match self.post(path, body).await {
            Err(error) if error.may_pass() => error,
            done => return done,
        };
        loop {
            let pause = match error.retry_after() {
                Some(after) => backoff.said(after, random()),
                None => backoff.next(random()),
            };
            tracing::debug!(%error, ?pause, path, "said again");
            let again = async {
                sleep(pause).await;
                self.post(path, body).await
            };
            error = match timeout_at(until, again).await {
                Ok(Err(next)) if next.may_pass() => next,
                Ok(done) => return done,
                Err(_) => return Err(error),
            };
        }
    }

    /// Until none waits; then the next like begins anew.
    async fn send_likes(self) {
        loop {
            let waiting = {
                let mut likes = self.likes();
                let waiting = likes.take();
                likes.sending = !waiting.is_empty();
                waiting
            };
            if waiting.is_empty() {
                return;
            }
            let next = Instant::now() + LIKES_EVERY;
            for (room, count) in waiting {
                let fate = match self.like_now(&room, count).await {
                    Ok(accepted) => Fate::Accepted(accepted),
                    Err(ApiError::Unanswered { sent: true, .. } | ApiError::Malformed(_)) => Fate::Unknown,
                    Err(error) if error.may_pass() => Fate::NotSent,
                    Err(_) => Fate::Refused,
                };
                self.likes().sent(&room, count, fate);
            }
            tokio::time::sleep_until(next).await;
        }
    }

    fn likes(&self) -> MutexGuard<'_, Likes> {
        self.likes.lock().expect("nobody panics with it")
    }

    fn signed(&self, mut body: Value) -> Value {
        if let (Some(from), Some(body)) = (&self.from, body.as_object_mut()) {
            body.insert("from".into(), json!(from));
        }
        body
    }

    async fn token(&self) -> Result<Arc<str>, TokenSourceError> {
        let known = self.shared.token.lock().expect("nobody panics with it").clone();
        match known {
            Some(token) => Ok(token),
            None => {
                let token = self.shared.options.token.token().await?;
                *self.shared.token.lock().expect("nobody panics with it") = Some(token.clone());
                Ok(token)
            }
        }
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("url", &self.shared.options.url).field("from", &self.from).finish_non_exhaustive()
    }
}

fn token(text: &str) -> Token {
    Token::new(text).expect("a token")
}

/// What went wrong in the end: reqwest's own text says that a request failed.
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
