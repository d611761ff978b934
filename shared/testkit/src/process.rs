//! Our own binaries as children.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::wait_for;

/// How to run a binary.
#[derive(Debug, Clone)]
pub struct ProcessOptions {
    pub binary: PathBuf,
    pub args: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
    /// How long it may take until its ready file is there. Default 90 s.
    pub ready_within: Duration,
}

/// A running child with a `--ready-file`; killed on drop, its log printed when the test panics.
pub struct Process {
    name: String,
    child: Child,
    status: Option<ExitStatus>,
    doors: BTreeMap<String, SocketAddr>,
    dir: TempDir,
}

impl ProcessOptions {
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self { binary: binary.into(), args: vec![], env: vec![], ready_within: Duration::from_secs(90) }
    }

    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }
}

impl Process {
    /// Runs it with `--ready-file` and returns when that file is there.
    ///
    /// # Panics
    /// When it ends before, or is not ready in time: with its log.
    pub async fn start(name: &str, options: ProcessOptions) -> Process {
        let within = options.ready_within;
        let mut process = Self::spawn(name, options, true);
        process.wait_ready(within).await;
        process
    }

    /// Runs it without a ready file: for commands that end by themselves.
    pub fn run(name: &str, options: ProcessOptions) -> Process {
        Self::spawn(name, options, false)
    }

    fn spawn(name: &str, options: ProcessOptions, ready_file: bool) -> Process {
        let dir = tempfile::Builder::new().prefix("pushmesh-process-").tempdir().expect("a temporary directory");
        let file = |name: &str| fs::File::create(dir.path().join(name)).expect("the directory is ours");
        let mut command = Command::new(&options.binary);
        command.args(&options.args).envs(options.env);
        if ready_file {
            command.arg("--ready-file").arg(dir.path().join("ready.json"));
        }
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        let child = pushmesh_broker::server::spawn_bound(command)
            .unwrap_or_else(|error| panic!("can't run {}: {error}", options.binary.display()));
        Process { name: name.to_owned(), child, status: None, doors: BTreeMap::new(), dir }
    }

    async fn wait_ready(&mut self, within: Duration) {
        let path = self.dir.path().join("ready.json");
        let name = self.name.clone();
        let child = std::sync::Mutex::new(&mut self.child);
        let doors: Result<BTreeMap<String, SocketAddr>, String> =
            wait_for(&format!("{name} to be ready"), within, async || {
                if let Ok(Some(status)) = child.lock().expect("not poisoned").try_wait() {
                    return Ok(Err(format!("{name} ended before it was ready: {status}")));
                }
                let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
                serde_json::from_str(&text).map(Ok).map_err(|error| format!("{text:?} is no map of doors: {error}"))
            })
            .await;
        match doors {
            Ok(doors) => self.doors = doors,
            Err(reason) => panic!("{reason}\n{}", self.stderr()),
        }
    }

    /// Where a door of the ready file listens.
    ///
    /// # Panics
    /// When there is no such door.
    #[track_caller]
    pub fn door(&self, door: &str) -> SocketAddr {
        *self.doors.get(door).unwrap_or_else(|| panic!("{} has no door {door}: {:?}", self.name, self.doors))
    }

    pub fn doors(&self) -> &BTreeMap<String, SocketAddr> {
        &self.doors
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.try_status().is_none()
    }

    /// SIGTERM.
    pub fn term(&mut self) {
        self.signal(libc::SIGTERM);
    }

    /// SIGINT.
    pub fn interrupt(&mut self) {
        self.signal(libc::SIGINT);
    }

    /// SIGHUP.
    pub fn hang_up(&mut self) {
        self.signal(libc::SIGHUP);
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&mut self) {
        if self.try_status().is_none() {
            let _ = self.child.kill();
            self.status = self.child.wait().ok();
        }
    }

    /// SIGSTOP.
    pub fn stop(&mut self) {
        self.signal(libc::SIGSTOP);
    }

    /// SIGCONT.
    pub fn cont(&mut self) {
        self.signal(libc::SIGCONT);
    }

    /// Waits for its end.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        let what = format!("{} to end", self.name);
        let this = std::sync::Mutex::new(self);
        wait_for(&what, within, async || this.lock().expect("not poisoned").try_status().ok_or("it runs")).await
    }

    /// Waits for its end and asserts its exit code.
    pub async fn expect_exit(&mut self, code: i32, within: Duration) {
        let status = self.ended(within).await;
        assert_eq!(status.code(), Some(code), "{} ended with {status}\n{}", self.name, self.stderr());
    }

    /// SIGTERM, and asserts that it ends with code 0.
    pub async fn expect_drained(&mut self, within: Duration) {
        self.term();
        self.expect_exit(0, within).await;
    }

    pub fn stdout(&self) -> String {
        fs::read_to_string(self.dir.path().join("stdout")).unwrap_or_default()
    }

    /// Its log so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }

    /// A directory of its own that goes with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn try_status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    fn signal(&mut self, signal: libc::c_int) {
        // A reaped child's pid may belong to somebody else.
        if self.try_status().is_none() {
            // SAFETY: kill has no memory effects; the child is not reaped.
            unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.stderr();
            let lines: Vec<_> = log.lines().rev().take(80).collect();
            eprintln!("--- end of the log of {} ({:?}) ---", self.name, self.status);
            for line in lines.into_iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}

/// The binary `pushmesh`: `PUSHMESH_BINARY`, else beside the running test's build.
///
/// # Panics
/// When it is not built: says how to.
pub fn pushmesh_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PUSHMESH_BINARY") {
        return path.into();
    }
    // target/<profile>/deps/<test> or target/<profile>/<binary>
    let test = std::env::current_exe().expect("a running program has a path");
    let found = test.ancestors().skip(1).take(2).map(|dir| dir.join("pushmesh")).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no pushmesh beside {}: run `cargo build -p pushmesh` first", test.display()))
}
