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
use pushmesh_protocol::{Kind, Token};
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
    /// Address of the service's gRPC door [default: the running mesh's]
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
    /// Connects to the door of a service, with a token that has `scope`.
    pub async fn open(&self, service: &str, scope: Scope) -> Result<Door, Failure> {
        let address = match &self.address {
            Some(address) => address.clone(),
            None => self.place.door(service, "grpc")?.to_string(),
        };
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| Failure::usage(anyhow!("--address {address:?}: {error}")))?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT);
        let token = self.token(scope)?;
        let name = format!("{service} at {address}");
        let channel = endpoint.connect().await.map_err(|error| {
            let hint = match &self.address {
                Some(_) => "does the service run there?".to_owned(),
                None => format!("is `pushmesh up` running, with the data folder {}?", self.place.data().display()),
            };
            Failure::unavailable(anyhow::Error::new(error).context(format!("can't connect to {name}: {hint}")))
        })?;
        let keyless = token.is_none().then(|| self.place.data());
        Ok(Door { channel, name, token, keyless })
    }

    fn token(&self, scope: Scope) -> Result<Option<MetadataValue<Ascii>>, Failure> {
        let text = match &self.token_file {
            Some(path) => fs::read_to_string(path)
                .with_context(|| format!("can't read the token file {}", path.display()))
                .map_err(Failure::config)?,
            // Without keys the door may still be open: --insecure-local.
            None => match self.place.minter(None) {
                Ok(minter) => {
                    let name = Token::new("pushmesh-cli").expect("a token");
                    minter.backend(&name, &[scope], OWN_TOKEN)
                }
                Err(_) => return Ok(None),
            },
        };
        let value = format!("Bearer {}", text.trim());
        value
            .parse()
            .map(Some)
            .map_err(|_| Failure::config(anyhow!("the token has characters that no header may have")))
    }
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
            Some(data) if status.code() == tonic::Code::Unauthenticated => Failure::config(anyhow!(
                "{} wants a token, and there are no keys in the data folder {} to mint one with: give --mesh, the \
                 folder of `up --data`, or --token-file",
                self.name,
                data.display()
            )),
            _ => Failure::refused(status, &self.name),
        }
    }
}
