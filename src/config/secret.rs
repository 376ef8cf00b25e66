//! Secrets: where they come from, and how they stay unseen.
//!
//! A secret lives in a file that only its owner may read, or in the environment. A file that others
//! can read is refused rather than used: it is no secret any more, and saying so once is kinder than
//! silence. Nothing here prints one; [`Secret::expose`] is the only way to its characters.

use std::env;
use std::fmt;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use rand::Rng as _;
use thiserror::Error;

/// The fewest characters that a secret may have.
pub const MIN_SECRET_CHARS: usize = 32;
/// The most: a longer file was named by mistake.
const MAX_SECRET_CHARS: usize = 1_024;
/// Random bytes in a secret that is created here; written as twice as many hexadecimal digits.
const NEW_SECRET_BYTES: usize = 32;

/// Characters that must not be seen. Prints as `[redacted]`.
#[derive(Clone)]
pub struct Secret(String);

/// Why a secret could not be had.
#[derive(Debug, Error)]
pub enum SecretError {
    /// The file could not be read or written.
    #[error(
        "cannot {action} the secret file {path}: {source}; set {variable} or run `mesto cluster secrets`"
    )]
    File {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: String,
        /// The variable that can be used instead.
        variable: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Others than the owner may read the file.
    #[error(
        "the secret file {path} can be read by others (mode {mode:04o}); run `chmod 600 {path}`"
    )]
    Exposed {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// The secret is too short, too long, or has characters that do not fit a header.
    #[error(
        "the secret in {place} must be {MIN_SECRET_CHARS} to {MAX_SECRET_CHARS} visible ASCII characters on one line"
    )]
    Malformed {
        /// The file or the variable.
        place: String,
    },
}

impl Secret {
    /// Takes a secret from `text`; `place` is what an error calls its origin.
    pub fn new(text: &str, place: &str) -> Result<Self, SecretError> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if visible && (MIN_SECRET_CHARS..=MAX_SECRET_CHARS).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(SecretError::Malformed {
                place: place.to_owned(),
            })
        }
    }

    /// The characters, for the one who must send or compare them.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Takes a secret from the environment, if `variable` is set there and not empty.
    pub fn from_environment(variable: &str) -> Result<Option<Self>, SecretError> {
        match env::var(variable) {
            Ok(text) if !text.is_empty() => Self::new(&text, variable).map(Some),
            _ => Ok(None),
        }
    }

    /// Reads `variable` if it is set and not empty, else `path`.
    pub(super) fn load(variable: &'static str, path: &Path) -> Result<Self, SecretError> {
        match Self::from_environment(variable)? {
            Some(secret) => Ok(secret),
            None => Self::read(variable, path),
        }
    }

    fn read(variable: &'static str, path: &Path) -> Result<Self, SecretError> {
        let name = path.display().to_string();
        let failed = |source| SecretError::File {
            action: "read",
            path: name.clone(),
            variable,
            source,
        };
        refuse_exposed(path, &name).map_err(|refused| refused.unwrap_or_else(failed))?;
        let text = fs::read_to_string(path).map_err(failed)?;
        Self::new(text.trim_end_matches(['\r', '\n']), &name)
    }
}

/// `Err(Ok(..))` for a file that others may read, `Err(Err(..))` for one that cannot be looked at.
#[cfg(unix)]
fn refuse_exposed(path: &Path, name: &str) -> Result<(), Result<SecretError, io::Error>> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path).map_err(Err)?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(Ok(SecretError::Exposed {
            path: name.to_owned(),
            mode,
        }))
    }
}

#[cfg(not(unix))]
fn refuse_exposed(_path: &Path, _name: &str) -> Result<(), Result<SecretError, io::Error>> {
    Ok(())
}

/// Creates the file with a new random secret, readable by its owner only, unless it exists.
/// Returns whether it was created.
pub fn create_secret_file(path: &Path) -> Result<bool, SecretError> {
    let failed = |source| SecretError::File {
        action: "create",
        path: path.display().to_string(),
        variable: "the environment variable",
        source,
    };
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    let mut text = random_text();
    text.push('\n');
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    Ok(true)
}

fn random_text() -> String {
    let mut bytes = [0_u8; NEW_SECRET_BYTES];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes every write");
        text
    })
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}
