//! The shortest plan that still violates an invariant.

use std::time::{Duration, Instant};

use crate::run::{Plan, run};

/// Tries shorter plans until none of them fails any more, or time is up. `progress` is told how
/// many faults are left.
pub fn shrink(
    plan: &Plan,
    failed: usize,
    within: Duration,
    mut progress: impl FnMut(usize),
) -> Plan {
    let deadline = Instant::now() + within;
    let fails = |plan: &Plan| run(plan, false).violation.is_some();
    // What came after the failure did nothing to it.
    let mut plan = Plan {
        bursts: plan.bursts[..=failed.min(plan.bursts.len().saturating_sub(1))].to_vec(),
        ..plan.clone()
    };
    // The burst alone, if its own faults are enough.
    if plan.bursts.len() > 1 {
        let last = plan.bursts.last().cloned().into_iter().collect();
        let alone = Plan { bursts: last, ..plan.clone() };
        for seed in 0..4 {
            let alone = Plan { seed: plan.seed.wrapping_add(seed), ..alone.clone() };
            if fails(&alone) {
                plan = alone;
                break;
            }
        }
    }
    let mut is_shorter = true;
    while is_shorter && Instant::now() < deadline {
        is_shorter = false;
        for burst in (0..plan.bursts.len()).rev() {
            for fault in (0..plan.bursts[burst].len()).rev() {
                if Instant::now() >= deadline {
                    return plan;
                }
                let mut shorter = plan.clone();
                shorter.bursts[burst].remove(fault);
                if shorter.bursts[burst].is_empty() && shorter.bursts.len() > 1 {
                    shorter.bursts.remove(burst);
                }
                if fails(&shorter) {
                    plan = shorter;
                    is_shorter = true;
                    progress(plan.bursts.iter().map(Vec::len).sum());
                    break;
                }
            }
            if is_shorter {
                break;
            }
        }
    }
    plan
}
