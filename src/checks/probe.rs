//! One run of a check: a target is asked, within a time that covers everything.
//!
//! Each kind of probe blocks its thread, and no longer than the deadline: it holds for names,
//! connects, handshakes and every single read, so that a server which sends a byte now and then
//! gains nothing by it. What servers send is hostile: sizes are capped, and of their words no
//! more is shown than a short line of what can be printed.

use super::CheckTarget;
use super::health::CheckOutcome;
use super::settings::Kind;
use crate::program::printable;
use deadline::Deadline;

mod deadline;
mod dns;
mod exec;
mod http;
mod message;
mod stream;
mod tls;

/// Asks a target, and blocks until it has answered or its check's timeout is over.
pub fn probe(target: &CheckTarget) -> CheckOutcome {
    let deadline = Deadline::after(target.check.timeout.get());
    let outcome = match &target.check.kind {
        Kind::Tcp => stream::probe(target, deadline),
        Kind::Http(http) => http::probe(target, http, deadline),
        Kind::Dns(dns) => dns::probe(target, dns, deadline),
        Kind::Exec(exec) => exec::probe(target, exec, deadline),
    };
    match outcome {
        Ok(seen) => Ok(printable(&seen)),
        Err(reason) => Err(printable(&reason)),
    }
}

#[cfg(test)]
pub(super) mod test_support;
