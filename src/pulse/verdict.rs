//! Whose fault is silence? One machine that falls silent is likely down; when most fall silent at
//! once, the observer has likely lost its own link, and whoever then acts on what it does not
//! hear takes a cluster apart that serves well.
//!
//! Nothing here has a clock: how long each node has been quiet is given.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::peers::Timing;

/// Nodes that became silent within this time did so at once.
const AT_ONCE: Duration = Duration::from_secs(1);

/// With fewer watched nodes, `most' says nothing.
const LEAST_WATCHED: usize = 3;

/// What is behind the silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// Whoever is silent is so by himself.
    Nodes,
    /// Most fell silent at once: the observer's own link is suspected.
    OwnLink,
}

/// Who is silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is behind it.
    pub suspicion: Suspicion,
    /// The silent nodes. While the own link is suspected, only those that were silent before:
    /// of the others nothing is known, and nothing should change.
    pub silent: BTreeSet<u32>,
}

/// A watched node's silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quiet {
    /// How long it has lasted.
    pub(super) lasting: Duration,
    /// Whether the node had said that it would stop, or was never heard: its silence speaks
    /// against nobody's link.
    pub(super) blameless: bool,
}

/// What is remembered from one verdict to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    link: Link,
    /// Silent nodes whose silence is their own fault, since it came by itself or long ago.
    convicted: BTreeSet<u32>,
}

impl State {
    pub(super) fn new() -> State {
        State { link: Link::Trusted, convicted: BTreeSet::new() }
    }
}

/// A verdict, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) state: State,
    pub(super) verdict: Verdict,
    /// The own link is trusted again, since most are heard again: whoever is not yet, and was
    /// not silent before, is given the whole time anew.
    pub(super) forgive: bool,
}

/// Whether the observer trusts what it does not hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Trusted,
    Suspected,
}

/// What is to be seen of those whose silence would be news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// There are too few of them to tell.
    TooFew,
    /// Neither most of them fell silent at once, nor are most of them heard.
    Mixed,
    /// Most of them fell silent at once.
    MostFell,
    /// Most of them are heard.
    MostHeard,
    /// Somebody who knows says that the link is good.
    Told,
}

impl Link {
    fn after(self, sight: Sight) -> Link {
        match (self, sight) {
            (_, Sight::TooFew | Sight::MostHeard | Sight::Told) => Link::Trusted,
            (_, Sight::MostFell) => Link::Suspected,
            (link, Sight::Mixed) => link,
        }
    }
}

