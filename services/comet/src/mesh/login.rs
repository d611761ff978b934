//! A login: the token, the login's id, the session, the report; in this order, and undone where a later step fails.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use pushmesh_auth::Verifier;
use pushmesh_bus::{Kv, KvError};
use pushmesh_membership::Membership;
use pushmesh_protocol::{
    ConnId, DeviceId, Instance, LoginId, Partition, Partitions, Token, UserId,
    frame::{Error, ErrorCode, KickReason, Login, Resume},
    message::{LoginAnswer, LoginReport, Millis, ReportedEvent, Session},
    name::Key,
    wire,
};
use pushmesh_telemetry::span::{self, Role};
use tokio::sync::{Semaphore, mpsc};

use super::{report::Reporter, session::SessionWriter};
use crate::{
    address::{Address, Dice},
    close::CloseReason,
    metrics,
    shard::{
        command::{Batch, Delivery, Queues, What},
        outlet::{Admitted, LoginRequest, Refused, SessionNote},
        wall,
    },
};

/// Decides logins.
pub struct Logins {
    pub verifier: Verifier,
    pub sessions: Kv,
    pub writer: SessionWriter,
    pub reporter: Reporter,
    pub partitions: Partitions,
    pub membership: Membership,
    pub instance: Instance,
    pub shards: Vec<Queues>,
    pub at_once: u32,
    /// Most of the random part of a retry_after_ms.
    pub jitter: Duration,
    pub dice: Mutex<Dice>,
}

impl Logins {
    /// Takes requests, so many at once, until the queue closes and the last one is decided.
    pub async fn run(self: Arc<Self>, mut requests: mpsc::Receiver<LoginRequest>) {
        let places = Arc::new(Semaphore::new(self.at_once as usize));
        while let Some(request) = requests.recv().await {
            let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
            let me = self.clone();
            tokio::spawn(async move {
                me.serve(request).await;
                drop(place);
            });
        }
        let _all = places.acquire_many(self.at_once).await;
    }

    async fn serve(&self, request: LoginRequest) {
        let LoginRequest { address, login, answer } = request;
        let result = self.decide(address, login).await;
        metrics::login(match &result {
            Ok(admitted) if admitted.resumed => "resumed",
            Ok(_) => "accepted",
            Err(refused) if refused.reason == CloseReason::LoginRefused => "refused",
            Err(_) => "unavailable",
        });
        if let Err(Ok(admitted)) = answer.send(result) {
            // The newcomer went while its login was decided: to everybody else it came and left.
            self.writer.left(&admitted.session, wall()).await;
        }
    }

    async fn decide(&self, address: Address, login: Login) -> Result<Admitted, Refused> {
        let client = self.verifier.client(&login.token).map_err(|error| {
            tracing::debug!(reason = error.reason(), "token refused");
            unauthorized("LOGIN.token", error.to_string())
        })?;
        if client.device.as_ref().is_some_and(|device| *device != login.device) {
            return Err(unauthorized("LOGIN.device", "the token is for another device".to_owned()));
        }
        let user = client.user;
        let partition = self.partitions.of_user(&user);
        let newcomer = Newcomer { address, partition, user, device: login.device, expires: client.expires };
        if let Some(resume) = login.resume
            && let Some(old) = self.resumable(&newcomer, &resume).await?
        {
            return self.resume(newcomer, resume, old).await;
        }
        self.begin(newcomer, client.sid).await
    }

    // The old connection's key stands, and is of the same login and device: the login goes on.
    async fn resumable(&self, who: &Newcomer, resume: &Resume) -> Result<Option<Session>, Refused> {
        let key = Key::session(who.partition, &who.user, &resume.conn_id);
        let found = self.sessions.get(&key).await.map_err(|error| self.away(&error))?;
        let session = found.and_then(|entry| wire::decode::<Session>(&entry.value).ok());
        Ok(session.filter(|session| session.login_id == resume.login_id && session.device == who.device))
    }

    async fn resume(&self, who: Newcomer, resume: Resume, old: Session) -> Result<Admitted, Refused> {
        // Later than the one it takes over from, whatever the other comet's clock says: of two the older one is kicked.
        let since = wall().max(old.since.saturating_add(1));
        let session = self.put_session(&who, resume.login_id, since).await?;
        // Where nobody is left to be kicked the key may go; whatever the old connection still writes is refused by its
        // revision. An open connection of another comet keeps its key: by it ack-retry sees both, kicks the older one
        // and purges its key, at once or when somebody owns the partition again.
        if old.left.is_some() || (old.comet == self.instance && self.kick_own(&resume.conn_id)) {
            let key = Key::session(who.partition, &who.user, &resume.conn_id);
            if let Err(error) = self.sessions.purge(&key).await {
                tracing::debug!(%error, "the resumed session's old key stays until ack-retry purges it");
            }
        }
        Ok(Admitted { session, expires: who.expires, resumed: true })
    }

