//! A secret is named in the configuration by the path of its file, and never stands in it.

use std::{
    fmt,
    io::Read,
    path::{Path, PathBuf},
};

use serde::{Serialize, Serializer};

/// Largest file that is read as a secret, in bytes.
pub const SECRET_MAX_BYTES: u64 = 64 * 1024;

/// What was in a secret's file, without the white space around it. Neither `Debug` nor serde shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why a secret could not be read. Names the file, never its content.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("{path} can't be read")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} has more than {SECRET_MAX_BYTES} bytes")]
    TooLarge { path: PathBuf },
    #[error("{path} is not text in UTF-8")]
    NotText { path: PathBuf },
    #[error("{path} is empty")]
    Empty { path: PathBuf },
}

impl Secret {
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let named = || path.to_path_buf();
        let file = std::fs::File::open(path).map_err(|source| SecretError::Read { path: named(), source })?;
        let mut bytes = Vec::new();
        let limited = &mut file.take(SECRET_MAX_BYTES + 1);
        limited.read_to_end(&mut bytes).map_err(|source| SecretError::Read { path: named(), source })?;
        if bytes.len() as u64 > SECRET_MAX_BYTES {
            return Err(SecretError::TooLarge { path: named() });
        }
        let text = String::from_utf8(bytes).map_err(|_| SecretError::NotText { path: named() })?;
        match text.trim() {
            "" => Err(SecretError::Empty { path: named() }),
            text => Ok(Self(text.to_owned())),
        }
    }

    /// The secret itself: hand it on to who needs it, and keep no copy.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("redacted")
    }
}
