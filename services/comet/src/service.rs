//! The composition root.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, atomic::AtomicU32},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use pushmesh_boot::Context;
use pushmesh_protocol::{
    Token,
    name::{Bucket, Filter, Subject},
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    address::Dice,
    config::Config,
    elsewhere::Elsewhere,
    limit::{Door, DoorLimits},
    mesh::{
        acks, deliver,
        fence::Fence,
        goodbye::Goodbye,
        login::Logins,
        question::Answerer,
        report::Reporter,
        reput::Reput,
        rooms::{Rooms, join::Joiner, lobby::Lobby, table::Table},
        session::{self, SessionWriter},
        status::{self, StatusTeller, Statuses},
        whereabouts::Whereabouts,
    },
    shard::{
        self, Setup,
        command::{self, Queues, Urgent},
        outlet,
    },
    socket,
};

/// How long the last acknowledgements, answers and ends of sessions may take once all connections are closed.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// The running service.
pub struct Service {
    goodbye: Goodbye,
    shards: Vec<Queues>,
    threads: Vec<thread::JoinHandle<()>>,
    /// Ends with the mesh, not by itself.
    inbound: Vec<JoinHandle<()>>,
    /// Each ends when the shards and those before it have ended: nothing that was begun is cut off.
    outbound: Vec<JoinHandle<()>>,
}

impl pushmesh_boot::Service for Service {
    const NAME: &'static str = "comet";
    const ABOUT: &'static str = "Holds the clients' long connections over WebSocket and TCP";
    type Config = Config;

    async fn start(ctx: Context, config: Config) -> anyhow::Result<Self> {
        let limits = &config.limits;
        let sessions = ctx.bus.bucket(&Bucket::SESSIONS).await.context("bucket sess")?;
        let inbox = ctx.bus.subscribe(Subject::comet(&ctx.instance).into()).await.context("subscribe to the inbox")?;

        let whereabouts = ctx.bus.subscribe(Subject::comet_rooms(&ctx.instance).into()).await;
        let whereabouts = whereabouts.context("subscribe to the questions for rooms")?;

        let count = if config.shards > 0 { config.shards } else { cores() };
        let statuses = ctx.bus.subscribe(Filter::comet_statuses()).await.context("subscribe to the comets' status")?;
        let (heard, others) = watch::channel(Statuses::new());
        let door = Door::among(DoorLimits::from(limits), Elsewhere::new(&ctx.membership, others));
        let (outlets, intake) = outlet::outlets(limits.connections as usize, limits.before_login as usize);
        let (shards, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| command::queues(config.rooms.queue)).unzip();

        let (reporter, reporting) = Reporter::new(ctx.bus.clone(), config.report_within);
        let writer = SessionWriter { sessions: sessions.clone(), instance: ctx.instance.clone() };
        let logins = Arc::new(Logins {
            verifier: ctx.auth.clone(),
            sessions,
            writer: writer.clone(),
            reporter: reporter.clone(),
            partitions: ctx.mesh.partitions,
            membership: ctx.membership.clone(),
            instance: ctx.instance.clone(),
            shards: shards.clone(),
            at_once: limits.logins_at_once,
            jitter: limits.retry_jitter,
            dice: Mutex::new(Dice::default()),
        });
        let answerer = Arc::new(Answerer {
            bus: ctx.bus.clone(),
            kinds: ctx.mesh.kinds.clone(),
            apps: config.app_names(),
            shards: shards.clone(),
            calls_within: config.calls_within,
            app_within: config.app_within,
            frame_bytes: limits.frame_bytes as usize,
        });
        let reput = Reput {
            membership: ctx.membership.clone(),
            writer: writer.clone(),
            shards: shards.clone(),
            after: config.reput_after,
        };
        let goodbye = Goodbye {
            door: door.clone(),
            shards: shards.clone(),
            within: config.drain_for,
            spread: config.reconnect_spread,
        };
        let rooms_bus = ctx.bus.dedicated("rooms").await.context("a connection for rooms")?;
        let (fence, room_count) = (Arc::new(Fence::default()), Arc::new(AtomicU32::new(0)));
        let joiner = Arc::new(Joiner {
            bus: rooms_bus.clone(),
            partitions: ctx.mesh.partitions,
            membership: ctx.membership.clone(),
            owners: Token::new("room-fanout").expect("it is made of token characters"),
            fence: fence.clone(),
            shards: shards.clone(),
            jitter: limits.retry_jitter,
            dice: Mutex::new(Dice::default()),
        });
        let rooms = Rooms {
            bus: rooms_bus,
            instance: ctx.instance.clone(),
            membership: ctx.membership.clone(),
            table: Table::new(ctx.mesh.partitions, fence, shards.clone(), &config.rooms),
            joiner,
            lobby: Lobby::new(config.rooms.joins_at_once as usize),
            join_within: config.rooms.join_within,
            dice: Dice::default(),
            count: room_count.clone(),
        };
        let acking = acks::run(ctx.bus.clone(), ctx.instance.clone(), ctx.membership.clone(), intake.acks);
        let mut inbound = vec![
            ctx.spawn_own("deliver", deliver::run(inbox, shards.clone(), outlets.acks.clone())),
            ctx.spawn_own("reput", reput.run()),
            ctx.spawn_own("rooms", rooms.run(intake.rooms)),
            ctx.spawn_own("whereabouts", Whereabouts { bus: ctx.bus.clone(), shards: shards.clone() }.run(whereabouts)),
            ctx.spawn_own("statuses", status::hear(statuses, heard)),
        ];
        let outbound = vec![
            ctx.spawn_own("logins", logins.run(intake.logins)),
            ctx.spawn_own("questions", answerer.run(intake.questions)),
            ctx.spawn_own("endings", session::run(writer, reporter, intake.endings)),
            ctx.spawn_own("acks", acking),
            ctx.spawn_own("reports", reporting),
        ];

        #[cfg(feature = "bench-floor")]
        if let Some((address, floor)) = crate::floor::open(&shards).await.context("the bench's door")? {
            inbound.push(ctx.spawn_own("floor", floor));
            ctx.announce("floor", address);
        }
        let websocket = socket::listeners(config.websocket, count, &config.socket)
            .with_context(|| format!("service.websocket: listen on {}", config.websocket))?;
        let tcp = socket::listeners(config.tcp, count, &config.socket)
            .with_context(|| format!("service.tcp: listen on {}", config.tcp))?;
        let doors = (websocket[0].local_addr()?, tcp[0].local_addr()?);
        let teller = StatusTeller {
            bus: ctx.bus.clone(),
            membership: ctx.membership.clone(),
            instance: ctx.instance.clone(),
            door: door.clone(),
            rooms: room_count,
            websocket: advertised(&config, doors.0),
            tcp: advertised_tcp(&config, doors.1),
        };
        ctx.membership.set_address(teller.websocket.clone()).await;
        inbound.push(ctx.spawn_own("status", teller.run(ctx.shutdown().drain.clone())));
        let config = Arc::new(config);
        let (mut threads, lost) = (Vec::new(), CancellationToken::new());
        for (id, (inbox, (websocket, tcp))) in inboxes.into_iter().zip(websocket.into_iter().zip(tcp)).enumerate() {
            threads.push(shard::spawn(Setup {
                id: id as u16,
                config: config.clone(),
                door: door.clone(),
                outlets: outlets.clone(),
                inbox,
                websocket,
                tcp,
                ended: lost.clone().drop_guard(),
            })?);
        }
        let life = ctx.clone();
        ctx.spawn("shards", async move {
            // In a drain the shards end by themselves, at times before this task is asked again.
            tokio::select! {
                biased;
                () = life.shutdown().drain.cancelled() => {}
                () = lost.cancelled() => life.fail(anyhow::anyhow!("a shard ended, and its connections with it")),
            }
        });
        ctx.announce("ws", doors.0);
        ctx.announce("tcp", doors.1);
        Ok(Self { goodbye, shards, threads, inbound, outbound })
    }

