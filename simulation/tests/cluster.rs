//! Whole clusters: fresh plans, the same plan twice, and the plans of earlier failures.

use std::path::Path;

use cvip_simulation::run::{Plan, run};

#[test]
fn clusters_under_faults_keep_every_invariant() {
    for seed in 1..=3 {
        let report = run(&Plan::draw(seed, 1), false);
        assert_eq!(report.violation, None, "seed {seed}");
    }
}

#[test]
fn one_seed_is_one_run() {
    let plan = Plan::sized(7, 3, 2, 1);
    let (first, second) = (run(&plan, true), run(&plan, true));
    assert_eq!(first.timeline, second.timeline);
    assert_eq!(first.settled, second.settled);
    assert_eq!((first.events, first.simulated), (second.events, second.simulated));
}

#[test]
fn states_that_are_written_and_restored_decide_as_before() {
    let plan = Plan { restores: false, ..Plan::sized(7, 3, 2, 1) };
    let restored = Plan { restores: true, ..plan.clone() };
    let (one, other) = (run(&plan, true), run(&restored, true));
    assert_eq!(one.timeline, other.timeline);
    assert_eq!((one.settled, one.events), (other.settled, other.events));
}

#[test]
fn what_failed_once_holds_now() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let mut plans = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let file = entry.unwrap().path();
        let plan: Plan = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(run(&plan, false).violation, None, "{}", file.display());
        plans += 1;
    }
    assert!(plans > 0, "no plan in {}", folder.display());
}
