//! What this host's cvipd says of itself and its surroundings, where no look at the kernel or the
//! store has shown it. It is a warning then: it may have passed, and cvipd has not looked again.

use super::collect::NEIGHBOURS;
use super::observed::Observed;
use super::{Finding, Severity};
use crate::daemon::{HookResult, HooksView, MetricsPlace};
use crate::director::sync::SyncView;

/// What a director says that suspects its own link.
pub(crate) const ISOLATED: &str =
    "most nodes are suspected at once: this director suspects its own link, the table stays";

/// What is said of a store that cannot be reached.
pub(crate) fn unavailable(seconds: u64) -> String {
    format!("the store has been unavailable for {seconds} s: nothing changes until it returns")
}

/// What is said of a synchronisation daemon that does not run.
pub(crate) fn unsynchronised(sync: &SyncView) -> Option<String> {
    let why = sync.missing.as_ref()?;
    let SyncView { role, interface, .. } = sync;
    Some(format!(
        "connections are not synchronised: no {role} sync daemon runs on {interface}: {why}"
    ))
}

/// Beside what was `found`; `of_kernel` of it are faults of this host's addresses and settings,
/// which name in other words, and with its fix, what cvipd has met.
pub(super) fn told(seen: &Observed, found: &[Finding], of_kernel: bool) -> Vec<Finding> {
    let Some(own) = &seen.own else { return Vec::new() };
    let mut findings = Vec::new();
    let is_faulty = |finding: &Finding| finding.severity == Severity::Fault;
    let is_told = |what: &str| found.iter().filter(|f| is_faulty(f)).any(|f| f.what.contains(what));
    let log = "`journalctl -u cvipd` says more; cvipd tries again by itself";
    if !of_kernel {
        let is_unseen =
            seen.host.is_none() || seen.unexamined.iter().any(|skipped| skipped.what == NEIGHBOURS);
        let finding = |what: &String| match is_unseen {
            true => Finding::fault(seen.here(), what).fix(log),
            false => Finding::warning(seen.here(), what).fix(log),
        };
        findings.extend(own.addresses.iter().filter(|what| !is_told(what)).map(finding));
    }
    if let Some(seconds) = own.store_unavailable_s.filter(|_| seen.unavailable.is_none()) {
        findings.push(Finding::warning("store", unavailable(seconds)).fix(
            "`cvipctl check` says which of its servers answer, and what this host may do there",
        ));
    }
    if let Some(MetricsPlace { address, problem: Some(problem) }) = &own.metrics {
        let what = format!("no metrics are given on {address}, which is tried again: {problem}");
        findings.push(
            Finding::warning(seen.here(), what).fix(
                "end what has that address, or name another one: metrics_address in cvip.toml",
            ),
        );
    }
    findings.extend(own.hooks.iter().flat_map(|hooks| of_hooks(seen, hooks)));
    if own.monitor.as_ref().is_some_and(|monitor| monitor.isolated) {
        findings.push(
            Finding::warning(seen.here(), ISOLATED)
                .fix("see to this host's network interfaces and link"),
        );
    }
    let sync = own.pools.as_ref().and_then(|pools| pools.sync.as_ref());
    if let Some(what) = sync.and_then(unsynchronised)
        && !is_told("connections are not synchronised")
    {
        findings.push(Finding::warning(seen.here(), what).fix(log));
    }
    findings
}

/// Hooks that are not run, and those whose last run has failed.
fn of_hooks(seen: &Observed, hooks: &HooksView) -> Vec<Finding> {
    let directory = &hooks.directory;
    let warning = |what: String| Finding::warning(seen.here(), what);
    let problem = hooks.problem.iter().map(|problem| {
        warning(format!("no hook is run: {problem}")).fix("cvipd looks again at the next event")
    });
    let refused = hooks.refused.iter().map(|refused| {
        let what = format!("{directory}/{} is not run as a hook: {}", refused.name, refused.reason);
        warning(what).fix("a name with a dot, such as `.off` at its end, says that it is no hook")
    });
    let failed = hooks.hooks.iter().filter_map(|hook| {
        let last = hook.last.as_ref().filter(|last| last.result != HookResult::Done)?;
        let reason = last.reason.as_deref().unwrap_or_default();
        let (name, event, time) = (&hook.name, last.event, &last.time);
        let what =
            format!("the hook {name} was not run to its end for {event} at {time}: {reason}");
        Some(warning(what).fix("`journalctl -u cvipd` shows its earlier runs; see cvipd(8), HOOKS"))
    });
    problem.chain(refused).chain(failed).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{conf, lines, seen};
    use super::*;
    use crate::conf::Routing;
    use crate::daemon::Status;
    use crate::doctor::Unexamined;

    #[test]
    fn what_cvipd_has_met_is_told_unless_the_kernel_shows_it() {
        let mut seen = seen(conf(Routing::Dr, &["192.0.2.10"], 2), 1);
        let own: Status = serde_json::from_value(serde_json::json!({
            "pid": 1, "node": 1, "roles": [], "faults": [], "store_requests": 0,
            "addresses": ["192.0.2.10 is claimed by 02:00:00:00:00:01"],
            "store_unavailable_s": 7,
        }))
        .unwrap();
        assert_eq!(told(&seen, &[], false), []);
        seen.own = Some(Box::new(own));
        let all = lines(&told(&seen, &[], false));
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all[0].starts_with("warning: node 1: 192.0.2.10 is claimed by"), "{all:?}");
        assert!(all[1].starts_with("warning: store: the store has been unavailable for 7 s"));
        seen.unexamined.push(Unexamined {
            what: NEIGHBOURS.to_owned(),
            why: "they were not asked".to_owned(),
            is_expected: true,
        });
        assert_eq!(told(&seen, &[], false)[0].severity, Severity::Fault, "no program looked");
        assert_eq!(told(&seen, &[], true).len(), 1, "the look at the kernel told it");
        seen.unavailable = Some("no server answers".to_owned());
        assert_eq!(told(&seen, &[], true), [], "the look at the store told it");
    }

    #[test]
    fn hooks_that_are_refused_or_failed_last_are_told() {
        let mut seen = seen(conf(Routing::Dr, &["192.0.2.10"], 2), 1);
        let last = |result: &str| {
            serde_json::json!({
                "event": "giving-up", "time": "2026-03-01T22:00:00.000Z", "result": result,
                "reason": "status 1: no route",
            })
        };
        let own: Status = serde_json::from_value(serde_json::json!({
            "pid": 1, "node": 1, "roles": [], "faults": [], "store_requests": 0,
            "hooks": {
                "directory": "/etc/cvip/hooks.d",
                "hooks": [
                    {"name": "10-bgp", "last": last("failed")},
                    {"name": "20-mail", "last": last("done")},
                    {"name": "30-new"},
                ],
                "refused": [{"name": "40-plain", "reason": "it is not executable"}],
                "runs": [], "seconds": {"counts": [], "sum_us": 0},
            },
        }))
        .unwrap();
        seen.own = Some(Box::new(own));
        let all = lines(&told(&seen, &[], false));
        assert_eq!(all.len(), 2, "{all:?}");
        assert!(all[0].contains("/etc/cvip/hooks.d/40-plain is not run as a hook: it is not exec"));
        assert!(all[1].contains(
            "the hook 10-bgp was not run to its end for giving-up at 2026-03-01T22:00:00.000Z: \
             status 1: no route"
        ));
    }
}
