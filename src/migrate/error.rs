//! Why a configuration cannot be read.

use super::ledger::MAX_BYTES;

/// Why a configuration cannot be read at all; `Display` says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum MigrationError {
    /// It is larger than any configuration.
    #[error("it is larger than {MAX_BYTES} bytes (1 MiB): is it the right file?")]
    TooLarge,
    /// It looks like none of the formats.
    #[error(
        "it is neither a keepalived.conf with `virtual_server` or `vrrp_instance`, nor an \
         ldirectord.cf with `virtual=`, nor rules of ipvsadm: name its format with --from"
    )]
    UnknownFormat,
    /// Its structure is broken at a place.
    #[error("line {line}, column {column}: {message}")]
    Broken {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong there.
        message: &'static str,
    },
}
