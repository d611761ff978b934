//! `pushmesh token` and `pushmesh keys`: who may come in.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::anyhow;
use pushmesh_auth::Scope;
use pushmesh_protocol::{DeviceId, Token, UserId};
use serde_json::json;

use crate::{
    doors::{Place, jwks_file},
    duration,
    exit::{Failure, Outcome},
};

#[derive(Debug, clap::Subcommand)]
pub enum TokenCommand {
    /// A token for a client: one user, and one login if it has a sid
    #[command(after_help = "Example:\n  pushmesh token client alice --ttl 8h")]
    Client(Client),
    /// A token for a backend: what it may do stands in its scopes
    #[command(
        after_help = "Example:\n  pushmesh token backend billing --scope call:write --scope directory:write --ttl 30d"
    )]
    Backend(Backend),
}

#[derive(Debug, clap::Args)]
pub struct Client {
    user: UserId,
    /// The only device it is good for
    #[arg(long)]
    device: Option<DeviceId>,
    /// The login it begins, once
    #[arg(long)]
    sid: Option<Token>,
    #[command(flatten)]
    keys: Keys,
}

#[derive(Debug, clap::Args)]
pub struct Backend {
    /// Who it is, for logs
    name: Token,
    /// login:write, directory:write, call:write, push:write, room:write or room:read; may be given several times
    #[arg(long, required = true, value_name = "SCOPE")]
    scope: Vec<Scope>,
    #[command(flatten)]
    keys: Keys,
}

#[derive(Debug, clap::Args)]
struct Keys {
    /// How long it is good for
    #[arg(long, default_value = "24h", value_parser = duration::parse)]
    ttl: Duration,
    /// File of keys (JWKS) to sign with [default: the mesh's]
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

impl TokenCommand {
    pub fn run(self) -> Outcome {
        let (keys, token) = match self {
            Self::Client(Client { user, device, sid, keys }) => {
                let minter = keys.place.minter(keys.jwks.as_deref())?;
                let token = match &device {
                    Some(device) => minter.client_of_device(&user, device, sid.as_ref(), keys.ttl),
                    None => minter.client(&user, sid.as_ref(), keys.ttl),
                };
                (keys, token)
            }
            Self::Backend(Backend { name, scope, keys }) => {
                let token = keys.place.minter(keys.jwks.as_deref())?.backend(&name, &scope, keys.ttl);
                (keys, token)
            }
        };
        let ttl_s = keys.ttl.as_secs();
        Ok(keys.place.output().line(&token, &json!({ "token": token, "ttl_s": ttl_s }))?)
    }
}

#[derive(Debug, clap::Subcommand)]
pub enum KeysCommand {
    /// Writes a new key into a file that only you can read; never over another file
    #[command(after_help = "Example:\n  pushmesh keys generate --file /etc/pushmesh/jwks.json")]
    Generate(Generate),
}

#[derive(Debug, clap::Args)]
pub struct Generate {
    /// Where to [default: jwks.json in the mesh's data folder]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

impl KeysCommand {
    pub fn run(self) -> Outcome {
        let Self::Generate(Generate { file, place }) = self;
        let path = file.unwrap_or_else(|| jwks_file(&place.data()));
        if path.exists() {
            return Err(Failure::failed(anyhow!("{} exists: tokens are in use that it signed", path.display())));
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, error))?;
        }
        pushmesh_auth::generate_jwks(&path).map_err(|error| unwritable(&path, error))?;
        Ok(place.output().line(path.display(), &json!({ "jwks": path }))?)
    }
}

fn unwritable(path: &Path, error: std::io::Error) -> Failure {
    Failure::config(anyhow!("can't write {}: {error}", path.display()))
}
