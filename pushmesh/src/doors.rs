//! Where the running mesh is, and how a command gets in.

use std::{
    collections::BTreeMap,
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow};
use pushmesh_auth::{Minter, Scope};
use pushmesh_client::{Api, ApiError, ApiOptions, TokenSource, TokenSourceError};
use pushmesh_protocol::{Kind, Token, UserId};
use serde::{Deserialize, Serialize};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::{exit::Failure, output::Output};

/// Doors that `up` opens unless told otherwise.
pub mod port {
    pub const COMET_WS: u16 = 7400;
    pub const COMET_TCP: u16 = 7401;
    pub const LOGIN_INGEST: u16 = 7410;
    pub const GROUP_PUSH: u16 = 7411;
    pub const DISCUSS_PUSH: u16 = 7412;
    pub const ORG_PUSH: u16 = 7413;
    pub const ACK_RETRY: u16 = 7414;
    /// HTTP and gRPC.
    pub const API: u16 = 7480;
    pub const NATS: u16 = 7422;
    /// The first service's; the others follow.
    pub const ADMIN: u16 = 7490;
}

/// How long a request to a door may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a token lives that a command mints for itself.
const OWN_TOKEN: Duration = Duration::from_secs(24 * 3600);

/// The mesh that a command is for.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// Data folder of the mesh, as given to `up --data` [default: ~/.local/share/pushmesh]
    #[arg(long, value_name = "DIR", env = "PUSHMESH_DATA")]
    pub mesh: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long)]
    pub json: bool,
}

/// A backend's way in.
#[derive(Debug, Clone, clap::Args)]
pub struct Backend {
    #[command(flatten)]
    pub place: Place,
    /// Address of the service's door [default: the running mesh's]
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
    /// File with a backend token [default: one is minted with the mesh's keys]
    #[arg(long, value_name = "FILE", env = "PUSHMESH_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
}

/// What `up` says once it is ready: `ready.json` in its data folder, and `--ready-file`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    pub pid: u32,
    pub data: PathBuf,
    /// `nats://127.0.0.1:7422`.
    pub nats: String,
    /// The keys that tokens are minted and checked with.
    pub jwks: PathBuf,
    pub partitions: u16,
    pub kinds: Vec<Kind>,
    /// By service, then by door: `comet` → `ws` → address.
    pub doors: BTreeMap<String, BTreeMap<String, SocketAddr>>,
}

impl Ready {
    pub fn door(&self, service: &str, door: &str) -> Option<SocketAddr> {
        self.doors.get(service)?.get(door).copied()
    }
}

/// Where `up` keeps its data, unless told otherwise.
pub fn default_data() -> PathBuf {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map_or_else(|| PathBuf::from(".pushmesh"), |base| base.join("pushmesh"))
}

pub fn ready_file(data: &Path) -> PathBuf {
    data.join("ready.json")
}

pub fn jwks_file(data: &Path) -> PathBuf {
    data.join("jwks.json")
}

impl Place {
    pub fn output(&self) -> Output {
        Output { json: self.json }
    }

    pub fn data(&self) -> PathBuf {
        self.mesh.clone().unwrap_or_else(default_data)
    }

    /// What the running mesh said; `None` where none runs with this folder.
    pub fn ready(&self) -> Result<Option<Ready>, Failure> {
        let path = ready_file(&self.data());
        match fs::read(&path) {
            Ok(bytes) => {
                let read = serde_json::from_slice(&bytes).with_context(|| format!("{} is malformed", path.display()));
                read.map(Some).map_err(Failure::config)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::config(anyhow!("can't read {}: {error}", path.display()))),
        }
    }

    /// Where a door is: of the running mesh, else where `up` opens it by default.
    pub fn door(&self, service: &str, door: &str) -> Result<SocketAddr, Failure> {
        if let Some(ready) = self.ready()? {
            let known = || ready.doors.keys().cloned().collect::<Vec<_>>().join(", ");
            let missing = || Failure::usage(anyhow!("the mesh has no {door} door of {service:?}; it has {}", known()));
            return ready.door(service, door).ok_or_else(missing);
        }
        let port = match (service, door) {
            ("comet", "ws") => port::COMET_WS,
            ("comet", "tcp") => port::COMET_TCP,
            ("login-ingest", _) => port::LOGIN_INGEST,
            ("group-push", _) => port::GROUP_PUSH,
            ("discuss-push", _) => port::DISCUSS_PUSH,
            ("org-push", _) => port::ORG_PUSH,
            ("ack-retry", _) => port::ACK_RETRY,
            ("api", _) => port::API,
            _ => {
                let data = self.data();
                return Err(Failure::usage(anyhow!(
                    "no mesh runs with the data folder {}, and {service:?} has no default address: give --address",
                    data.display()
                )));
            }
        };
        Ok((Ipv4Addr::LOCALHOST, port).into())
    }

    pub fn nats(&self) -> Result<String, Failure> {
        Ok(self.ready()?.map_or_else(|| format!("nats://127.0.0.1:{}", port::NATS), |ready| ready.nats))
    }

    /// The keys of the mesh, or of `file`.
    pub fn minter(&self, file: Option<&Path>) -> Result<Minter, Failure> {
        let path = match file {
            Some(path) => path.to_owned(),
            None => self.ready()?.map_or_else(|| jwks_file(&self.data()), |ready| ready.jwks),
        };
        Minter::from_jwks(&path).map_err(|error| {
            let hint = "run `pushmesh up` once, or `pushmesh keys generate`, or name a file of keys";
            Failure::config(anyhow::Error::new(error).context(format!("no keys in {}: {hint}", path.display())))
        })
    }