/// Judges all watched nodes by how long each has been quiet. `told`: the caller has learnt from
/// elsewhere that the own link is good; whoever is silent is then called so at once.
///
/// A node counts as fallen from half the time of silence on, once one is silent: what breaks a
/// link breaks it for all, but the last heartbeats before it came at different moments, and the
/// first to be missed should not be judged alone.
pub(super) fn judge(
    state: &State,
    quiet: &BTreeMap<u32, Quiet>,
    timing: Timing,
    told: bool,
) -> Judgement {
    let lasting = |least: Duration| -> BTreeSet<u32> {
        quiet.iter().filter(|(_, quiet)| quiet.lasting >= least).map(|(node, _)| *node).collect()
    };
    let silent = lasting(timing.silence);
    let mut convicted: BTreeSet<u32> = state.convicted.intersection(&silent).copied().collect();
    if state.link == Link::Trusted {
        convicted.extend(lasting(timing.silence + AT_ONCE));
    }

    let jury: Vec<&Quiet> = quiet
        .iter()
        .filter(|(node, quiet)| !convicted.contains(node) && !quiet.blameless)
        .map(|(_, quiet)| quiet)
        .collect();
    let fallen = jury.iter().filter(|quiet| quiet.lasting >= timing.overdue()).count();
    let one_is_silent = jury.iter().any(|quiet| quiet.lasting >= timing.silence);
    let sight = if told {
        Sight::Told
    } else if quiet.len() < LEAST_WATCHED || jury.len() < 2 {
        Sight::TooFew
    } else if 2 * (jury.len() - fallen) > jury.len() {
        Sight::MostHeard
    } else if 2 * fallen > jury.len() && one_is_silent {
        Sight::MostFell
    } else {
        Sight::Mixed
    };

    let link = state.link.after(sight);
    let forgive = state.link == Link::Suspected && sight == Sight::MostHeard;
    if sight == Sight::Told {
        convicted.extend(&silent);
    }
    let verdict = match link {
        Link::Suspected => Verdict { suspicion: Suspicion::OwnLink, silent: convicted.clone() },
        Link::Trusted if forgive => {
            Verdict { suspicion: Suspicion::Nodes, silent: convicted.clone() }
        }
        Link::Trusted => Verdict { suspicion: Suspicion::Nodes, silent },
    };
    Judgement { state: State { link, convicted }, verdict, forgive }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing =
        Timing { period: Duration::from_millis(50), silence: Duration::from_millis(600) };

    /// Nodes 1, 2, ... with how many milliseconds each has been quiet; a negative number: it had
    /// said that it would stop.
    fn quiet(times: &[i64]) -> BTreeMap<u32, Quiet> {
        (1..)
            .zip(times)
            .map(|(node, ms)| {
                let lasting = Duration::from_millis(ms.unsigned_abs());
                (node, Quiet { lasting, blameless: *ms < 0 })
            })
            .collect()
    }

    fn silent(nodes: &[u32]) -> Verdict {
        Verdict { suspicion: Suspicion::Nodes, silent: nodes.iter().copied().collect() }
    }

    fn own_link(nodes: &[u32]) -> Verdict {
        Verdict { suspicion: Suspicion::OwnLink, silent: nodes.iter().copied().collect() }
    }

    /// Judges one picture after the other.
    fn history(pictures: &[(&[i64], Verdict)]) {
        let mut state = State::new();
        for (n, (times, expected)) in pictures.iter().enumerate() {
            let judgement = judge(&state, &quiet(times), TIMING, false);
            assert_eq!(judgement.verdict, *expected, "picture {n}: {times:?}");
            state = judgement.state;
        }
    }

    #[test]
    fn every_sight_leads_to_one_state() {
        use Link::{Suspected, Trusted};
        use Sight::{Mixed, MostFell, MostHeard, Told, TooFew};
        for (before, sight, after) in [
            (Trusted, TooFew, Trusted),
            (Trusted, Mixed, Trusted),
            (Trusted, MostFell, Suspected),
            (Trusted, MostHeard, Trusted),
            (Trusted, Told, Trusted),
            (Suspected, TooFew, Trusted),
            (Suspected, Mixed, Suspected),
            (Suspected, MostFell, Suspected),
            (Suspected, MostHeard, Trusted),
            (Suspected, Told, Trusted),
        ] {
            assert_eq!(before.after(sight), after, "{before:?}, {sight:?}");
        }
    }

    #[test]
    fn one_picture_of_nodes_that_were_all_heard_before() {
        for (times, expected) in [
            (&[][..], silent(&[])),
            (&[0, 0, 0], silent(&[])),
            // Each by himself.
            (&[600, 0, 0], silent(&[1])),
            (&[599, 0, 0], silent(&[])),
            (&[600, 700, 0, 0], silent(&[1, 2])),
            // More than half of at least three.
            (&[600, 650, 0], own_link(&[])),
            (&[600, 650, 0, 0, 1300], own_link(&[])),
            (&[1599, 600, 0], own_link(&[])),
            // The others are about to follow.
            (&[600, 550, 300], own_link(&[])),
            (&[600, 299, 299], silent(&[1])),
            // Nobody is silent yet.
            (&[599, 599, 599], silent(&[])),
            // Of one or two, `most' says nothing.
            (&[600], silent(&[1])),
            (&[600, 600], silent(&[1, 2])),
            // More than a second between them.
            (&[600, 1600, 0], silent(&[1, 2])),
            // They had said that they would stop.
            (&[-600, -650, 0], silent(&[1, 2])),
            (&[-600, -650, -700], silent(&[1, 2, 3])),
            (&[-600, 650, 700, 0], own_link(&[])),
        ] {
            let judgement = judge(&State::new(), &quiet(times), TIMING, false);
            assert_eq!(judgement.verdict, expected, "{times:?}");
        }
    }

    #[test]
    fn one_after_the_other_may_die_until_nobody_is_left() {
        history(&[
            (&[600, 0, 0, 0], silent(&[1])),
            (&[2600, 600, 0, 0], silent(&[1, 2])),
            (&[4600, 2600, 600, 0], silent(&[1, 2, 3])),
            (&[6600, 4600, 2600, 600], silent(&[1, 2, 3, 4])),
            (&[8600, 6600, 4600, 2600], silent(&[1, 2, 3, 4])),
        ]);
    }

    #[test]
    fn a_cut_link_silences_nobody_but_those_who_were_silent_before() {
        history(&[
            (&[600, 0, 0, 0], silent(&[1])),
            (&[5000, 590, 560, 570], silent(&[1])),
            (&[5010, 600, 570, 580], own_link(&[1])),
            (&[95_000, 90_000, 90_000, 90_000], own_link(&[1])),
            // One is back, then another: most of those who were heard.
            (&[95_050, 0, 90_050, 90_050], own_link(&[1])),
            (&[95_100, 50, 0, 90_100], silent(&[1])),
        ]);
    }

    #[test]
    fn whoever_was_silent_before_and_is_heard_again_is_not_silent() {
        history(&[
            (&[600, 0, 0, 0], silent(&[1])),
            (&[5000, 600, 600, 600], own_link(&[1])),
            (&[0, 700, 700, 700], own_link(&[])),
            // Two of the four that now count are heard: that is not most.
            (&[0, 0, 700, 700], own_link(&[])),
            (&[0, 0, 0, 800], silent(&[])),
        ]);
    }

    #[test]
    fn most_that_return_have_the_others_forgiven() {
        let fallen = judge(&State::new(), &quiet(&[600, 600, 600]), TIMING, false);
        assert!(!fallen.forgive);
        let returned = judge(&fallen.state, &quiet(&[50, 0, 9000]), TIMING, false);
        assert_eq!((returned.verdict, returned.forgive), (silent(&[]), true));
        let later = judge(&returned.state, &quiet(&[0, 0, 600]), TIMING, false);
        assert_eq!((later.verdict, later.forgive), (silent(&[3]), false));
    }

    #[test]
    fn told_that_the_link_is_good_the_observer_believes_its_ears_and_goes_on_to() {
        let suspected = judge(&State::new(), &quiet(&[600, 600, 600, 0]), TIMING, false);
        assert_eq!(suspected.verdict, own_link(&[]));
        let told = judge(&suspected.state, &quiet(&[900, 900, 900, 0]), TIMING, true);
        assert_eq!((told.verdict, told.forgive), (silent(&[1, 2, 3]), false));
        let later = judge(&told.state, &quiet(&[950, 950, 950, 0]), TIMING, false);
        assert_eq!(later.verdict, silent(&[1, 2, 3]));
        let back = judge(&later.state, &quiet(&[0, 0, 1200, 0]), TIMING, false);
        assert_eq!(back.verdict, silent(&[3]));
        // And all of those at once, again.
        let again = judge(&back.state, &quiet(&[600, 600, 1800, 600]), TIMING, false);
        assert_eq!(again.verdict, own_link(&[3]));
    }

    #[test]
    fn a_suspicion_ends_when_too_few_are_watched() {
        let suspected = judge(&State::new(), &quiet(&[600, 600, 0]), TIMING, false);
        assert_eq!(suspected.verdict, own_link(&[]));
        let fewer = judge(&suspected.state, &quiet(&[700, 700]), TIMING, false);
        assert_eq!(fewer.verdict, silent(&[1, 2]));
    }
}
