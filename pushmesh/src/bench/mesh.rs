//! A mesh of processes as a deployment has them: a nats-server, provisioned, and services with the product's defaults.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use pushmesh_auth::Minter;
use pushmesh_broker::{Server, server::spawn_bound};
use pushmesh_protocol::topology::{TopologyConfig, topology};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// The services of login push; [`Mesh::add`] starts others.
pub const LOGIN_PUSH: [&str; 7] =
    ["ack-retry", "group-push", "discuss-push", "org-push", "distributor", "login-ingest", "comet"];
/// Those with no door but the admin port.
const WITHOUT_DOOR: [&str; 2] = ["distributor", "room-fanout"];
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Of a log, what an error shows.
const TAIL_BYTES: u64 = 2000;

/// A running mesh. Dropped, all its processes are killed and its folder is removed.
pub struct Mesh {
    processes: BTreeMap<String, Process>,
    server: Server,
    jwks: PathBuf,
    /// By service, what is not default.
    extra: Vec<(String, String)>,
    folder: TempDir,
}

/// One service.
struct Process {
    child: Child,
    doors: BTreeMap<String, SocketAddr>,
    /// What its name begins its files with.
    files: PathBuf,
}

impl Mesh {
    /// A nats-server that syncs so often ("1s", "always"), provisioned, and these services, all of them ready.
    pub async fn start(services: &[&str], sync_interval: &str) -> anyhow::Result<Self> {
        Self::start_with(services, sync_interval, &[]).await
    }