    // `false`: its shard is too busy to take it, and ack-retry will send it.
    fn kick_own(&self, conn: &ConnId) -> bool {
        let Some(to) = Address::of(conn) else { return true };
        let Some(queues) = self.shards.get(usize::from(to.shard)) else { return true };
        let delivery = Delivery { to, what: What::Kick(KickReason::Replaced), span: None };
        queues.deliveries.try_send(Batch { received: std::time::Instant::now(), deliveries: vec![delivery] }).is_ok()
    }

    async fn begin(&self, who: Newcomer, sid: Option<Token>) -> Result<Admitted, Refused> {
        let span = span::root_or_child("log in", Role::Server, None);
        // When it came, however long the buckets take: of two connections of a device the one that came later stays.
        let since = wall();
        let (login_id, used) = self.login_id(&who, sid).await?;
        let session = match self.put_session(&who, login_id, since).await {
            Ok(session) => session,
            Err(refused) => {
                self.forget(used.as_ref()).await;
                return Err(refused);
            }
        };
        let report = LoginReport {
            user: who.user.clone(),
            device: Some(who.device.clone()),
            login_id: Some(session.login_id.clone()),
            event: ReportedEvent::Online,
            at: session.since,
            trace: span::context(&span),
        };
        let (message, retry_after_ms) = match self.reporter.report(report).await {
            LoginAnswer::Accepted { .. } => return Ok(Admitted { session, expires: who.expires, resumed: false }),
            LoginAnswer::Refused { field, reason } => (format!("the login was refused: {field} {reason}"), 0),
            LoginAnswer::Unknown { reason, retry_after_ms } => (reason, retry_after_ms),
        };
        span::fail(&span, &message);
        self.forget(Some(&Key::session(who.partition, &who.user, &who.address.conn_id()))).await;
        self.forget(used.as_ref()).await;
        Err(self.unavailable(message, retry_after_ms))
    }

    // The token's sid at its first use, else a new one.
    async fn login_id(&self, who: &Newcomer, sid: Option<Token>) -> Result<(LoginId, Option<Key>), Refused> {
        let Some(sid) = sid else { return Ok((mint(), None)) };
        let key = Key::used_sid(who.partition, &who.user, &sid);
        let rest = Duration::from_millis(who.expires.saturating_sub(wall())).max(Duration::from_secs(1));
        let value = who.address.conn_id().to_string().into_bytes();
        match self.sessions.create_for(&key, value.into(), rest).await {
            Ok(_) => Ok((LoginId(sid), Some(key))),
            Err(KvError::Exists) => Ok((mint(), None)),
            Err(error) => Err(self.away(&error)),
        }
    }

    async fn put_session(&self, who: &Newcomer, login_id: LoginId, since: Millis) -> Result<SessionNote, Refused> {
        let mut note = SessionNote {
            address: who.address,
            partition: who.partition,
            user: who.user.clone(),
            device: who.device.clone(),
            login_id,
            since,
            revision: 0,
            comet_epoch: self.membership.epoch(),
        };
        note.revision = self.writer.put(&note).await.map_err(|error| self.away(&error))?;
        Ok(note)
    }

    async fn forget(&self, key: Option<&Key>) {
        let Some(key) = key else { return };
        if let Err(error) = self.sessions.purge(key).await {
            tracing::debug!(%error, "a refused login's key stays");
        }
    }

    fn away(&self, error: &KvError) -> Refused {
        self.unavailable(format!("the mesh can't store the session: {error}"), 0)
    }

    fn unavailable(&self, message: String, at_least_ms: u32) -> Refused {
        let jitter = self.dice.lock().expect("nothing panics under this lock").up_to(self.jitter.as_millis() as u32);
        let error = Error {
            error: ErrorCode::Unavailable,
            field: None,
            message,
            retry_after_ms: Some(at_least_ms.max(500) + jitter),
            address: None,
            re: None,
            room: None,
        };
        Refused { error, reason: CloseReason::Unavailable }
    }
}

struct Newcomer {
    address: Address,
    partition: Partition,
    user: UserId,
    device: DeviceId,
    expires: Millis,
}

fn unauthorized(field: &str, message: String) -> Refused {
    let error = Error {
        error: ErrorCode::Unauthorized,
        field: Some(field.to_owned()),
        message,
        retry_after_ms: None,
        address: None,
        re: None,
        room: None,
    };
    Refused { error, reason: CloseReason::LoginRefused }
}

fn mint() -> LoginId {
    LoginId::new(&uuid::Uuid::now_v7().simple().to_string()).expect("hexadecimal digits are token characters")
}
