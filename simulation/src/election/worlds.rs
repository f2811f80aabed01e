//! Which worlds are explored.

use std::time::Duration;

use super::world::Setting;

const SECOND: Duration = Duration::from_secs(1);
const HALF: Duration = Duration::from_millis(500);

const TWO: &[u32] = &[1, 2];
const THREE: &[u32] = &[1, 2, 3];

/// Faults of the store, and directors that are started again.
const STORE: &[&str] =
    &["restart", "reboot", "down", "unavailable", "unanswered", "emptied", "put-back", "conflict"];

/// Faults of heartbeats, and directors that are started again.
const LINKS: &[&str] = &["restart", "death", "stop", "cut-off", "lost", "nobody-answers"];

/// The smallest world, which takes seconds.
pub fn smallest() -> Setting {
    Setting {
        name: "two directors, one fault",
        order: TWO,
        new_order: &[2, 1],
        step: SECOND,
        faults: 1,
        kinds: &[],
    }
}

/// All worlds, the smallest first.
pub fn all() -> Vec<Setting> {
    let world = |name, order, new_order, step, faults, kinds| Setting {
        name,
        order,
        new_order,
        step,
        faults,
        kinds,
    };
    vec![
        smallest(),
        world("two directors, one fault, steps of half a second", TWO, &[2, 1], HALF, 1, &[]),
        world("three directors, one fault", THREE, &[2, 3], SECOND, 1, &[]),
        world("two directors, two faults", TWO, &[2], SECOND, 2, &[]),
        world("two directors, two faults, steps of half a second", TWO, &[2, 1], HALF, 2, &[]),
        world("three directors, two faults", THREE, &[2, 3], SECOND, 2, &[]),
        world("two directors, three faults: store and restarts", TWO, &[2, 1], SECOND, 3, STORE),
        world(
            "two directors, three faults: heartbeats and restarts",
            TWO,
            &[2, 1],
            SECOND,
            3,
            LINKS,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::{Timeline, explore};
    use super::*;

    #[test]
    fn in_worlds_of_one_fault_nothing_is_wrong_in_any_state() {
        for setting in all().into_iter().filter(|setting| setting.faults == 1) {
            let explored = explore(setting.clone(), &mut |_| {});
            if let Some(violation) = &explored.violation {
                panic!("\n{}", Timeline { setting, violation });
            }
            assert!(explored.states > 1000, "{explored:?}");
        }
    }
}
