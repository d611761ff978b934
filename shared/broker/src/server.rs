//! A nats-server child.

use std::{
    fs, io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        OnceLock,
        mpsc::{self, SyncSender},
    },
    time::{Duration, Instant},
};

use crate::{LocateError, Options, locate};

/// A running server; ends with this value.
#[derive(Debug)]
pub struct Server {
    options: Options,
    binary: PathBuf,
    port: u16,
    monitor_port: Option<u16>,
    child: Option<Child>,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Locate(#[from] LocateError),
    #[error("can't write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("can't run {binary}")]
    Run { binary: PathBuf, source: io::Error },
    #[error("nats-server ended at its start ({status}); its log {log} ends with:\n{tail}")]
    Ended { status: ExitStatus, log: PathBuf, tail: String },
    #[error("nats-server accepted no connection within {waited:?}; its log {log} ends with:\n{tail}")]
    Silent { waited: Duration, log: PathBuf, tail: String },
}

impl Server {
    /// Starts a server and returns when it accepts connections.
    pub async fn start(options: Options) -> Result<Server, StartError> {
        let binary = tokio::task::spawn_blocking(locate).await.expect("locate does not panic")?;
        // The port it finds is kept: clients come back to the address they know.
        let mut server = Server { port: options.port, options, binary, monitor_port: None, child: None };
        server.run().await?;
        Ok(server)
    }

    pub fn url(&self) -> String {
        format!("nats://{}:{}", self.options.host, self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Of the HTTP monitoring, where the options ask for it.
    pub fn monitor_url(&self) -> Option<String> {
        self.monitor_port.map(|port| format!("http://127.0.0.1:{port}"))
    }

    /// `None` while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn store_dir(&self) -> &Path {
        &self.options.store_dir
    }

    pub fn log_file(&self) -> PathBuf {
        self.options.store_dir.join("nats-server.log")
    }

    /// Whether the child is alive.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Starts it again after [`stop`](Self::stop) or [`kill`](Self::kill), on the same port and data.
    pub async fn restart(&mut self) -> Result<(), StartError> {
        self.kill();
        self.run().await
    }

    /// SIGTERM, then waits; SIGKILL after 10 s.
    pub async fn stop(&mut self) {
        self.signal(libc::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.is_running() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.kill();
    }

    /// SIGKILL, and reaps it. Blocks only for as long as the kernel takes.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGSTOP: it keeps its connections and answers nothing. Returns when the kernel has stopped all its threads (Linux).
    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
        let stat = PathBuf::from(format!("/proc/{}/stat", self.pid().unwrap_or_default()));
        let begun = Instant::now();
        // `pid (name) T …`
        let runs = |text: String| !text.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'));
        while fs::read_to_string(&stat).is_ok_and(runs) && begun.elapsed() < Duration::from_secs(1) {
            std::thread::yield_now();
        }
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: libc::c_int) {
        if let Some(pid) = self.pid() {
            // SAFETY: kill has no memory effects; the pid is of a child that is not reaped yet.
            unsafe { libc::kill(pid as libc::pid_t, signal) };
        }
    }

    async fn run(&mut self) -> Result<(), StartError> {
        let dir = self.options.store_dir.clone();
        let config = dir.join("nats-server.conf");
        let ports_dir = dir.join("ports");
        let write = |path: &Path, result: io::Result<()>| {
            result.map_err(|source| StartError::Write { path: path.to_owned(), source })
        };
        if ports_dir.exists() {
            write(&ports_dir, fs::remove_dir_all(&ports_dir))?;
        }
        write(&ports_dir, fs::create_dir_all(&ports_dir))?;
        // -1 in a listen address: the server picks a free port, so that nobody can take it in between.
        let text = self.options.render(self.port).replace(":0\"", ":-1\"");
        write(&config, fs::write(&config, text))?;
        let log = self.log_file();
        let log_file = fs::OpenOptions::new().create(true).append(true).open(&log);
        let log_file = log_file.map_err(|source| StartError::Write { path: log.clone(), source })?;

        let mut command = Command::new(&self.binary);
        command.arg("-c").arg(&config).arg("--ports_file_dir").arg(&ports_dir);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file);
        // Ctrl-C in a terminal goes to the whole process group: the services must be drained before the server ends.
        command.process_group(0);
        let child = spawn_bound(command).map_err(|source| StartError::Run { binary: self.binary.clone(), source })?;
        self.child = Some(child);
        self.wait_until_ready(&ports_dir).await
    }

    async fn wait_until_ready(&mut self, ports_dir: &Path) -> Result<(), StartError> {
        let begun = Instant::now();
        loop {
            let child = self.child.as_mut().expect("run has set it");
            if let Ok(Some(status)) = child.try_wait() {
                self.child = None;
                return Err(StartError::Ended { status, log: self.log_file(), tail: self.log_tail() });
            }
            if let Some(ports) = read_ports(ports_dir) {
                self.port = ports.nats;
                self.monitor_port = ports.monitoring;
                if tokio::net::TcpStream::connect((self.options.host.as_str(), ports.nats)).await.is_ok() {
                    return Ok(());
                }
            }
            if begun.elapsed() > self.options.start_timeout {
                let silent =
                    StartError::Silent { waited: begun.elapsed(), log: self.log_file(), tail: self.log_tail() };
                self.kill();
                return Err(silent);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(12).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A stopped process takes no SIGTERM; SIGKILL ends it in any state.
        self.kill();
    }
}

struct Ports {
    nats: u16,
    monitoring: Option<u16>,
}

/// The file appears when the server is ready for connections.
fn read_ports(dir: &Path) -> Option<Ports> {
    #[derive(serde::Deserialize)]
    struct File {
        nats: Vec<String>,
        #[serde(default)]
        monitoring: Vec<String>,
    }
    let path = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some())?;
    let file: File = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
    let port = |urls: &[String]| urls.first()?.rsplit(':').next()?.parse().ok();
    Some(Ports { nats: port(&file.nats)?, monitoring: port(&file.monitoring) })
}

struct Job {
    command: Command,
    answer: mpsc::SyncSender<io::Result<Child>>,
}

/// Spawns a child that dies with this process.
///
/// Linux sends the death signal when the *thread* that spawned the child ends: so all children are spawned by one
/// thread that lives as long as the process.
pub fn spawn_bound(mut command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<SyncSender<Job>> = OnceLock::new();
    let parent = std::process::id();
    // SAFETY: between fork and exec only async-signal-safe calls are made: prctl, getppid and _exit.
    unsafe {
        command.pre_exec(move || {
            #[cfg(target_os = "linux")]
            {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(io::Error::last_os_error());
                }
                // The parent may have died before the line above.
                if libc::getppid() as u32 != parent {
                    libc::_exit(1);
                }
            }
            Ok(())
        });
    }
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, received) = mpsc::sync_channel::<Job>(16);
        std::thread::Builder::new()
            .name("child-spawner".to_owned())
            .spawn(move || {
                for mut job in received {
                    let _ = job.answer.send(job.command.spawn());
                }
            })
            .expect("a process that can't have one more thread can't run a server");
        jobs
    });
    let (answer, spawned) = mpsc::sync_channel(1);
    let gone = || io::Error::other("the spawning thread is gone");
    spawner.send(Job { command, answer }).map_err(|_| gone())?;
    spawned.recv().map_err(|_| gone())?
}