    /// Tokens of a user's, minted here whenever one is needed; missing keys are told at once.
    pub fn client_tokens(&self, user: UserId) -> Result<TokenSource, Failure> {
        let minter = self.minter(None)?;
        Ok(TokenSource::asked(move || {
            let token = minter.client(&user, None, OWN_TOKEN);
            async move { Ok::<_, TokenSourceError>(token) }
        }))
    }
}

/// An open way to one service.
#[derive(Clone)]
pub struct Door {
    pub channel: Channel,
    name: String,
    token: Option<MetadataValue<Ascii>>,
    /// The folder in which no keys were found to mint a token with.
    keyless: Option<PathBuf>,
}

impl Backend {
    /// The way to api over HTTP, with a token for rooms; nothing is connected to yet.
    pub fn api(&self) -> Result<ApiDoor, Failure> {
        self.api_with(|_| {})
    }

    pub fn api_with(&self, set: impl FnOnce(&mut ApiOptions)) -> Result<ApiDoor, Failure> {
        let address = self.address("api", "http")?;
        let token = self.token(&[Scope::RoomWrite, Scope::RoomRead])?;
        let keyless = token.is_none().then(|| self.place.data());
        let mut options = ApiOptions::new(format!("http://{address}"), token.unwrap_or_default());
        set(&mut options);
        let api = Api::new(options).map_err(|error| Failure::usage(anyhow!("--address {address:?}: {error}")))?;
        let hint = self.hint();
        Ok(ApiDoor { api, name: format!("api at {address}"), hint, keyless })
    }

    fn address(&self, service: &str, door: &str) -> Result<String, Failure> {
        match &self.address {
            Some(address) => Ok(address.clone()),
            None => Ok(self.place.door(service, door)?.to_string()),
        }
    }

    fn hint(&self) -> String {
        match &self.address {
            Some(_) => "does the service run there?".to_owned(),
            None => format!("is `pushmesh up` running, with the data folder {}?", self.place.data().display()),
        }
    }

    /// Connects to the door of a service, with a token that has `scope`.
    pub async fn open(&self, service: &str, scope: Scope) -> Result<Door, Failure> {
        let address = self.address(service, "grpc")?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| Failure::usage(anyhow!("--address {address:?}: {error}")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT);
        let token = self.token(&[scope])?.map(|token| {
            let value = format!("Bearer {token}").parse();
            value.map_err(|_| Failure::config(anyhow!("the token has characters that no header may have")))
        });
        let token = token.transpose()?;
        let name = format!("{service} at {address}");
        let channel = endpoint.connect().await.map_err(|error| {
            let hint = self.hint();
            Failure::unavailable(anyhow::Error::new(error).context(format!("can't connect to {name}: {hint}")))
        })?;
        let keyless = token.is_none().then(|| self.place.data());
        Ok(Door { channel, name, token, keyless })
    }

    /// None: there is none to be had, and the door may still be open (`--insecure-local`).
    fn token(&self, scopes: &[Scope]) -> Result<Option<String>, Failure> {
        if let Some(path) = &self.token_file {
            let text = fs::read_to_string(path)
                .with_context(|| format!("can't read the token file {}", path.display()))
                .map_err(Failure::config)?;
            return Ok(Some(text.trim().to_owned()));
        }
        let Ok(minter) = self.place.minter(None) else { return Ok(None) };
        let name = Token::new("pushmesh-cli").expect("a token");
        Ok(Some(minter.backend(&name, scopes, OWN_TOKEN)))
    }
}

/// The way to api.
pub struct ApiDoor {
    pub api: Api,
    name: String,
    hint: String,
    /// The folder in which no keys were found to mint a token with.
    keyless: Option<PathBuf>,
}

impl ApiDoor {
    pub fn refused(&self, error: ApiError) -> Failure {
        match (&error, &self.keyless) {
            (ApiError::Refused(refusal), Some(data)) if refusal.status == 401 => keyless(&self.name, data),
            (ApiError::Refused(refusal), _) => {
                let said = anyhow!("{} answered: {refusal}", self.name);
                match refusal.status {
                    503 => Failure::unavailable(said),
                    401 => Failure::config(said),
                    403 if refusal.code == "forbidden" => Failure::config(said),
                    _ => Failure::failed(said),
                }
            }
            (ApiError::Unanswered { sent: false, .. }, _) => {
                let text = format!("can't connect to {}: {}", self.name, self.hint);
                Failure::unavailable(anyhow::Error::new(error).context(text))
            }
            (ApiError::Unanswered { .. }, _) => Failure::unavailable(error),
            (ApiError::Token(_), _) => Failure::config(error),
            (ApiError::Url(_) | ApiError::Malformed(_), _) => Failure::failed(error),
        }
    }
}

fn keyless(door: &str, data: &Path) -> Failure {
    Failure::config(anyhow!(
        "{door} wants a token, and there are no keys in the data folder {} to mint one with: give --mesh, the folder of \
         `up --data`, or --token-file",
        data.display()
    ))
}

impl Door {
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }

    pub fn refused(&self, status: &tonic::Status) -> Failure {
        match &self.keyless {
            Some(data) if status.code() == tonic::Code::Unauthenticated => keyless(&self.name, data),
            _ => Failure::refused(status, &self.name),
        }
    }
}
