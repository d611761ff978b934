//! [`Bus`]: one connection, what it owns, and the task that watches over it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event};
use futures_util::StreamExt;
use pushmesh_config::FieldError;
use pushmesh_protocol::{Instance, Token};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Config, Health,
    ack::{self, AckQueue},
    backoff::{Backoff, jitter, random_token},
    metrics::Metrics,
    replies::Replies,
    store::hold::HeldBytes,
    suspicion::{Answered, Suspicion},
    watcher::Watcher,
};

/// A connection to NATS. Clones share it; the last one to go closes it.
#[derive(Clone)]
pub struct Bus {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) client: Client,
    pub(crate) config: Config,
    pub(crate) service: Token,
    pub(crate) instance: Instance,
    pub(crate) replies: Arc<Replies>,
    pub(crate) health: watch::Sender<Health>,
    pub(crate) window: Arc<Semaphore>,
    pub(crate) batches: Semaphore,
    /// Turns of take-overs' requests to JetStream's API.
    pub(crate) api_turns: Semaphore,
    pub(crate) held: Arc<HeldBytes>,
    pub(crate) acks: AckQueue,
    pub(crate) suspicion: Mutex<Suspicion>,
    /// The buckets that are there, with the lifetime of their markers.
    pub(crate) buckets: Mutex<HashMap<String, Duration>>,
    pub(crate) metrics: Arc<Metrics>,
    /// Ends the tasks of this connection.
    pub(crate) stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("nats.{0}")]
    Config(#[from] FieldError),
    #[error("can't read nats.{field} {path}")]
    Secret { field: &'static str, path: String, source: std::io::Error },
    #[error("NATS at {url} refused the credentials: {reason}")]
    Refused { url: String, reason: String },
    #[error("no NATS server at {url} within {waited:?}: {reason}")]
    Unreachable { url: String, waited: Duration, reason: String },
}

impl Bus {
    /// Connects, trying again for `config.connect_wait`. Refused credentials are final at once.
    pub async fn connect(config: &Config, service: &Token, instance: &Instance) -> Result<Bus, ConnectError> {
        Self::open(config, service, instance, "main").await
    }

    /// One more connection of the same identity: what goes over it waits behind nothing else.
    pub async fn dedicated(&self, role: &'static str) -> Result<Bus, ConnectError> {
        Self::open(&self.inner.config, &self.inner.service, &self.inner.instance, role).await
    }

    pub fn service(&self) -> &Token {
        &self.inner.service
    }

    pub fn instance(&self) -> &Instance {
        &self.inner.instance
    }

    pub fn health(&self) -> watch::Receiver<Health> {
        self.inner.health.subscribe()
    }

    /// Bytes one message may have, as the server said.
    pub fn max_payload(&self) -> usize {
        self.inner.client.max_payload()
    }

    /// Requests and publishes whose answer is awaited now.
    pub fn awaited(&self) -> usize {
        self.inner.replies.len()
    }

    /// Writes out what is queued, ends all subscriptions after what they have got, and closes the connection.
    /// Returns when closed, at most 2 s later.
    pub async fn drain(&self) {
        let inner = &self.inner;
        let limit = Duration::from_secs(2);
        let _ = tokio::time::timeout(limit, async {
            inner.acks.flush().await;
            // Whoever was awaiting an ack gets it, or its own timeout.
            let _ = inner.window.acquire_many(inner.config.in_flight_max as u32).await;
        })
        .await;
        let mut health = self.health();
        let closed = async {
            let _ = inner.client.flush().await;
            if inner.client.drain().await.is_ok() {
                let _ = health.wait_for(|health| health.closed).await;
            }
        };
        if tokio::time::timeout(limit, closed).await.is_err() {
            tracing::warn!("NATS did not close within {limit:?}; closing anyway");
        }
        inner.stop.cancel();
        inner.health.send_modify(|health| {
            health.connected = false;
            health.closed = true;
        });
    }

    async fn open(
        config: &Config,
        service: &Token,
        instance: &Instance,
        role: &'static str,
    ) -> Result<Bus, ConnectError> {
        config.validate()?;
        let (events, received) = mpsc::channel(1024);
        let inbox = format!("_INBOX_{service}.{}", random_token());
        let options = options(config, &inbox, format!("{service}/{instance}/{role}"), events).await?;
        let client = first_connection(config, options).await?;

        let stop = CancellationToken::new();
        let metrics = Arc::new(Metrics::new());
        let replies = Replies::new(inbox);
        let (health, _) = watch::channel(Health { connected: true, connections: 1, ..Health::default() });
        let acks = ack::start(client.clone(), metrics.clone(), stop.clone());
        let bus = Bus {
            inner: Arc::new(Inner {
                window: Arc::new(Semaphore::new(config.in_flight_max)),
                batches: Semaphore::new(crate::store::BATCHES_AT_ONCE),
                api_turns: Semaphore::new(crate::api::AT_ONCE),
                held: Arc::new(HeldBytes::new(config.hold_max_bytes, metrics.clone())),
                buckets: Mutex::default(),
                suspicion: Mutex::new(Suspicion::new(config.reconnect_after_timeouts)),
                config: config.clone(),
                service: service.clone(),
                instance: instance.clone(),
                client,
                replies,
                health,
                acks,
                metrics,
                _stop_on_drop: stop.clone().drop_guard(),
                stop,
            }),
        };
        bus.start_tasks(received).await?;
        Ok(bus)
    }
}

async fn options(
    config: &Config,
    inbox: &str,
    name: String,
    events: mpsc::Sender<Event>,
) -> Result<ConnectOptions, ConnectError> {
    let mut options = ConnectOptions::new()
        .name(name)
        .custom_inbox_prefix(inbox)
        .ping_interval(config.ping_interval)
        .connection_timeout(Duration::from_secs(2))
        .max_reconnects(None)
        .subscription_capacity(config.subscription_capacity)
        // ≤ 250 ms, each client its own: a restarted server is not met by all at once.
        .reconnect_delay_callback(|attempt| {
            Duration::from_millis(if attempt <= 1 { 10 } else { 100 }) + jitter(Duration::from_millis(150))
        })
        .event_callback(move |event| {
            // Full: the watching task also looks at the connection's state by itself.
            let _ = events.try_send(event);
            std::future::ready(())
        });
    let read = async |field: &'static str, path: &std::path::Path| match tokio::fs::read_to_string(path).await {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(source) => Err(ConnectError::Secret { field, path: path.display().to_string(), source }),
    };
    if let Some(path) = &config.nkey_seed_file {
        options = options.nkey(read("nkey_seed_file", path).await?);
    }
    if let Some(path) = &config.token_file {
        options = options.token(read("token_file", path).await?);
    }
    if let (Some(user), Some(path)) = (&config.user, &config.password_file) {
        options = options.user_and_password(user.clone(), read("password_file", path).await?);
    }
    if let Some(path) = &config.credentials_file {
        options = options.credentials_file(path).await.map_err(|source| ConnectError::Secret {
            field: "credentials_file",
            path: path.display().to_string(),
            source,
        })?;
    }
    if let Some(path) = &config.ca_file {
        options = options.add_root_certificates(path.clone()).require_tls(true);
    }
    if let (Some(cert), Some(key)) = (&config.cert_file, &config.key_file) {
        options = options.add_client_certificate(cert.clone(), key.clone()).require_tls(true);
    }
    Ok(options)
}

