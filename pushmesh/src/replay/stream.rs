//! The stream of reports: requests out, answers in.

use pushmesh_proto::v1::{ReportRequest, ReportResponse, login_ingest_client::LoginIngestClient};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{doors::Door, exit::Failure};

/// Requests that may wait for the connection.
const QUEUE: usize = 2048;

/// An open stream.
pub struct Reports {
    requests: mpsc::Sender<ReportRequest>,
    answers: Streaming<ReportResponse>,
}

/// What the other side said.
pub enum Said {
    Answer(ReportResponse),
    Broken(Status),
}

impl Reports {
    pub async fn open(door: &Door) -> Result<Self, Failure> {
        let (requests, queue) = mpsc::channel(QUEUE);
        let request = door.request(ReceiverStream::new(queue));
        let answer = LoginIngestClient::new(door.channel.clone()).report(request).await;
        let answers = answer.map_err(|status| door.refused(&status))?.into_inner();
        Ok(Self { requests, answers })
    }

    pub async fn send(&mut self, request: ReportRequest) {
        // A stream that broke says so by its answers; the request is said again on the next.
        let _broken = self.requests.send(request).await;
    }

    /// Cancel safe.
    pub async fn said(&mut self) -> Said {
        match self.answers.message().await {
            Ok(Some(answer)) => Said::Answer(answer),
            Ok(None) => Said::Broken(Status::unavailable("closed by login-ingest")),
            Err(status) => Said::Broken(status),
        }
    }

    /// Ends the stream once everything is answered.
    pub async fn finish(self) {
        let Self { requests, mut answers } = self;
        drop(requests);
        // Nothing is owed any more: how the stream ends doesn't matter.
        while let Ok(Some(_)) = answers.message().await {}
    }
}
