use proptest::prelude::*;

use super::*;
use crate::checks::HealthState;
use crate::checks::settings::{Kind, Period};
use crate::protocol::Protocol;

const SECOND: Duration = Duration::from_secs(1);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A target of an interval and a timeout in milliseconds.
fn target(interval: u64, timeout: u64) -> CheckTarget {
    let mut check = Check::new(Kind::Tcp);
    check.interval = Period::new(millis(interval)).unwrap();
    check.timeout = Period::new(millis(timeout)).unwrap();
    CheckTarget {
        addr: "10.0.0.1:80".parse().unwrap(),
        protocol: Protocol::Tcp,
        device: None,
        check,
    }
}

fn targets(count: u32, one: &CheckTarget) -> BTreeMap<u32, CheckTarget> {
    (0..count).map(|key| (key, one.clone())).collect()
}

fn ok() -> CheckOutcome {
    Ok("ok".to_owned())
}

fn failed() -> CheckOutcome {
    Err("no".to_owned())
}

/// Runs what is due at each millisecond and ends it after `takes`, with as many workers; when
/// each run started.
fn simulate(
    schedule: &mut CheckSchedule<u32>,
    from: Instant,
    time: Duration,
    workers: usize,
    takes: impl Fn(u32) -> (Duration, CheckOutcome),
) -> BTreeMap<u32, Vec<Instant>> {
    let mut started: BTreeMap<u32, Vec<Instant>> = BTreeMap::new();
    let mut running: Vec<(Instant, CheckRun<u32>, CheckOutcome)> = Vec::new();
    for step in 0..time.as_millis() as u64 {
        let now = from + millis(step);
        let (ended, rest) = running.into_iter().partition(|(end, ..)| *end <= now);
        running = rest;
        for (_, run, outcome) in ended {
            schedule.finish(&run, outcome, now);
        }
        for run in schedule.start(now, workers) {
            started.entry(run.key).or_default().push(now);
            let (takes, outcome) = takes(run.key);
            running.push((now + takes, run, outcome));
        }
        assert!(running.len() <= workers);
    }
    for (_, run, outcome) in running {
        schedule.finish(&run, outcome, from + time);
    }
    started
}

fn gaps(starts: &[Instant]) -> impl Iterator<Item = Duration> {
    starts.windows(2).map(|pair| pair[1] - pair[0])
}

#[test]
fn one_new_target_is_due_at_once_and_then_once_each_interval() {
    let now = Instant::now();
    let mut schedule = CheckSchedule::new(1, now);
    assert_eq!(schedule.next(1), None);
    schedule.replace(targets(1, &target(5000, 2000)), now);
    assert!(schedule.next(1).unwrap() - now <= millis(1));
    let runs = simulate(&mut schedule, now, 60 * SECOND, 1, |_| (millis(3), ok()));
    let gaps: Vec<Duration> = gaps(&runs[&0]).collect();
    assert!(runs[&0].len() >= 12, "{} runs", runs[&0].len());
    assert!((millis(2500)..=millis(7501)).contains(&gaps[0]), "{gaps:?}");
    assert!(gaps[1..].iter().all(|gap| *gap == 5 * SECOND), "{gaps:?}");
}

#[test]
fn a_thousand_targets_start_one_after_the_other_from_the_first_second_on() {
    let now = Instant::now();
    let mut schedule = CheckSchedule::new(1, now);
    schedule.replace(targets(1000, &target(5000, 2000)), now);
    let runs = simulate(&mut schedule, now, 20 * SECOND, 1000, |_| (millis(1), ok()));
    assert!(runs.values().all(|starts| starts[0] <= now + SECOND));
    let mut per_tenth = BTreeMap::<u128, u32>::new();
    for start in runs.values().flatten() {
        *per_tenth.entry((*start - now).as_millis() / 100).or_default() += 1;
    }
    // Evenly there would be 100 in each tenth of the first second, and 20 later on.
    assert!(per_tenth.range(..10).all(|(_, runs)| (50..200).contains(runs)), "{per_tenth:?}");
    assert!(per_tenth.range(100..).all(|(_, runs)| (4..60).contains(runs)), "{per_tenth:?}");
}

#[test]
fn a_late_start_does_not_move_the_grid() {
    let now = Instant::now();
    let mut schedule = CheckSchedule::new(1, now);
    schedule.replace(targets(1, &target(1000, 500)), now);
    let runs = simulate(&mut schedule, now, 10 * SECOND, 1, |_| (millis(1), ok()));
    let last = runs[&0].last().copied().unwrap();
    let late = last + SECOND + millis(200);
    let run = schedule.start(late, 1).remove(0);
    schedule.finish(&run, ok(), late);
    assert_eq!((schedule.next(1).unwrap() - last).as_millis(), 1999);
}

