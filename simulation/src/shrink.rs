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
    // Once time is up, none counts as failing.
    let fails = |plan: &Plan| Instant::now() < deadline && run(plan, false).violation.is_some();
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
    loop {
        let shorter = without_one(&plan).find(|shorter| fails(shorter));
        let Some(shorter) = shorter else { return plan };
        plan = shorter;
        progress(plan.bursts.iter().map(Vec::len).sum());
    }
}

/// The plans that lack one fault of this one, the last fault first.
fn without_one(plan: &Plan) -> impl Iterator<Item = Plan> {
    let faults = plan.bursts.iter().enumerate().rev();
    let places = faults.flat_map(|(burst, of)| (0..of.len()).rev().map(move |at| (burst, at)));
    places.map(|(burst, at)| {
        let mut shorter = plan.clone();
        shorter.bursts[burst].remove(at);
        if shorter.bursts[burst].is_empty() && shorter.bursts.len() > 1 {
            shorter.bursts.remove(burst);
        }
        shorter
    })
}
