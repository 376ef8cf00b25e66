//! Checks a stopped node's directory.
use std::path::Path;

use crate::StorageError;

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct VerifyReport {
    /// Each damage, named.
    pub damages: Vec<String>,
}
impl VerifyReport {
    /// Whether nothing is damaged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damages.is_empty()
    }
}
/// Checks.
#[expect(clippy::todo, missing_docs, reason = "signatures first")]
#[expect(unused_variables, reason = "signatures first")]
pub fn verify(path: &Path) -> Result<VerifyReport, StorageError> {
    todo!()
}
