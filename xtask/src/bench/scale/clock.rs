//! A clock that several processes share.

use anyhow::Result;
use nix::time::{ClockId, clock_gettime};

/// Nanoseconds since the machine was started (`CLOCK_MONOTONIC`), the same in every process.
pub(super) fn now_ns() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}
