//! A server that plays what a real one does too seldom: it answers each publish as its script says.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A publish, as the server got it.
#[derive(Debug, Clone)]
pub struct Said {
    pub headers: HashMap<String, String>,
    pub payload: String,
    wants_answer: bool,
}

impl Said {
    pub fn is_of_a_batch(&self) -> bool {
        self.headers.contains_key("Nats-Batch-Id")
    }
}

/// Ends when it is dropped.
pub struct Scripted {
    pub url: String,
    said: Arc<Mutex<Vec<Said>>>,
    _tasks: JoinSet<()>,
}

impl Scripted {
    /// `script` answers those publishes that want an answer; `None`: not this one.
    pub async fn start(script: impl FnMut(&Said) -> Option<String> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let said = Arc::new(Mutex::new(vec![]));
        let mut tasks = JoinSet::new();
        let told = said.clone();
        tasks.spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            // The client going is the end of the story.
            let _ = serve(stream, script, told).await;
        });
        Self { url, said, _tasks: tasks }
    }

    pub fn said(&self) -> Vec<Said> {
        self.said.lock().unwrap().clone()
    }
}

async fn serve(
    stream: TcpStream,
    mut script: impl FnMut(&Said) -> Option<String>,
    told: Arc<Mutex<Vec<Said>>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let info = r#"{"server_id":"scripted","version":"2.14.0","proto":1,"headers":true,"max_payload":1048576}"#;
    stream.write_all(format!("INFO {info}\r\n").as_bytes()).await?;
    // Subscriptions by what stands before their wildcard.
    let mut subscriptions: Vec<(String, String)> = vec![];
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["PING"] => stream.write_all(b"PONG\r\n").await?,
            ["SUB", subject, sid] => {
                subscriptions.push((subject.trim_end_matches(['*', '>']).to_owned(), sid.to_owned()));
            }
            ["HPUB" | "PUB", _, .., bytes] => {
                let mut body = vec![0; bytes.parse::<usize>().unwrap() + 2];
                stream.read_exact(&mut body).await?;
                let text = String::from_utf8(body).unwrap();
                let reply = match (words[0], words.len()) {
                    ("HPUB", 5) | ("PUB", 4) => Some(words[2].to_owned()),
                    _ => None,
                };
                let headers = if words[0] == "HPUB" { words[words.len() - 2].parse().unwrap() } else { 0 };
                let said = Said {
                    headers: text[..headers]
                        .lines()
                        .filter_map(|line| line.split_once(": ").or_else(|| line.split_once(':')))
                        .map(|(name, value)| (name.to_owned(), value.to_owned()))
                        .collect(),
                    payload: text[headers..].trim_end().to_owned(),
                    wants_answer: reply.is_some(),
                };
                let answer = if said.wants_answer { script(&said) } else { None };
                told.lock().unwrap().push(said);
                if let (Some(reply), Some(answer)) = (reply, answer) {
                    let sid = subscriptions.iter().find(|(subject, _)| reply.starts_with(subject)).unwrap().1.clone();
                    let message = format!("MSG {reply} {sid} {}\r\n{answer}\r\n", answer.len());
                    stream.write_all(message.as_bytes()).await?;
                }
            }
            _ => {}
        }
    }
}
