//! A program, run without a shell and without privileges, as `nobody` or the user that the check
//! names.

use super::deadline::Deadline;
use crate::checks::settings::Exec;
use crate::checks::{CheckOutcome, CheckTarget};
use crate::program::{self, Printed, Program};

/// Runs the program, and judges how it ends.
pub(super) fn probe(target: &CheckTarget, exec: &Exec, deadline: Deadline) -> CheckOutcome {
    let addr = target.probed();
    let environment = [
        ("CVIP_CHECK_ADDRESS", addr.ip().to_string()),
        ("CVIP_CHECK_PORT", addr.port().to_string()),
        ("CVIP_CHECK_PROTOCOL", target.protocol.name().to_owned()),
    ];
    let mut running = program::start(&Program {
        path: exec.program.path(),
        arguments: exec.program.arguments(),
        environment: &environment,
        input: None,
        user: exec.user.as_ref().map(|user| user.as_str()),
        reads: Printed::All,
    })?;
    let failed = |error| deadline.because("wait for the program", &error);
    let has_ended = running.watch(|| deadline.left()).map_err(failed)?;
    let ended = running.finish().map_err(failed)?;
    if !has_ended {
        return Err(ended.with_line(&format!("killed after {} s", deadline.whole.as_secs_f64())));
    }
    match ended.failure() {
        Some(failure) => Err(failure),
        None => Ok(ended.first_line().unwrap_or_else(|| "status 0".to_owned())),
    }
}

#[cfg(test)]
#[path = "exec/tests.rs"]
mod tests;
