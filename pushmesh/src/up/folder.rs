//! The data folder: one mesh at a time, and what it leaves there for the other commands.

use std::{
    fs::{self, File, TryLockError},
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::Context;

use crate::{
    doors::{Ready, jwks_file, ready_file},
    exit::Failure,
};

/// A locked data folder; `ready.json` goes with it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes it if need be, readable by its owner alone: it holds keys.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let wrong = |what: String, error: std::io::Error| Failure::config(anyhow::Error::new(error).context(what));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| wrong(format!("can't make the data folder {}", path.display()), error))?;
        // Services are told of files in it, whatever folder they think to be in.
        let path = path.canonicalize().map_err(|error| wrong(format!("can't find {}", path.display()), error))?;
        let lock = File::create(path.join("lock"))
            .map_err(|error| wrong(format!("can't write into {}", path.display()), error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let other = anyhow::anyhow!("another mesh runs with the data folder {}: give --data", path.display());
                return Err(Failure::unavailable(other));
            }
            Err(TryLockError::Error(error)) => return Err(wrong(format!("can't lock {}", path.display()), error)),
        }
        let folder = Self { path, _lock: lock };
        // A mesh that was killed has left its own.
        folder.forget_ready();
        Ok(folder)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys, made at the first start.
    pub fn jwks(&self) -> Result<PathBuf, Failure> {
        let path = jwks_file(&self.path);
        if !path.exists() {
            pushmesh_auth::generate_jwks(&path)
                .with_context(|| format!("can't write the keys {}", path.display()))
                .map_err(Failure::config)?;
        }
        Ok(path)
    }

    /// Tells the other commands where the mesh is.
    pub fn tell_ready(&self, ready: &Ready) -> anyhow::Result<()> {
        ready.write(&ready_file(&self.path))
    }

    fn forget_ready(&self) {
        // Not being there is what is wanted.
        let _absent = fs::remove_file(ready_file(&self.path));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.forget_ready();
    }
}

impl Ready {
    /// Writes it whole: who sees the file can read it.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let write = || -> std::io::Result<()> {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
            serde_json::to_writer_pretty(&mut file, self)?;
            writeln!(file)?;
            file.persist(path)?;
            Ok(())
        };
        write().with_context(|| format!("can't write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_meshs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let folder = Folder::open(&path).unwrap();
        assert!(Folder::open(&path).unwrap_err().to_string().contains("another mesh"));
        let keys = folder.jwks().unwrap();
        assert_eq!(folder.jwks().unwrap(), keys, "kept over starts");
        drop(folder);
        Folder::open(&path).unwrap();
    }
}
