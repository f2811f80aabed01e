//! Which nodes are silent by themselves, and whether the own link is suspected. One machine that
//! falls silent is likely down; when most fall silent at once, the observer has likely lost its own
//! link, and acting on what it does not hear would take apart a cluster that serves well. Pure.
//!
//! Nothing here has a clock: how long each node has been silent is given.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::timing::Timing;

/// Nodes that became silent within this time did so at once.
const AT_ONCE: Duration = Duration::from_secs(1);

/// With fewer watched nodes, `most` says nothing.
const LEAST_WATCHED: usize = 3;

/// What is behind the silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// Each silent node is so by itself.
    Nodes,
    /// Most fell silent at once: the observer's own link is suspected.
    OwnLink,
}

/// Which nodes are silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is behind it.
    pub suspicion: Suspicion,
    /// The silent nodes. While the own link is suspected, only those that were silent before:
    /// of the others nothing is known, and nothing should change.
    pub suspected: BTreeSet<u32>,
}

/// A watched node's silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    /// How long it has lasted.
    pub(super) lasting: Duration,
    /// The node had said that it would stop, or was never heard: its silence says nothing of any
    /// link.
    pub(super) is_expected: bool,
}

/// What is remembered from one verdict to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VerdictState {
    link: LinkTrust,
    /// Nodes that are silent by themselves, since they fell silent alone or long ago.
    confirmed: BTreeSet<u32>,
}

impl VerdictState {
    pub(super) fn new() -> VerdictState {
        VerdictState { link: LinkTrust::Trusted, confirmed: BTreeSet::new() }
    }
}

/// A verdict, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) state: VerdictState,
    pub(super) verdict: Verdict,
    /// The own link is trusted again, since most are heard again: a node that is not yet, and was
    /// not silent before, is given the whole time anew.
    pub(super) forgets: bool,
}

/// Whether the observer trusts what it does not hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum LinkTrust {
    Trusted,
    Suspected,
}

/// What is seen of the nodes whose silence would be new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Majority {
    /// There are too few of them to tell.
    TooFew,
    /// Neither most of them fell silent at once, nor are most of them heard.
    Mixed,
    /// Most of them fell silent at once.
    MostFell,
    /// Most of them are heard.
    MostHeard,
    /// The caller knows that the link is good.
    Told,
}

impl LinkTrust {
    fn after(self, majority: Majority) -> LinkTrust {
        match (self, majority) {
            (_, Majority::TooFew | Majority::MostHeard | Majority::Told) => LinkTrust::Trusted,
            (_, Majority::MostFell) => LinkTrust::Suspected,
            (link, Majority::Mixed) => link,
        }
    }
}