async fn first_connection(config: &Config, options: ConnectOptions) -> Result<Client, ConnectError> {
    let servers: Vec<_> = config.url.split(',').map(|url| url.trim().to_owned()).collect();
    let begun = Instant::now();
    let mut backoff = Backoff::new(Duration::from_millis(500));
    loop {
        let error = match options.clone().connect(servers.as_slice()).await {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        let reason = crate::api::chain(&error);
        use async_nats::ConnectErrorKind as Kind;
        match error.kind() {
            Kind::ServerParse => return Err(FieldError::new("url", reason).into()),
            Kind::Authentication | Kind::AuthorizationViolation => {
                return Err(ConnectError::Refused { url: config.url.clone(), reason });
            }
            _ if begun.elapsed() >= config.connect_wait => {
                return Err(ConnectError::Unreachable { url: config.url.clone(), waited: config.connect_wait, reason });
            }
            _ => tokio::time::sleep(backoff.pause()).await,
        }
    }
}

impl Bus {
    async fn start_tasks(&self, events: mpsc::Receiver<Event>) -> Result<(), ConnectError> {
        let inner = &self.inner;
        let filter = inner.replies.filter();
        let mut inbox = inner.client.subscribe(filter.as_str().to_owned()).await.map_err(|error| {
            ConnectError::Refused { url: inner.config.url.clone(), reason: crate::api::chain(&error) }
        })?;
        let (replies, stop) = (inner.replies.clone(), inner.stop.clone());
        tokio::spawn(async move {
            while let Some(Some(message)) = stop.run_until_cancelled(inbox.next()).await {
                replies.deliver(message);
            }
            replies.lose_all();
        });
        let watcher = Watcher {
            client: inner.client.clone(),
            replies: inner.replies.clone(),
            health: inner.health.clone(),
            metrics: inner.metrics.clone(),
            connections: 1,
        };
        tokio::spawn(inner.stop.clone().run_until_cancelled_owned(watcher.run(events)));
        Ok(())
    }

    /// Notes how a JetStream request went; a server that is connected but answers none gets a new connection.
    pub(crate) fn note_answer(&self, answered: Answered) {
        let inner = &self.inner;
        let verdict = {
            let mut suspicion = inner.suspicion.lock().expect("no holder of this lock can panic");
            match answered {
                Answered::Yes => return suspicion.clear(),
                Answered::No { asked } => suspicion.strike(asked, Instant::now()),
            }
        };
        inner.metrics.ack_timeouts.increment(1);
        if verdict && inner.health.borrow().connected {
            tracing::warn!(
                rounds = inner.config.reconnect_after_timeouts,
                "NATS answers no JetStream request: reconnecting"
            );
            inner.metrics.forced_reconnects.increment(1);
            inner.health.send_modify(|health| health.forced_reconnects += 1);
            let client = inner.client.clone();
            tokio::spawn(async move { client.force_reconnect().await });
        }
    }
}
