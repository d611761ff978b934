//! `pushmesh room join`: what happens in rooms, as somebody there sees it.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use pushmesh_client::{Address, Client, Encoding, End, Event, Options, TokenSource};
use pushmesh_protocol::{DeviceId, RoomId, UserId};

use super::lines;
use crate::{
    doors::Place,
    exit::{Failure, Outcome},
};

#[derive(Debug, clap::Args)]
pub struct Join {
    #[arg(required = true, value_name = "ROOM")]
    rooms: Vec<RoomId>,
    /// Enter as this user, with a token minted with the mesh's keys
    #[arg(long, required_unless_present = "token_file", conflicts_with = "token_file")]
    user: Option<UserId>,
    /// Enter with the token in this file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The device to be: another connection of the same one is replaced
    #[arg(long, default_value = "room")]
    device: DeviceId,
    /// ws://host:port or tcp://host:port [default: the running mesh's WebSocket]
    #[arg(long, value_name = "URL")]
    address: Option<Address>,
    /// Speak JSON on the wire instead of MessagePack
    #[arg(long)]
    wire_json: bool,
    /// End after so many items
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    place: Place,
}

impl Join {
    pub async fn run(self) -> Outcome {
        let address = match self.address.clone() {
            Some(address) => address,
            None => format!("ws://{}", self.place.door("comet", "ws")?).parse().map_err(Failure::config)?,
        };
        let mut options = Options::new(address, self.token()?, self.device.clone());
        if self.wire_json {
            options.encoding = Encoding::Json;
        }
        let (client, mut events) = Client::connect(options);
        for room in &self.rooms {
            client.join(room.clone()).await;
        }
        let (mut left, mut inside) = (self.count.unwrap_or(u64::MAX), self.rooms.len());
        while left > 0 {
            let event = tokio::select! {
                event = events.next() => event,
                _ = tokio::signal::ctrl_c() => None,
            };
            let Some(event) = event else { break };
            match &event {
                Event::Ended(End::Refused(error)) => {
                    return Err(Failure::config(anyhow!("login refused: {}", error.message)));
                }
                Event::Ended(End::Kicked(reason)) => return Err(Failure::failed(anyhow!("kicked: {reason:?}"))),
                Event::Refused(error) => match &error.room {
                    Some(room) => {
                        inside -= 1;
                        eprintln!("can't be in {room}: {}", error.message);
                    }
                    None => eprintln!("refused: {}", error.message),
                },
                Event::Left(_) => inside -= 1,
                Event::Room { .. } => left -= 1,
                Event::Disconnected { reason, again_in } => {
                    eprintln!("not connected: {reason}; again in {again_in:.1?}");
                }
                Event::Gap(gap) if gap.room.is_some() => {
                    eprintln!("dropped: {} high, {} normal, {} low", gap.high, gap.normal, gap.low);
                }
                _ => {}
            }
            lines::told(self.place.output(), &event)?;
            if inside == 0 {
                client.logout().await;
                return Err(Failure::failed(anyhow!("in no room any more")));
            }
        }
        client.logout().await;
        Ok(())
    }

    fn token(&self) -> Result<TokenSource, Failure> {
        match (&self.token_file, &self.user) {
            (Some(path), _) => {
                let read = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()));
                Ok(read.map_err(Failure::config)?.trim().to_owned().into())
            }
            (None, Some(user)) => self.place.client_tokens(user.clone()),
            (None, None) => unreachable!("clap requires one of them"),
        }
    }
}
