//! `pushmesh tail`: what a user is told, or what nobody acknowledged, as it comes.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use pushmesh_bus::StreamEvent;
use pushmesh_client::{Address, Client, Encoding, End, Event, Options, TokenSource};
use pushmesh_protocol::{
    DeviceId, UserId,
    frame::PushBody,
    message::DeadLetter,
    name::{Filter, Stream},
    wire,
};
use serde_json::json;

use crate::{
    doors::Place,
    exit::{Failure, Outcome},
    output::{Output, clock},
    provision,
    room::lines,
};

#[derive(Debug, clap::Args)]
pub struct Tail {
    /// Log in as this user, with a token minted with the mesh's keys
    #[arg(long, required_unless_present_any = ["token_file", "dead"], conflicts_with_all = ["token_file", "dead"])]
    user: Option<UserId>,
    /// Log in with the token in this file
    #[arg(long, value_name = "FILE", conflicts_with = "dead")]
    token_file: Option<PathBuf>,
    /// The device to be: another connection of the same one is replaced
    #[arg(long, default_value = "tail")]
    device: DeviceId,
    /// ws://host:port or tcp://host:port [default: the running mesh's WebSocket]
    #[arg(long, value_name = "URL")]
    address: Option<Address>,
    /// Speak JSON on the wire instead of MessagePack
    #[arg(long)]
    wire_json: bool,
    /// Show pushes and don't acknowledge them
    #[arg(long)]
    no_ack: bool,
    /// Follow the dead letters of all users instead, from the oldest kept
    #[arg(long)]
    dead: bool,
    /// Servers to read dead letters from [default: the running mesh's]
    #[arg(long, value_name = "URL", requires = "dead")]
    nats_url: Option<String>,
    /// End after so many lines of pushes, ends or dead letters
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    place: Place,
}

impl Tail {
    pub async fn run(self) -> Outcome {
        if self.dead { self.dead_letters().await } else { self.pushes().await }
    }

    async fn pushes(self) -> Outcome {
        let address = match self.address.clone() {
            Some(address) => address,
            None => format!("ws://{}", self.place.door("comet", "ws")?).parse().map_err(Failure::config)?,
        };
        let mut options = Options::new(address, self.token()?, self.device.clone());
        options.auto_ack = !self.no_ack;
        if self.wire_json {
            options.encoding = Encoding::Json;
        }
        let (client, mut events) = Client::connect(options);
        let mut left = self.count.unwrap_or(u64::MAX);
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                _ = tokio::signal::ctrl_c() => None,
            };
            let shown = match event {
                None => break,
                Some(Event::Ended(end)) => return ended(end),
                Some(event) => show(self.place.output(), &event)?,
            };
            left -= u64::from(shown);
            if left == 0 {
                break;
            }
        }
        // A tail that is ended by hand is a client that logs out.
        client.logout().await;
        Ok(())
    }

    fn token(&self) -> Result<TokenSource, Failure> {
        if let Some(path) = &self.token_file {
            let read = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()));
            return Ok(read.map_err(Failure::config)?.trim().to_owned().into());
        }
        self.place.client_tokens(self.user.clone().expect("clap requires a user without a token file"))
    }

    async fn dead_letters(self) -> Outcome {
        let url = match self.nats_url.clone() {
            Some(url) => url,
            None => self.place.nats()?,
        };
        let bus = provision::connect(&pushmesh_bus::Config::to(url), "tail").await?;
        let mut watch = bus.watch_stream(&Stream::DEAD, Filter::dead()).await.map_err(Failure::unavailable)?;
        let (mut left, mut last) = (self.count.unwrap_or(u64::MAX), 0);
        while left > 0 {
            let event = tokio::select! {
                event = watch.next() => event,
                _ = tokio::signal::ctrl_c() => break,
            };
            match event {
                Some(StreamEvent::Message { payload, sequence, .. }) if sequence > last => {
                    last = sequence;
                    show_dead(self.place.output(), &payload)?;
                    left -= 1;
                }
                Some(_) => {}
                None => return Err(Failure::unavailable(anyhow!("the connection to NATS is closed"))),
            }
        }
        bus.drain().await;
        Ok(())
    }
}

/// Prints an event; true if it is one that counts.
fn show(output: Output, event: &Event) -> std::io::Result<bool> {
    match event {
        Event::Push(push) => {
            let text = match &push.body {
                PushBody::Call(call) => {
                    let data = call.data.as_ref().map(|data| format!("  {}", String::from_utf8_lossy(&data.0)));
                    let since = clock(call.started_at);
                    let data = data.unwrap_or_default();
                    format!("call     {} {} {} since {since}{data}", call.kind, call.unit, call.call_id)
                }
                PushBody::Message(message) => {
                    format!("message  {}  {}", message.sender, String::from_utf8_lossy(&message.data.0))
                }
            };
            output.line(format!("{}  {text}", clock(push.at)), &json!({ "event": "push", "push": push }))?;
            return Ok(true);
        }
        Event::CallEnded(ended) => {
            let text = format!("{}  ended    {} {}", clock(ended.at), ended.kind, ended.call_id);
            output.line(text, &json!({ "event": "call_ended", "call_ended": ended }))?;
            return Ok(true);
        }
        Event::LoggedIn(told) => {
            eprintln!(
                "logged in as {}, login {}{}",
                told.user,
                told.login_id,
                if told.resumed { ", resumed" } else { "" }
            );
        }
        Event::Disconnected { reason, again_in } => eprintln!("not connected: {reason}; again in {again_in:.1?}"),
        Event::Kicked(reason) => eprintln!("kicked: {reason:?}"),
        Event::Refused(error) => eprintln!("refused: {}", error.message),
        Event::Gap(gap) => eprintln!("dropped: {} high, {} normal, {} low", gap.high, gap.normal, gap.low),
        Event::App(app) => {
            let text = format!("app      {}  {}", app.code, String::from_utf8_lossy(&app.body.data.0));
            output.line(text, &json!({ "event": "app", "code": app.code, "data": app.body.data }))?;
        }
        other => lines::told(output, other)?,
    }
    Ok(false)
}

fn ended(end: End) -> Outcome {
    match end {
        End::Closed | End::LoggedOut => Ok(()),
        End::Kicked(reason) => Err(Failure::failed(anyhow!("kicked: {reason:?}"))),
        End::Refused(error) => Err(Failure::config(anyhow!("login refused: {}", error.message))),
    }
}

fn show_dead(output: Output, payload: &[u8]) -> Outcome {
    let letter: DeadLetter = match wire::decode(payload) {
        Ok(letter) => letter,
        Err(error) => {
            eprintln!("a dead letter that nobody can read: {error}");
            return Ok(());
        }
    };
    let (reason, bytes) = (letter.reason.token(), letter.payload.len());
    let text = format!(
        "{}  {}  {reason}  {}  {bytes} bytes  {}",
        clock(letter.at),
        letter.service,
        letter.subject,
        letter.detail
    );
    let object = json!({
        "service": letter.service, "reason": reason, "detail": letter.detail, "at_ms": letter.at,
        "subject": letter.subject, "payload_bytes": bytes,
    });
    Ok(output.line(text, &object)?)
}
