//! What clients ask: their active calls, and whatever an application answers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use pushmesh_bus::{Bus, RequestError};
use pushmesh_protocol::{
    Kind, Payload, Token,
    frame::{App, AppBody, Calls, Error, ErrorCode, ServerFrame},
    message::{AppAnswer, AppRequest, CallsAnswer, CallsRequest},
    name::Subject,
    wire,
};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    metrics,
    shard::{
        command::{Queues, Urgent},
        outlet::{Asked, Question},
    },
};

/// Questions under way at once; more wait in the queue.
const AT_ONCE: u32 = 2048;

pub struct Answerer {
    pub bus: Bus,
    pub kinds: Vec<Kind>,
    pub apps: BTreeMap<u16, Token>,
    pub shards: Vec<Queues>,
    pub calls_within: Duration,
    pub app_within: Duration,
    /// Most bytes of an answer that fits a frame.
    pub frame_bytes: usize,
}

impl Answerer {
    /// Answers until the queue closes and the last question is answered.
    pub async fn run(self: Arc<Self>, mut questions: mpsc::Receiver<Question>) {
        let places = Arc::new(Semaphore::new(AT_ONCE as usize));
        while let Some(question) = questions.recv().await {
            let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
            let me = self.clone();
            tokio::spawn(async move {
                me.answer(question).await;
                drop(place);
            });
        }
        let _all = places.acquire_many(AT_ONCE).await;
    }

    async fn answer(&self, question: Question) {
        let to = question.from;
        let frame = match &question.what {
            Asked::Calls { re } => ServerFrame::Calls(self.calls(&question, *re).await),
            Asked::App { code, re, data } => self.app(&question, *code, *re, data.clone()).await,
        };
        if let Some(queues) = self.shards.get(usize::from(to.shard)) {
            // Waits for a place: this task is one of a bounded number. Closed: the connection is going too.
            let _ = queues.urgent.send(Urgent::Answer { to, frame: to.dialect.encode(&frame) }).await;
        }
    }

    async fn calls(&self, question: &Question, re: u32) -> Calls {
        let request = CallsRequest { user: question.user.clone(), login_id: question.login_id.clone() };
        let payload: bytes::Bytes = wire::encode(&request).into();
        let asked = self.kinds.iter().map(|kind| {
            let (subject, payload) = (Subject::calls(kind, question.partition), payload.clone());
            async move {
                let answer = self.bus.request(subject, payload, self.calls_within).await.ok();
                (kind, answer.and_then(|answer| wire::decode::<CallsAnswer>(&answer).ok()))
            }
        });
        let mut found = Calls { re, calls: Vec::new(), missing: Vec::new() };
        for (kind, answer) in join_all(asked).await {
            match answer {
                Some(answer) => found.calls.extend(answer.calls),
                None => found.missing.push(kind.clone()),
            }
        }
        metrics::question("calls", if found.missing.is_empty() { "answered" } else { "incomplete" });
        found
    }

    async fn app(&self, question: &Question, code: u16, re: Option<u32>, data: Payload) -> ServerFrame {
        let Some(name) = self.apps.get(&code) else {
            return refused("not_served", ErrorCode::NotServed, re, format!("no application serves code {code}"));
        };
        let request = AppRequest {
            code,
            user: question.user.clone(),
            device: question.device.clone(),
            login_id: question.login_id.clone(),
            data,
        };
        let answer = self.bus.request(Subject::app(name), wire::encode(&request).into(), self.app_within).await;
        match answer.map(|answer| wire::decode::<AppAnswer>(&answer)) {
            Ok(Ok(AppAnswer::Data(data))) if data.0.len() > self.frame_bytes => {
                let message = format!("{name} answered {} bytes; the limit is {}", data.0.len(), self.frame_bytes);
                refused("too_large", ErrorCode::TooLarge, re, message)
            }
            Ok(Ok(AppAnswer::Data(data))) => {
                metrics::question("app", "answered");
                ServerFrame::App(App { code, body: AppBody { re, data } })
            }
            Ok(Ok(AppAnswer::Error(message))) => {
                let message = message.chars().take(1024).collect();
                refused("forbidden", ErrorCode::Forbidden, re, message)
            }
            Ok(Err(_)) => refused("malformed", ErrorCode::Unavailable, re, format!("{name} answered nonsense")),
            Err(RequestError::NoResponders) => {
                refused("not_served", ErrorCode::NotServed, re, format!("nobody serves {name} now"))
            }
            Err(error) => refused("unavailable", ErrorCode::Unavailable, re, format!("{name}: {error}")),
        }
    }
}

fn refused(outcome: &'static str, error: ErrorCode, re: Option<u32>, message: String) -> ServerFrame {
    metrics::question("app", outcome);
    let retry_after_ms = (error == ErrorCode::Unavailable).then_some(1_000);
    ServerFrame::Error(Error { error, field: None, message, retry_after_ms, address: None, re })
}
