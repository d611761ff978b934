//! An api that answers as the test says.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Response, StatusCode, header},
    response::IntoResponse,
};
use pushmesh_client::{Api, ApiOptions, BackoffOptions, TokenSource};
use serde_json::Value;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub token: String,
    pub body: Value,
}

type Answers = Arc<dyn Fn(usize, &Asked) -> Answer + Send + Sync>;

/// What is answered to a request.
pub enum Answer {
    Json(u16, Value),
    NotNow,
    /// Nothing, ever.
    Silence,
}

/// An api at a free port, until it is dropped.
pub struct Door {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Door {
    /// `answer` is given the number of the request, from 0, and the request.
    pub async fn open(answer: impl Fn(usize, &Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let state = (asked.clone(), Arc::new(answer) as Answers);
        let app = Router::new().fallback(serve).with_state(state);
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, asked, server }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn options(&self) -> ApiOptions {
        let backoff = BackoffOptions { first: millis(10), cap: millis(50) };
        ApiOptions {
            backoff,
            request_timeout: millis(3000),
            ..ApiOptions::new(format!("http://{}/", self.address), "t1")
        }
    }

    pub fn api(&self) -> Api {
        Api::new(self.options()).unwrap()
    }

    pub fn api_with(&self, token: TokenSource) -> Api {
        Api::new(ApiOptions { token, ..self.options() }).unwrap()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.server.abort();
    }
}

pub fn millis(millis: u64) -> std::time::Duration {
    std::time::Duration::from_millis(millis)
}

async fn serve(State((all, answer)): State<(Arc<Mutex<Vec<Asked>>>, Answers)>, request: Request) -> Response<Body> {
    let path = request.uri().to_string();
    let token = request.headers().get(header::AUTHORIZATION).map_or("", |value| value.to_str().unwrap());
    let token = token.trim_start_matches("Bearer ").to_owned();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let asked = Asked { path, token, body: serde_json::from_slice(&body).unwrap_or_default() };
    let number = {
        let mut all = all.lock().unwrap();
        all.push(asked.clone());
        all.len() - 1
    };
    match answer(number, &asked) {
        Answer::Json(status, body) => (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response(),
        Answer::NotNow => (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "0")], "busy").into_response(),
        Answer::Silence => std::future::pending().await,
    }
}