/// Judges all watched nodes by how long each has been silent. `told`: the caller has learnt from
/// elsewhere that the own link is good; a silent node is then called so at once.
///
/// A node counts as fallen from half the time of silence on, once one is silent: what breaks a
/// link breaks it for all, but the last heartbeats before it came at different moments, and the
/// first to be missed should not be judged alone.
pub(super) fn judge(
    state: &VerdictState,
    silence: &BTreeMap<u32, Silence>,
    timing: Timing,
    told: bool,
) -> Judgement {
    let lasting = |least: Duration| -> BTreeSet<u32> {
        silence
            .iter()
            .filter(|(_, silence)| silence.lasting >= least)
            .map(|(node, _)| *node)
            .collect()
    };
    let suspected = lasting(timing.silence);
    let mut confirmed: BTreeSet<u32> = state.confirmed.intersection(&suspected).copied().collect();
    if state.link == LinkTrust::Trusted {
        confirmed.extend(lasting(timing.silence + AT_ONCE));
    }

    let counted: Vec<&Silence> = silence
        .iter()
        .filter(|(node, silence)| !confirmed.contains(node) && !silence.is_expected)
        .map(|(_, silence)| silence)
        .collect();
    let fallen = counted.iter().filter(|silence| silence.lasting >= timing.overdue()).count();
    let one_is_silent = counted.iter().any(|silence| silence.lasting >= timing.silence);
    let majority = if told {
        Majority::Told
    } else if silence.len() < LEAST_WATCHED || counted.len() < 2 {
        Majority::TooFew
    } else if 2 * (counted.len() - fallen) > counted.len() {
        Majority::MostHeard
    } else if 2 * fallen > counted.len() && one_is_silent {
        Majority::MostFell
    } else {
        Majority::Mixed
    };

    let link = state.link.after(majority);
    let forgets = state.link == LinkTrust::Suspected && majority == Majority::MostHeard;
    if majority == Majority::Told {
        confirmed.extend(&suspected);
    }
    let verdict = match link {
        LinkTrust::Suspected => {
            Verdict { suspicion: Suspicion::OwnLink, suspected: confirmed.clone() }
        }
        LinkTrust::Trusted if forgets => {
            Verdict { suspicion: Suspicion::Nodes, suspected: confirmed.clone() }
        }
        LinkTrust::Trusted => Verdict { suspicion: Suspicion::Nodes, suspected },
    };
    Judgement { state: VerdictState { link, confirmed }, verdict, forgets }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing =
        Timing { period: Duration::from_millis(50), silence: Duration::from_millis(600) };

    /// Nodes 1, 2, ... with how many milliseconds each has been silent; a negative number: it had
    /// said that it would stop.
    fn silence(times: &[i64]) -> BTreeMap<u32, Silence> {
        (1..)
            .zip(times)
            .map(|(node, ms)| {
                let lasting = Duration::from_millis(ms.unsigned_abs());
                (node, Silence { lasting, is_expected: *ms < 0 })
            })
            .collect()
    }

    fn suspects(nodes: &[u32]) -> Verdict {
        Verdict { suspicion: Suspicion::Nodes, suspected: nodes.iter().copied().collect() }
    }

    fn own_link(nodes: &[u32]) -> Verdict {
        Verdict { suspicion: Suspicion::OwnLink, suspected: nodes.iter().copied().collect() }
    }

    /// Judges one picture after the other.
    fn history(pictures: &[(&[i64], Verdict)]) {
        let mut state = VerdictState::new();
        for (n, (times, expected)) in pictures.iter().enumerate() {
            let judgement = judge(&state, &silence(times), TIMING, false);
            assert_eq!(judgement.verdict, *expected, "picture {n}: {times:?}");
            state = judgement.state;
        }
    }

    #[test]
    fn every_input_leads_to_one_state() {
        use LinkTrust::{Suspected, Trusted};
        use Majority::{Mixed, MostFell, MostHeard, Told, TooFew};
        for (before, majority, after) in [
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
            assert_eq!(before.after(majority), after, "{before:?}, {majority:?}");
        }
    }

    #[test]
    fn one_picture_of_nodes_that_were_all_heard_before() {
        for (times, expected) in [
            (&[][..], suspects(&[])),
            (&[0, 0, 0], suspects(&[])),
            // Each by itself.
            (&[600, 0, 0], suspects(&[1])),
            (&[599, 0, 0], suspects(&[])),
            (&[600, 700, 0, 0], suspects(&[1, 2])),
            // More than half of at least three.
            (&[600, 650, 0], own_link(&[])),
            (&[600, 650, 0, 0, 1300], own_link(&[])),
            (&[1599, 600, 0], own_link(&[])),
            // The others are about to follow.
            (&[600, 550, 300], own_link(&[])),
            (&[600, 299, 299], suspects(&[1])),
            // No node is silent yet.
            (&[599, 599, 599], suspects(&[])),
            // Of one or two, `most` says nothing.
            (&[600], suspects(&[1])),
            (&[600, 600], suspects(&[1, 2])),
            // More than a second between them.
            (&[600, 1600, 0], suspects(&[1, 2])),
            // They had said that they would stop.
            (&[-600, -650, 0], suspects(&[1, 2])),
            (&[-600, -650, -700], suspects(&[1, 2, 3])),
            (&[-600, 650, 700, 0], own_link(&[])),
        ] {
            let judgement = judge(&VerdictState::new(), &silence(times), TIMING, false);
            assert_eq!(judgement.verdict, expected, "{times:?}");
        }
    }

    #[test]
    fn one_after_the_other_may_die_until_none_is_left() {
        history(&[
            (&[600, 0, 0, 0], suspects(&[1])),
            (&[2600, 600, 0, 0], suspects(&[1, 2])),
            (&[4600, 2600, 600, 0], suspects(&[1, 2, 3])),
            (&[6600, 4600, 2600, 600], suspects(&[1, 2, 3, 4])),
            (&[8600, 6600, 4600, 2600], suspects(&[1, 2, 3, 4])),
        ]);
    }

    #[test]
    fn a_cut_link_makes_no_node_silent_that_was_not_so_before() {
        history(&[
            (&[600, 0, 0, 0], suspects(&[1])),
            (&[5000, 590, 560, 570], suspects(&[1])),
            (&[5010, 600, 570, 580], own_link(&[1])),
            (&[95_000, 90_000, 90_000, 90_000], own_link(&[1])),
            // One is back, then another: most of those who were heard.
            (&[95_050, 0, 90_050, 90_050], own_link(&[1])),
            (&[95_100, 50, 0, 90_100], suspects(&[1])),
        ]);
    }

    #[test]
    fn a_node_that_was_silent_before_and_is_heard_again_is_not_silent() {
        history(&[
            (&[600, 0, 0, 0], suspects(&[1])),
            (&[5000, 600, 600, 600], own_link(&[1])),
            (&[0, 700, 700, 700], own_link(&[])),
            // Two of the four that now count are heard: that is not most.
            (&[0, 0, 700, 700], own_link(&[])),
            (&[0, 0, 0, 800], suspects(&[])),
        ]);
    }

    #[test]
    fn once_most_are_heard_again_the_others_are_given_the_whole_time_anew() {
        let fallen = judge(&VerdictState::new(), &silence(&[600, 600, 600]), TIMING, false);
        assert!(!fallen.forgets);
        let returned = judge(&fallen.state, &silence(&[50, 0, 9000]), TIMING, false);
        assert_eq!((returned.verdict, returned.forgets), (suspects(&[]), true));
        let later = judge(&returned.state, &silence(&[0, 0, 600]), TIMING, false);
        assert_eq!((later.verdict, later.forgets), (suspects(&[3]), false));
    }

    #[test]
    fn told_that_the_link_is_good_the_observer_believes_what_it_hears_and_goes_on_to() {
        let suspected = judge(&VerdictState::new(), &silence(&[600, 600, 600, 0]), TIMING, false);
        assert_eq!(suspected.verdict, own_link(&[]));
        let told = judge(&suspected.state, &silence(&[900, 900, 900, 0]), TIMING, true);
        assert_eq!((told.verdict, told.forgets), (suspects(&[1, 2, 3]), false));
        let later = judge(&told.state, &silence(&[950, 950, 950, 0]), TIMING, false);
        assert_eq!(later.verdict, suspects(&[1, 2, 3]));
        let back = judge(&later.state, &silence(&[0, 0, 1200, 0]), TIMING, false);
        assert_eq!(back.verdict, suspects(&[3]));
        // And all of those at once, again.
        let again = judge(&back.state, &silence(&[600, 600, 1800, 600]), TIMING, false);
        assert_eq!(again.verdict, own_link(&[3]));
    }

    #[test]
    fn a_suspicion_ends_when_too_few_are_watched() {
        let suspected = judge(&VerdictState::new(), &silence(&[600, 600, 0]), TIMING, false);
        assert_eq!(suspected.verdict, own_link(&[]));
        let fewer = judge(&suspected.state, &silence(&[700, 700]), TIMING, false);
        assert_eq!(fewer.verdict, suspects(&[1, 2]));
    }
}
