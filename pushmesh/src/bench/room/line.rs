//! One kept-alive connection to api's HTTP door: a request out, its answer in, at the cost of two system calls.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// An answer of api's is smaller, but a ranking of a thousand.
const ANSWER_BYTES: usize = 1024;
const HEAD_END: &[u8] = b"\r\n\r\n";

pub struct Line {
    address: SocketAddr,
    authorization: String,
    stream: Option<TcpStream>,
    out: Vec<u8>,
    answer: Vec<u8>,
}

/// What api answered.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    pub status: u16,
    pub body: &'a [u8],
}

impl Line {
    pub fn new(address: SocketAddr, token: &str) -> Self {
        let authorization = format!("Bearer {token}");
        Self { address, authorization, stream: None, out: Vec::new(), answer: Vec::with_capacity(ANSWER_BYTES) }
    }

    pub async fn post(&mut self, path: &str, body: &str) -> anyhow::Result<Answer<'_>> {
        self.ask("POST", path, body).await
    }

    /// An answer that must be good.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        let answer = self.ask("GET", path, "").await?;
        if answer.status != 200 {
            bail!("GET {path}: {}: {}", answer.status, String::from_utf8_lossy(answer.body));
        }
        serde_json::from_slice(answer.body).with_context(|| format!("GET {path}"))
    }

    async fn ask(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<Answer<'_>> {
        let (address, authorization) = (self.address, &self.authorization);
        self.out.clear();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: {authorization}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.out.extend_from_slice(head.as_bytes());
        self.out.extend_from_slice(body.as_bytes());
        // Broken half-way it is opened anew for the next request.
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => TcpStream::connect(address).await.context("can't connect to api")?,
        };
        stream.set_nodelay(true)?;
        stream.write_all(&self.out).await?;
        let (status, head) = read(&mut stream, &mut self.answer).await?;
        self.stream = Some(stream);
        Ok(Answer { status, body: &self.answer[head..] })
    }
}

// The status, and where the body begins.
async fn read(stream: &mut TcpStream, answer: &mut Vec<u8>) -> anyhow::Result<(u16, usize)> {
    answer.clear();
    loop {
        if stream.read_buf(answer).await? == 0 {
            bail!("api closed the connection");
        }
        let Some(end) = answer.windows(HEAD_END.len()).position(|window| window == HEAD_END) else { continue };
        let body = end + HEAD_END.len();
        let head = std::str::from_utf8(&answer[..end]).context("api's answer has no head")?;
        let status = head.get(9..12).and_then(|status| status.parse().ok()).context("api's answer has no status")?;
        let length: usize = head.lines().find_map(content_length).context("api's answer has no length")?;
        while answer.len() < body + length {
            if stream.read_buf(answer).await? == 0 {
                bail!("api closed the connection in an answer");
            }
        }
        return Ok((status, body));
    }
}

fn content_length(line: &str) -> Option<usize> {
    let (name, value) = line.split_once(':')?;
    name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
}

impl Answer<'_> {
    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A number of the answer, by its name.
    pub fn number(&self, name: &str) -> Option<u64> {
        serde_json::from_slice::<Value>(self.body).ok()?.get(name)?.as_u64()
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_line_is_kept_and_an_answer_may_come_in_pieces() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            for body in ["{\"sequence\":17}", "{\"sequence\":18}"] {
                let mut request = vec![0; 1024];
                assert!(stream.read(&mut request).await.unwrap() > 0);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len());
                for piece in [head.as_str(), "\r\n", &body[..3], &body[3..]] {
                    stream.write_all(piece.as_bytes()).await.unwrap();
                    stream.flush().await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut line = Line::new(address, "t");
        assert_eq!(line.post("/x", "{}").await.unwrap().number("sequence"), Some(17));
        assert_eq!(line.get("/x").await.unwrap()["sequence"], 18);
        server.await.unwrap();
    }
}