    async fn drain(self) {
        self.goodbye.run().await;
        for task in self.inbound {
            task.abort();
        }
        for queues in self.shards {
            let _ = queues.urgent.send(Urgent::Stop).await;
        }
        let joined = tokio::task::spawn_blocking(|| {
            self.threads.into_iter().map(thread::JoinHandle::join).all(|end| end.is_ok())
        });
        if !joined.await.unwrap_or(false) {
            tracing::error!("a shard panicked");
        }
        // What the goodbye could not bring to its end by now (NATS is away) is not waited for.
        let written = async {
            for task in self.outbound {
                let _ = task.await;
            }
        };
        if tokio::time::timeout(LAST_WRITES, written).await.is_err() {
            tracing::warn!("ends of sessions were left unwritten: ack-retry will notice by the silence");
        }
    }
}

fn cores() -> u16 {
    thread::available_parallelism().map_or(1, |cores| cores.get().min(1024) as u16)
}

// Where the clients of a comet that goes may come: what was configured, else where we listen, if that is an address.
fn advertised(config: &Config, websocket: SocketAddr) -> String {
    match config.address.as_str() {
        "" if websocket.ip().is_unspecified() => String::new(),
        "" => format!("ws://{websocket}{}", if config.path == "/" { "" } else { &config.path }),
        address => address.to_owned(),
    }
}

fn advertised_tcp(config: &Config, tcp: SocketAddr) -> String {
    match config.tcp_address.as_str() {
        "" if tcp.ip().is_unspecified() => String::new(),
        "" => format!("tcp://{tcp}"),
        address => address.to_owned(),
    }
}
