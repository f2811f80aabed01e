//! Connections that are established and do nothing.

use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// One listener takes so many: a client's port is one of some 28,000.
const EACH: usize = 20_000;

/// Both ends of so many established connections, on the loopback of the calling thread's network namespace.
///
/// # Errors
/// If this process may not open so many files, or if there are no ports left.
pub fn established(number: usize) -> Result<Vec<TcpStream>> {
    // Two descriptors for each, and some.
    let wanted = 2 * number as u64 + 1000;
    let (now, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let raised = setrlimit(Resource::RLIMIT_NOFILE, now.max(wanted), most.max(wanted));
    raised.context("cannot raise the open files")?;
    let mut held = Vec::with_capacity(2 * number);
    for first in (0..number).step_by(EACH) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let at = listener.local_addr()?;
        for _ in first..number.min(first + EACH) {
            held.push(TcpStream::connect(at).context("cannot connect")?);
            held.push(listener.accept()?.0);
        }
    }
    Ok(held)
}
