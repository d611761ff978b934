//! What clients ask: their active calls, and whatever an application answers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use pushmesh_bus::{Bus, RequestError};
use pushmesh_protocol::{
    Kind, Payload, Token,
    frame::{App, AppBody, Calls, Encoding, Error, ErrorCode, ServerFrame},
    message::{AppAnswer, AppRequest, CallsAnswer, CallsRequest},
    name::Subject,
    wire,
};
use tokio::sync::Semaphore;

use crate::{
    metrics,
    queue::Receiver,
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
    /// Most bytes of an answer's frame.
    pub frame_bytes: usize,
}

impl Answerer {
    /// Answers until the queue closes and the last question is answered.
    pub async fn run(self: Arc<Self>, mut questions: Receiver<Question>) {
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
        let encoding = to.dialect.encoding();
        let frame = match &question.what {
            Asked::Calls { re } => ServerFrame::Calls(self.calls(&question, *re, encoding).await),
            Asked::App { code, re, data } => self.app(&question, *code, *re, data.clone(), encoding).await,
        };
        if let Some(queues) = self.shards.get(usize::from(to.shard)) {
            // Waits for a place: this task is one of a bounded number. Closed: the connection is going too.
            let _ = queues.urgent.send(Urgent::Answer { to, frame: to.dialect.encode(&frame) }).await;
        }
    }

    async fn calls(&self, question: &Question, re: u32, encoding: Encoding) -> Calls {
        let request = CallsRequest { user: question.user.clone(), login_id: question.login_id.clone() };
        let payload: bytes::Bytes = wire::encode(&request).into();
        let asked = self.kinds.iter().map(|kind| {
            let (subject, payload) = (Subject::calls(kind, question.partition), payload.clone());
            async move {
                let answer = self.bus.request(subject, payload, self.calls_within).await.ok();
                (kind, answer.and_then(|answer| wire::decode::<CallsAnswer>(&answer).ok()))
            }
        });
        let answers = join_all(asked).await.into_iter().map(|(kind, answer)| (kind.clone(), answer));
        let found = fitting(re, answers.collect(), self.frame_bytes, encoding);
        metrics::question("calls", if found.missing.is_empty() { "answered" } else { "incomplete" });
        found
    }

    async fn app(
        &self,
        question: &Question,
        code: u16,
        re: Option<u32>,
        data: Payload,
        encoding: Encoding,
    ) -> ServerFrame {
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
            Ok(Ok(AppAnswer::Data(data))) => {
                let frame = ServerFrame::App(App { code, body: AppBody { re, data } });
                let bytes = frame.encode(encoding).len();
                if bytes > self.frame_bytes {
                    let message =
                        format!("{name} answered a frame of {bytes} bytes; the limit is {}", self.frame_bytes);
                    return refused("too_large", ErrorCode::TooLarge, re, message);
                }
                metrics::question("app", "answered");
                frame
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

/// As many of the calls as one frame holds; a kind that did not answer, or not all of whose calls fit, is named missing.
fn fitting(re: u32, answers: Vec<(Kind, Option<CallsAnswer>)>, frame_bytes: usize, encoding: Encoding) -> Calls {
    // More than a call takes in a list: its frame's own bytes count each time.
    let bytes = |calls, missing| ServerFrame::Calls(Calls { re, calls, missing }).encode(encoding).len();
    let mut left =
        frame_bytes.saturating_sub(bytes(Vec::new(), answers.iter().map(|(kind, _)| kind.clone()).collect()));
    let mut found = Calls { re, calls: Vec::new(), missing: Vec::new() };
    for (kind, answer) in answers {
        let Some(answer) = answer else {
            found.missing.push(kind);
            continue;
        };
        for call in answer.calls {
            match left.checked_sub(bytes(vec![call.clone()], Vec::new())) {
                Some(rest) => left = rest,
                None => {
                    found.missing.push(kind);
                    break;
                }
            }
            found.calls.push(call);
        }
    }
    found
}

fn refused(outcome: &'static str, error: ErrorCode, re: Option<u32>, message: String) -> ServerFrame {
    metrics::question("app", outcome);
    let retry_after_ms = (error == ErrorCode::Unavailable).then_some(1_000);
    ServerFrame::Error(Error { error, field: None, message, retry_after_ms, address: None, re, room: None })
}

#[cfg(test)]
mod tests {
    use pushmesh_protocol::{
        PushId,
        frame::{ActiveCall, Call},
    };

    use super::*;

    #[test]
    fn calls_that_do_not_fit_a_frame_are_left_out_and_their_kind_is_named() {
        let kind = |name: &str| Kind::new(name).unwrap();
        let call = |number: usize| ActiveCall {
            id: PushId::of_call(
                &kind("group"),
                &format!("c{number}").parse().unwrap(),
                &"ann".parse().unwrap(),
                &"l1".parse().unwrap(),
            ),
            call: Call {
                kind: kind("group"),
                call_id: format!("c{number}").parse().unwrap(),
                unit: "g".parse().unwrap(),
                started_at: 1,
                data: Some(Payload(vec![b'x'; 1024].into())),
            },
        };
        for encoding in [Encoding::MessagePack, Encoding::Json] {
            let many = CallsAnswer { calls: (0..256).map(call).collect() };
            let answers = vec![(kind("group"), Some(many)), (kind("org"), None)];
            let found = fitting(7, answers, 65_536, encoding);
            assert_eq!(found.missing, [kind("group"), kind("org")]);
            assert!(found.calls.len() > 30, "{} fit", found.calls.len());
            assert!(ServerFrame::Calls(found).encode(encoding).len() <= 65_536);
            let few = CallsAnswer { calls: (0..3).map(call).collect() };
            let found = fitting(7, vec![(kind("group"), Some(few))], 65_536, encoding);
            assert_eq!((found.calls.len(), found.missing.len()), (3, 0));
        }
    }
}
