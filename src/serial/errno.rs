//! A kernel error, as its number.

use nix::errno::Errno;
use serde::{Deserialize, Deserializer, Serializer};

/// Writes the number.
pub(crate) fn serialize<S: Serializer>(errno: &Errno, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i32(*errno as i32)
}

/// Reads it; one that this kernel does not have is an unknown error.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Errno, D::Error> {
    i32::deserialize(deserializer).map(Errno::from_raw)
}