    /// The same, with settings (of which service, and which) that are not the product's defaults.
    pub async fn start_with(services: &[&str], sync_interval: &str, extra: &[(&str, &str)]) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("pushmesh-bench-").tempdir().context("can't make a folder")?;
        let jwks = folder.path().join("jwks.json");
        pushmesh_auth::generate_jwks(&jwks).context("can't write keys")?;
        let mut options = pushmesh_broker::Options::new(folder.path().join("nats"));
        options.sync_interval = sync_interval.to_owned();
        let server = Server::start(options).await?;
        let extra = extra.iter().map(|(service, setting)| ((*service).to_owned(), (*setting).to_owned())).collect();
        let mut mesh = Self { processes: BTreeMap::new(), server, jwks, extra, folder };
        mesh.provision().await?;
        for service in services {
            mesh.spawn(service, service, &[])?;
        }
        for service in services {
            mesh.wait_ready(service).await?;
        }
        Ok(mesh)
    }

    /// One more process of a service, ready, under a name of its own.
    pub async fn add(&mut self, service: &str, name: &str) -> anyhow::Result<()> {
        self.add_with(service, name, &[]).await
    }

    /// The same with environment variables besides.
    pub async fn add_with(&mut self, service: &str, name: &str, variables: &[(&str, &str)]) -> anyhow::Result<()> {
        self.spawn(service, name, variables)?;
        self.wait_ready(name).await
    }

    /// kill -9; its doors are gone with it.
    pub fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        self.processes.remove(name).map(drop).with_context(|| format!("the mesh has no {name}"))
    }

    pub fn door(&self, name: &str, door: &str) -> anyhow::Result<SocketAddr> {
        let process = self.processes.get(name).with_context(|| format!("the mesh has no {name}"))?;
        process.doors.get(door).copied().with_context(|| format!("{name} has no {door} door"))
    }

    /// The folder's file of keys, by which clients mint their own tokens.
    pub fn jwks(&self) -> &Path {
        &self.jwks
    }

    pub fn minter(&self) -> anyhow::Result<Minter> {
        Minter::from_jwks(&self.jwks).context("the mesh's keys")
    }

    pub fn nats_url(&self) -> String {
        self.server.url()
    }

    /// An error if something of it has ended unasked, with the end of its log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if !self.server.is_running() {
            bail!("nats-server ended; its log ends with:\n{}", tail(&self.server.log_file()));
        }
        self.processes.iter_mut().try_for_each(|(name, process)| process.check(name))
    }

    /// What services warned of, by service, the most frequent first: why something was slow stands there.
    pub fn complaints(&self) -> Vec<String> {
        self.processes.iter().flat_map(|(name, process)| process.complaints(name)).collect()
    }

    /// By name, nats-server among them.
    pub fn pids(&self) -> BTreeMap<String, u32> {
        let services = self.processes.iter().map(|(name, process)| (name.clone(), process.child.id()));
        services.chain(self.server.pid().map(|pid| ("nats-server".to_owned(), pid))).collect()
    }

    async fn provision(&self) -> anyhow::Result<()> {
        let bus = crate::provision::connect(&pushmesh_bus::Config::to(self.server.url()), "bench").await?;
        let report = pushmesh_bus::provision(&bus, &topology(&TopologyConfig::default())).await;
        bus.drain().await;
        report.map(drop).context("can't provision the nats-server")
    }

    fn spawn(&mut self, service: &str, name: &str, variables: &[(&str, &str)]) -> anyhow::Result<()> {
        let files = self.folder.path().join(name);
        let log = File::create(files.with_extension("log")).context("can't write a log")?;
        let mut command = Command::new(std::env::current_exe().context("can't find this program")?);
        command.args(["serve", service, "--ready-file"]).arg(files.with_extension("ready"));
        for setting in self.settings(service) {
            command.arg("--set").arg(setting);
        }
        let ours = |name: &str| name.starts_with("PUSHMESH_") || name.starts_with("OTEL_") || name == "RUST_LOG";
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
            // Defaults are what is measured.
            command.env_remove(variable);
        }
        command.envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = spawn_bound(command).with_context(|| format!("can't start {name}"))?;
        self.processes.insert(name.to_owned(), Process { child, doors: BTreeMap::new(), files });
        Ok(())
    }

    /// Where it listens and whom it believes; all else is default, but what the bench asked for.
    fn settings(&self, service: &str) -> Vec<String> {
        let mut settings = vec![
            format!("nats.url={}", self.server.url()),
            "admin.listen=127.0.0.1:0".to_owned(),
            format!("auth.jwks_file={}", self.jwks.display()),
        ];
        match service {
            "comet" => settings.extend(["websocket", "tcp"].map(|door| format!("service.{door}=127.0.0.1:0"))),
            _ if WITHOUT_DOOR.contains(&service) => {}
            _ => settings.push("service.door.listen=127.0.0.1:0".to_owned()),
        }
        settings.extend(self.extra.iter().filter(|(of, _)| of == service).map(|(_, setting)| setting.clone()));
        settings
    }

    async fn wait_ready(&mut self, name: &str) -> anyhow::Result<()> {
        let process = self.processes.get_mut(name).ok_or_else(|| anyhow!("the mesh has no {name}"))?;
        let begun = Instant::now();
        loop {
            process.check(name)?;
            if let Ok(text) = fs::read_to_string(process.files.with_extension("ready"))
                && let Ok(doors) = serde_json::from_str(&text)
            {
                process.doors = doors;
                return Ok(());
            }
            if begun.elapsed() > READY_WITHIN {
                bail!("{name} is not ready after {READY_WITHIN:?}; its log ends with:\n{}", process.log_tail());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Process {
    fn check(&mut self, name: &str) -> anyhow::Result<()> {
        match self.child.try_wait() {
            Ok(Some(status)) => bail!("{name} ended ({status}); its log ends with:\n{}", self.log_tail()),
            _ => Ok(()),
        }
    }

    fn complaints(&self, name: &str) -> Vec<String> {
        let log = fs::read_to_string(self.files.with_extension("log")).unwrap_or_default();
        let most = most_frequent(log.lines().filter_map(complaint));
        most.iter().take(3).map(|(message, count)| format!("{name} warned {count} times: {message}")).collect()
    }

    fn log_tail(&self) -> String {
        tail(&self.files.with_extension("log"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The message of a log's line, if it is a warning or worse.
fn complaint(line: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        level: String,
        message: String,
    }
    let line: Line = serde_json::from_str(line).ok()?;
    matches!(line.level.as_str(), "WARN" | "ERROR").then_some(line.message)
}

fn most_frequent(messages: impl Iterator<Item = String>) -> Vec<(String, usize)> {
    let mut counts = BTreeMap::<String, usize>::new();
    messages.for_each(|message| *counts.entry(message).or_default() += 1);
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = vec![];
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_counted_by_what_they_say() {
        let log = [
            r#"{"level":"INFO","message":"ready"}"#,
            r#"{"level":"WARN","message":"slow","partition":"1"}"#,
            r#"{"level":"ERROR","message":"gone"}"#,
            r#"{"level":"WARN","message":"slow","partition":"2"}"#,
            "not a line of a log",
        ];
        let most = most_frequent(log.into_iter().filter_map(complaint));
        assert_eq!(most, [("slow".to_owned(), 2), ("gone".to_owned(), 1)]);
    }
}
