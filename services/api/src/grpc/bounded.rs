//! [`Bounded`]: a contract whose requests have at most so many bytes, and whose callers are told which limit they passed.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use tonic::{
    Code, Status,
    body::Body,
    codegen::{Service, http},
    server::NamedService,
};

use crate::refusal::Refusal;

/// The contract itself refuses what is too large, in the words of its library.
#[derive(Clone)]
pub struct Bounded<S> {
    contract: S,
    limit: &'static str,
    most: usize,
}

impl<S> Bounded<S> {
    /// `contract` takes messages of at most `most` bytes, which is the limit of that name.
    pub fn new(contract: S, limit: &'static str, most: usize) -> Self {
        Self { contract, limit, most }
    }
}

impl<S: NamedService> NamedService for Bounded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Bounded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.contract.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (answering, limit, most) = (self.contract.call(request), self.limit, self.most);
        Box::pin(async move {
            let answer = answering.await?;
            // No refusal of ours has this code, and none of the library's has a limit's name.
            let is_too_large = Status::from_header_map(answer.headers()).is_some_and(|s| s.code() == Code::OutOfRange);
            Ok(if is_too_large { Status::from(too_large(limit, most)).into_http() } else { answer })
        })
    }
}

fn too_large(limit: &'static str, most: usize) -> Refusal {
    Refusal {
        code: crate::refusal::Code::TooLarge,
        ..Refusal::beyond("body", limit, format!("is too large; the limit is {most} bytes"))
    }
}