#[test]
fn a_run_that_takes_longer_than_the_interval_is_not_doubled() {
    let now = Instant::now();
    let mut schedule = CheckSchedule::new(1, now);
    schedule.replace(targets(1, &target(100, 1000)), now);
    let runs = simulate(&mut schedule, now, 10 * SECOND, 8, |_| (millis(330), ok()));
    assert!(gaps(&runs[&0]).all(|gap| gap >= millis(330) && gap <= millis(431)));
}

#[test]
fn targets_that_hang_leave_workers_to_the_others() {
    // A hundred of a thousand hang for two of every five seconds: 40 workers' work, of 32.
    let now = Instant::now();
    let mut schedule = CheckSchedule::new(1, now);
    schedule.replace(targets(1000, &target(5000, 2000)), now);
    let hangs = |key: u32| key.is_multiple_of(10);
    let takes = |key| if hangs(key) { (2 * SECOND, failed()) } else { (millis(2), ok()) };
    simulate(&mut schedule, now, 30 * SECOND, 32, takes);
    let later = now + 30 * SECOND;
    let runs = simulate(&mut schedule, later, 60 * SECOND, 32, takes);
    for (key, starts) in &runs {
        let longest = gaps(starts).max().unwrap();
        // 100 runs of 2 s by 16 workers: 12.5 s, and the wait for a place on the grid.
        let most = if hangs(*key) { 15 * SECOND } else { millis(5002) };
        assert!(longest <= most, "{key}: {longest:?}");
    }
    assert_eq!(runs.len(), 1000);
}

#[test]
fn with_every_worker_busy_there_is_nothing_to_wake_up_for() {
    let now = Instant::now();
    let mut schedule = CheckSchedule::new(1, now);
    schedule.replace(targets(3, &target(5000, 2000)), now);
    let later = now + SECOND;
    let runs = schedule.start(later, 2);
    assert_eq!(runs.len(), 2);
    assert!(schedule.start(later, 2).is_empty());
    // When the first run counts as hanging.
    assert_eq!(schedule.next(2), Some(later + 2 * SECOND + GRACE));
    schedule.finish(&runs[0], ok(), later);
    assert!(schedule.next(2).unwrap() <= later);
    assert_eq!(schedule.start(later, 2).len(), 1);
}

#[test]
fn a_target_that_is_the_same_keeps_what_is_known_and_any_other_starts_anew() {
    let now = Instant::now();
    let mut schedule = CheckSchedule::new(1, now);
    let one = target(5000, 2000);
    schedule.replace(targets(4, &one), now);
    simulate(&mut schedule, now, SECOND, 4, |_| (millis(1), failed()));
    let known = |schedule: &CheckSchedule<u32>, key| {
        schedule.get(&key).map(|(_, health)| (health.state(), health.failures()))
    };
    assert_eq!(known(&schedule, 0), Some((HealthState::Unhealthy, 1)));
    let later = now + SECOND;
    let mut new = targets(4, &one);
    new.remove(&3);
    new.insert(4, one.clone());
    let Some(changed) = new.get_mut(&1) else { unreachable!() };
    changed.check.fall = "5".parse().unwrap();
    let Some(moved) = new.get_mut(&2) else { unreachable!() };
    moved.addr = "10.0.0.2:80".parse().unwrap();
    schedule.replace(new, later);
    let all: Vec<_> = (0..5).map(|key| known(&schedule, key)).collect();
    let anew = Some((HealthState::Unknown, 0));
    assert_eq!(all, [Some((HealthState::Unhealthy, 1)), anew, anew, None, anew]);
    assert_eq!(schedule.iter().count(), 4);
    // The three that are new are due within three milliseconds, the one that stayed is not.
    let started: Vec<u32> =
        schedule.start(later + millis(3), 9).iter().map(|run| run.key).collect();
    assert_eq!(started.len(), 3);
    assert!(!started.contains(&0));
}

