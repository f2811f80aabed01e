//! What keeps a running cluster from working, and how to fix it.
//!
//! ```text
//!   collect     looks at this host's kernel, the store, the neighbours    kernel, files
//!   observed    what was seen, typed
//!   the rest    one subject each: what was seen -> findings               pure
//! ```
//!
//! It changes nothing, ever. Of this host it sees the kernel, of other nodes what they say of
//! themselves in the store; what it could not examine, it says with the reason.

mod addresses;
pub(crate) mod collect;
mod conflicts;
mod cvipd;
pub(crate) mod finding;
mod flags;
mod kernel;
mod listeners;
mod methods;
mod nodes;
pub(crate) mod observed;
mod paths;
mod roles;
mod routes;
mod sync;
mod table;
#[cfg(test)]
mod testing;

pub(crate) use self::cvipd::{ISOLATED, unavailable, unsynchronised};
pub(crate) use collect::{collect, start_fault};
pub(crate) use finding::{Finding, Severity};
pub(crate) use nodes::LAST_GOOD;
pub(crate) use observed::{Observed, ServerFault, Unexamined};
pub(crate) use roles::Roles;

/// Every examination of what was seen: faults first, then warnings and notes, each once.
pub(crate) fn examine(seen: &Observed) -> Vec<Finding> {
    let mut findings = nodes::nodes(seen);
    findings.extend(flags::flags(seen));
    findings.extend(listeners::of_others(seen));
    findings.extend(sync::configured(seen));
    let before = findings.len();
    if let Some(host) = &seen.host {
        findings.extend(kernel::differences(seen, host));
        findings.extend(addresses::addresses(seen, host));
        findings.extend(conflicts::conflicts(seen, host));
    }
    let is_fault = |finding: &Finding| finding.severity == Severity::Fault;
    let of_kernel = findings[before..].iter().any(is_fault);
    if let Some(host) = &seen.host {
        findings.extend(paths::paths(seen, host));
        findings.extend(routes::routes(seen, host));
        findings.extend(sync::here(seen, host));
        findings.extend(methods::methods(seen, host));
        findings.extend(listeners::here(seen, host));
        findings.extend(kernel::made(seen, host));
    }
    if let Some(table) = &seen.table {
        findings.extend(table::table(seen, table));
    }
    findings.extend(cvipd::told(seen, &findings, of_kernel));
    findings.sort_by_key(|finding| finding.severity);
    let mut once: Vec<Finding> = Vec::new();
    for finding in findings {
        if !once.contains(&finding) {
            once.push(finding);
        }
    }
    once
}
