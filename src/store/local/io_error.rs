//! Errors of files, as errors of the store.

use std::io;
use std::path::Path;

use crate::store::StoreError;

pub(in crate::store) fn io_error(
    action: &'static str,
    path: &Path,
    source: io::Error,
) -> StoreError {
    StoreError::Io { action, path: path.to_owned(), source }
}