#[test]
fn a_result_for_a_target_that_is_gone_or_was_changed_counts_for_nothing() {
    let now = Instant::now();
    let mut schedule = CheckSchedule::new(1, now);
    schedule.replace(targets(2, &target(5000, 2000)), now);
    let old = schedule.start(now + millis(2), 2);
    assert_eq!(old.len(), 2);
    schedule.replace(targets(1, &target(5000, 1000)), now + millis(3));
    // The old runs still have their workers.
    assert!(schedule.start(now + millis(10), 2).is_empty());
    for run in &old {
        assert!(schedule.finish(run, ok(), now + millis(10)).is_none());
    }
    assert_eq!(schedule.get(&0).unwrap().1.state(), HealthState::Unknown);
    let new = schedule.start(now + millis(10), 2).remove(0);
    assert!(schedule.finish(&new, ok(), now + millis(11)).is_some());
    assert!(schedule.finish(&new, failed(), now + millis(11)).is_none(), "a result twice");
    assert_eq!(schedule.get(&0).unwrap().1.state(), HealthState::Healthy);
}

#[test]
fn a_run_for_which_there_was_no_thread_is_due_again_and_tells_nothing() {
    let now = Instant::now();
    let mut schedule = CheckSchedule::new(1, now);
    schedule.replace(targets(1, &target(5000, 2000)), now);
    let later = now + millis(1);
    let run = schedule.start(later, 1).remove(0);
    schedule.put_back(&run, later + SECOND);
    assert_eq!(schedule.next(1), Some(later + SECOND));
    assert_eq!(schedule.get(&0).unwrap().1.outcome(), None);
    assert_eq!(schedule.start(later + SECOND, 1).len(), 1);
}

#[test]
fn a_run_that_never_ends_makes_its_target_unhealthy_and_is_not_joined_by_a_second() {
    let now = Instant::now();
    let mut schedule = CheckSchedule::new(1, now);
    schedule.replace(targets(1, &target(5000, 2000)), now);
    simulate(&mut schedule, now, 5 * SECOND, 1, |_| (millis(1), ok()));
    let begun = schedule.next(4).unwrap();
    let run = schedule.start(begun, 4).remove(0);
    let mut changes = Vec::new();
    for second in 0..20 {
        let at = begun + SECOND * second;
        assert!(schedule.start(at, 4).is_empty());
        if !schedule.count_overdue(at).is_empty() {
            changes.push(second);
        }
    }
    // Failed after 3, 8 and 13 s, and unhealthy with the third.
    assert_eq!(changes, [13]);
    let (_, health) = schedule.get(&0).unwrap();
    assert_eq!((health.state(), health.failures()), (HealthState::Unhealthy, 4));
    assert_eq!(health.to_string(), "failed 4 times: the check itself hangs, beyond its 2 s");
    // That it ended at last says nothing of the real server; the next run does.
    let end = begun + 20 * SECOND;
    assert!(schedule.finish(&run, ok(), end).is_none());
    assert_eq!(schedule.get(&0).unwrap().1.failures(), 4);
    assert!(schedule.next(4).unwrap() <= end + 5 * SECOND);
}

proptest! {
    /// Whatever happens in whatever order, each target waits or runs, once.
    #[test]
    fn nothing_is_lost_and_nothing_runs_twice(
        steps in prop::collection::vec((0u8..5, 0u64..3000, any::<u8>()), 1..200),
    ) {
        let mut now = Instant::now();
        let mut schedule = CheckSchedule::new(7, now);
        let mut running: Vec<CheckRun<u32>> = Vec::new();
        for (step, pause, choice) in steps {
            now += millis(pause);
            match step {
                0 => {
                    let mut new = targets(10, &target(1000, 500));
                    new.retain(|key, _| choice >> (key % 8) & 1 == 0);
                    for one in new.values_mut().step_by(3) {
                        one.check.port = Some(choice.into());
                    }
                    schedule.replace(new, now);
                }
                1 | 2 => running.extend(schedule.start(now, 6)),
                3 if !running.is_empty() => {
                    let run = running.swap_remove(usize::from(choice) % running.len());
                    let outcome = if choice.is_multiple_of(2) { ok() } else { failed() };
                    schedule.finish(&run, outcome, now);
                }
                4 if !running.is_empty() => {
                    let run = running.swap_remove(usize::from(choice) % running.len());
                    schedule.put_back(&run, now);
                }
                _ => drop(schedule.count_overdue(now)),
            }
            prop_assert!(running.len() <= 6);
            prop_assert_eq!(schedule.running.iter().sum::<usize>(), running.len());
            let places = schedule.due.iter().map(BTreeSet::len).sum::<usize>() + schedule.overdue.len();
            prop_assert_eq!(places, schedule.entries.len());
            for (key, entry) in &schedule.entries {
                let runs = running
                    .iter()
                    .filter(|run| run.key == *key && Arc::ptr_eq(&run.target, &entry.target))
                    .count();
                let expected = usize::from(matches!(entry.slot, Slot::Runs { .. }));
                prop_assert_eq!(runs, expected);
            }
        }
    }
}
