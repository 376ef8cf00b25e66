//! What can go wrong when bytes are stored, in one type.
//!
//! The variants are few because a caller can do few different things: stop the node
//! (`Io`, `Corruption`, `Poisoned`), refuse to start (`Refused`, `Locked`), or mend its own
//! call (`TooLarge`, `Misuse`). The type is `Clone` because one failed flush answers
//! everyone who waited for it.

use std::io;
use std::path::Path;
use std::sync::Arc;

/// A failure of the store. Cheap to clone.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system refused a read, a write or a sync.
    #[error("could not {action}: {source}")]
    Io {
        /// What was attempted, and on which file.
        action: Arc<str>,
        /// The system's own answer.
        source: Arc<io::Error>,
    },
    /// Stored bytes are not what was written. Names the tree, key, index or file.
    #[error("stored data is damaged: {what}")]
    Corruption {
        /// What is damaged, and where.
        what: Arc<str>,
    },
    /// An earlier write or flush failed. That is final: the store answers nothing any more.
    #[error("the store stopped after an earlier failure: {reason}")]
    Poisoned {
        /// The first failure.
        reason: Arc<str>,
    },
    /// A key, value, record or image is larger than its limit.
    #[error("{what} of {bytes} bytes exceeds the limit of {limit_bytes} bytes")]
    TooLarge {
        /// What was too large.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The largest size allowed.
        limit_bytes: usize,
    },
    /// The directory may not be opened as it is; the reason says what to do.
    #[error("refusing to open the data directory: {reason}")]
    Refused {
        /// Why, and what would help.
        reason: Arc<str>,
    },
    /// Another process holds the data directory.
    #[error("the data directory {path} is in use by another process")]
    Locked {
        /// The directory.
        path: Arc<str>,
    },
    /// The caller broke the contract of a call (a gap in the log, a second image, ...).
    #[error("misuse of the store: {reason}")]
    Misuse {
        /// Which rule was broken.
        reason: Arc<str>,
    },
    /// An image was given up; the live data is untouched and a new image may be begun.
    #[error("the image was given up: {reason}")]
    ImageLost {
        /// Why.
        reason: Arc<str>,
    },
    /// The log writer is gone, so nothing more can become durable.
    #[error("the log writer has stopped")]
    Closed,
}

impl StorageError {
    pub(crate) fn io(action: impl Into<String>, source: io::Error) -> StorageError {
        StorageError::Io {
            action: Arc::from(action.into()),
            source: Arc::new(source),
        }
    }

    pub(crate) fn file(verb: &str, path: &Path, source: io::Error) -> StorageError {
        StorageError::io(format!("{verb} {}", path.display()), source)
    }

    pub(crate) fn corruption(what: impl Into<String>) -> StorageError {
        StorageError::Corruption {
            what: Arc::from(what.into()),
        }
    }

    pub(crate) fn refused(reason: impl Into<String>) -> StorageError {
        StorageError::Refused {
            reason: Arc::from(reason.into()),
        }
    }

    pub(crate) fn misuse(reason: impl Into<String>) -> StorageError {
        StorageError::Misuse {
            reason: Arc::from(reason.into()),
        }
    }

    pub(crate) fn image_lost(reason: impl Into<String>) -> StorageError {
        StorageError::ImageLost {
            reason: Arc::from(reason.into()),
        }
    }

    /// This failure as the latched reason of everything that is refused after it.
    pub(crate) fn poison(&self) -> StorageError {
        match self {
            StorageError::Poisoned { .. } | StorageError::Closed => self.clone(),
            first => StorageError::Poisoned {
                reason: Arc::from(first.to_string()),
            },
        }
    }
}
