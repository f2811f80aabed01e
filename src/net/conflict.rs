//! Does another host have an address of ours? What it takes to believe that, as one small state
//! machine for each address, without a clock and without a socket.
//!
//! One packet proves nothing: anybody on the link can forge it, or it was under way for long. It
//! only makes the watch ask. Three questions that were answered by another are believed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::frames::Mac;
use crate::clock::Instant;

/// So many answers are believed.
pub(super) const BELIEVED: u8 = 3;
/// So many questions are asked for them at most: some may be lost.
const ASKED: u8 = 6;
/// From one question to the next: six fit into [`WINDOW`], and an answer over any link of one
/// segment comes sooner.
const GAP: Duration = Duration::from_millis(150);
/// Three answers must have come within this time of the suspicion.
const WINDOW: Duration = Duration::from_secs(1);
/// A finding is no longer one after this.
const KNOWN_FOR: Duration = Duration::from_secs(10);

/// What is known of a conflicting host for one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictState {
    /// Of none.
    NoConflict,
    /// Another host announced the address, or the caller has its doubts; no host was asked yet.
    Suspected {
        /// Who announced it.
        by: Option<Mac>,
        /// When it was announced.
        since: Instant,
        /// When to ask.
        next: Instant,
    },
    /// The host that has the address is being probed.
    Probing {
        /// When the suspicion arose.
        since: Instant,
        /// When to ask again.
        next: Instant,
        /// How many questions were asked.
        asked: u8,
        /// How many answers came, of the three that are believed: no more than questions.
        answered: u8,
    },
    /// Another host has the address.
    Confirmed {
        /// The last that answered.
        by: Mac,
        /// When it did.
        since: Instant,
    },
}

/// What happens to one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictInput {
    /// Another host announced it.
    Announced(Mac),
    /// The caller wants to know.
    Doubted,
    /// A question was sent.
    Asked,
    /// A question could not be sent.
    Unasked,
    /// Another host said what can be an answer.
    Answered(Mac),
    /// Time passed.
    Time,
}

impl ConflictState {
    /// The state after an event.
    pub fn after(self, event: ConflictInput, now: Instant) -> ConflictState {
        use ConflictState::{Confirmed, NoConflict, Probing, Suspected};
        let over = |since: Instant, time| now.saturating_duration_since(since) >= time;
        match (self, event) {
            (Suspected { since, .. } | Probing { since, .. }, ConflictInput::Time)
                if over(since, WINDOW) =>
            {
                NoConflict
            }
            (Confirmed { since, .. }, ConflictInput::Time) if over(since, KNOWN_FOR) => NoConflict,

            // What can be an answer and was not asked for is an announcement.
            (NoConflict, ConflictInput::Announced(by) | ConflictInput::Answered(by)) => {
                Suspected { by: Some(by), since: now, next: now }
            }
            (NoConflict, ConflictInput::Doubted) => Suspected { by: None, since: now, next: now },

            (Suspected { since, .. }, ConflictInput::Asked) => {
                Probing { since, next: now + GAP, asked: 1, answered: 0 }
            }
            (Suspected { by, since, .. }, ConflictInput::Unasked) => {
                Suspected { by, since, next: now + GAP }
            }

            (Probing { since, asked, answered, .. }, ConflictInput::Asked) => {
                Probing { since, next: now + GAP, asked: asked.saturating_add(1), answered }
            }
            (Probing { since, asked, answered, .. }, ConflictInput::Unasked) => {
                Probing { since, next: now + GAP, asked, answered }
            }
            (Probing { since, next, asked, answered }, ConflictInput::Answered(by))
                if answered < asked =>
            {
                match answered + 1 {
                    BELIEVED => Confirmed { by, since: now },
                    answered => Probing { since, next, asked, answered },
                }
            }

            (state, _) => state,
        }
    }

    /// When the next question is to be asked, if one is.
    pub fn ask_at(self) -> Option<Instant> {
        match self {
            ConflictState::Suspected { next, .. } => Some(next),
            ConflictState::Probing { next, asked, .. } if asked < ASKED => Some(next),
            _ => None,
        }
    }

    /// When time alone changes something: a question, or the end of the state.
    pub fn due(self) -> Option<Instant> {
        let end = match self {
            ConflictState::NoConflict => return None,
            ConflictState::Suspected { since, .. } | ConflictState::Probing { since, .. } => {
                since + WINDOW
            }
            ConflictState::Confirmed { since, .. } => since + KNOWN_FOR,
        };
        Some(self.ask_at().map_or(end, |ask| ask.min(end)))
    }
}

/// Another host said that it has an address of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// The address.
    pub addr: IpAddr,
    /// Who said so.
    pub by: Mac,
    /// To all neighbours, which believe it; not to this host alone, as an answer to its question.
    pub to_all: bool,
}

/// What is known of conflicting hosts for each address that is watched.
#[derive(Clone, Debug, Default)]
pub struct AddressConflicts {
    states: BTreeMap<IpAddr, ConflictState>,
    /// What was heard since it was last taken, for each address.
    claims: BTreeMap<IpAddr, Claimed>,
}

impl AddressConflicts {
    /// Watches these addresses and no others. What is known of those watched before stays known.
    pub fn watch(&mut self, addrs: impl IntoIterator<Item = IpAddr>) {
        let known = |addr| (addr, self.state(addr).unwrap_or(ConflictState::NoConflict));
        self.states = addrs.into_iter().map(known).collect();
    }

    /// The caller has a reason of its own to ask who else has an address.
    pub fn doubt(&mut self, addr: IpAddr, now: Instant) {
        self.event(addr, ConflictInput::Doubted, now);
    }

    /// Another host claims an address, by what can be an answer to a question or cannot.
    pub fn claimed(&mut self, claim: Claimed, is_answer: bool, now: Instant) {
        let Claimed { addr, by, to_all } = claim;
        if !self.states.contains_key(&addr) {
            return;
        }
        let known = self.claims.entry(addr).or_insert(claim);
        (known.by, known.to_all) = (by, known.to_all | to_all);
        let event =
            if is_answer { ConflictInput::Answered(by) } else { ConflictInput::Announced(by) };
        self.event(addr, event, now);
    }

    /// The addresses for which a question is to be sent now; [`AddressConflicts::asked`] is told
    /// of each.
    pub fn questions(&mut self, now: Instant) -> Vec<IpAddr> {
        for state in self.states.values_mut() {
            *state = state.after(ConflictInput::Time, now);
        }
        let is_due = |state: &ConflictState| state.ask_at().is_some_and(|ask| ask <= now);
        self.states.iter().filter(|(_, state)| is_due(state)).map(|(addr, _)| *addr).collect()
    }

    /// A question was sent, or could not be.
    pub fn asked(&mut self, addr: IpAddr, is_sent: bool, now: Instant) {
        let event = if is_sent { ConflictInput::Asked } else { ConflictInput::Unasked };
        self.event(addr, event, now);
    }

    /// What other hosts claimed since this was last asked, one claim for each address.
    pub fn take_claims(&mut self) -> Vec<Claimed> {
        std::mem::take(&mut self.claims).into_values().collect()
    }

    /// What is known for an address; none: it is not watched.
    pub fn state(&self, addr: IpAddr) -> Option<ConflictState> {
        self.states.get(&addr).copied()
    }

    /// The addresses that another host has been seen to have, with its Ethernet address.
    pub fn confirmed(&self) -> impl Iterator<Item = (IpAddr, Mac)> {
        self.states.iter().filter_map(|(addr, state)| match state {
            ConflictState::Confirmed { by, .. } => Some((*addr, *by)),
            _ => None,
        })
    }

    /// When time alone changes something.
    pub fn due(&self) -> Option<Instant> {
        self.states.values().filter_map(|state| state.due()).min()
    }

    fn event(&mut self, addr: IpAddr, event: ConflictInput, now: Instant) {
        if let Some(state) = self.states.get_mut(&addr) {
            *state = state.after(event, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ConflictInput::{Announced, Answered, Asked, Doubted, Time, Unasked};
    use ConflictState::{Confirmed, NoConflict, Probing, Suspected};

    const ONE: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const TWO: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn every_event_leads_from_every_state_to_one() {
        let start = Instant::now();
        let now = start + ms(400);
        let suspected = |by, since, next| Suspected { by, since, next };
        let probing = |asked, answered, next| Probing { since: start, next, asked, answered };
        let waiting = suspected(Some(ONE), start, start);
        let confirmed = Confirmed { by: ONE, since: start };
        for (before, event, after) in [
            (NoConflict, Announced(ONE), suspected(Some(ONE), now, now)),
            (NoConflict, Answered(ONE), suspected(Some(ONE), now, now)),
            (NoConflict, Doubted, suspected(None, now, now)),
            (NoConflict, Asked, NoConflict),
            (NoConflict, Unasked, NoConflict),
            (NoConflict, Time, NoConflict),
            (waiting, Announced(TWO), waiting),
            (waiting, Answered(TWO), waiting),
            (waiting, Doubted, waiting),
            (waiting, Asked, probing(1, 0, now + GAP)),
            (waiting, Unasked, suspected(Some(ONE), start, now + GAP)),
            (waiting, Time, waiting),
            (probing(1, 0, now), Announced(TWO), probing(1, 0, now)),
            (probing(1, 0, now), Doubted, probing(1, 0, now)),
            (probing(1, 0, now), Asked, probing(2, 0, now + GAP)),
            (probing(1, 0, now), Unasked, probing(1, 0, now + GAP)),
            (probing(1, 0, now), Answered(TWO), probing(1, 1, now)),
            (probing(1, 1, now), Answered(TWO), probing(1, 1, now)),
            (probing(2, 1, now), Answered(TWO), probing(2, 2, now)),
            (probing(3, 2, now), Answered(TWO), Confirmed { by: TWO, since: now }),
            (probing(2, 2, now), Answered(TWO), probing(2, 2, now)),
            (probing(6, 2, now), Time, probing(6, 2, now)),
            (confirmed, Announced(TWO), confirmed),
            (confirmed, Answered(TWO), confirmed),
            (confirmed, Doubted, confirmed),
            (confirmed, Asked, confirmed),
            (confirmed, Unasked, confirmed),
            (confirmed, Time, confirmed),
        ] {
            assert_eq!(before.after(event, now), after, "{before:?}, {event:?}");
        }
        // Each state ends.
        for (state, time) in
            [(waiting, WINDOW), (probing(6, 2, now), WINDOW), (confirmed, KNOWN_FOR)]
        {
            assert_eq!(state.after(Time, start + time - ms(1)), state);
            assert_eq!(state.after(Time, start + time), NoConflict);
        }
    }

    /// Plays one suspicion to its end, with what comes at which time; how many questions it took.
    fn play(events: &[(u64, ConflictInput)]) -> (ConflictState, u8) {
        let start = Instant::now();
        let mut state = NoConflict.after(Announced(ONE), start);
        let (mut questions, mut events) = (0, events.iter().peekable());
        for at in 0..1100 {
            let now = start + ms(at);
            while let Some((_, event)) = events.next_if(|(when, _)| *when <= at) {
                state = state.after(*event, now);
            }
            state = state.after(Time, now);
            if state.ask_at().is_some_and(|ask| ask <= now) {
                state = state.after(Asked, now);
                questions += 1;
            }
        }
        (state, questions)
    }

    #[test]
    fn an_announcement_that_no_host_stands_for_is_forgotten() {
        assert_eq!(play(&[]), (NoConflict, 6));
    }

    #[test]
    fn a_forged_packet_or_two_are_not_believed() {
        assert_eq!(play(&[(200, Answered(ONE))]), (NoConflict, 6));
        assert_eq!(play(&[(200, Answered(ONE)), (700, Answered(ONE))]), (NoConflict, 6));
        // Nor a burst: it answers one question.
        assert_eq!(play(&[(10, Answered(ONE)); 50]), (NoConflict, 6));
        assert_eq!(play(&[(10, Announced(ONE)); 50]), (NoConflict, 6));
    }

    #[test]
    fn three_answers_are_believed_though_some_are_lost_or_late() {
        let confirmed = |events: &[(u64, ConflictInput)]| match play(events) {
            (Confirmed { by, .. }, questions) => (by, questions),
            (other, _) => panic!("{events:?}: {other:?}"),
        };
        let answers =
            |times: &[u64]| times.iter().map(|at| (*at, Answered(TWO))).collect::<Vec<_>>();
        assert_eq!(confirmed(&answers(&[1, 151, 301])), (TWO, 3));
        assert_eq!(confirmed(&answers(&[1, 451, 751])), (TWO, 6));
        assert_eq!(confirmed(&answers(&[400, 550, 700])), (TWO, 5));
        // Too late for this suspicion, but reason enough for another.
        let late = play(&answers(&[1, 151, 1001])).0;
        assert!(matches!(late, Probing { answered: 0, .. }), "{late:?}");
    }

    #[test]
    fn something_is_due_as_long_as_something_is_open() {
        let now = Instant::now();
        assert_eq!(NoConflict.due(), None);
        let suspected = NoConflict.after(Announced(ONE), now);
        assert_eq!(suspected.due(), Some(now));
        assert_eq!(suspected.after(Asked, now).due(), Some(now + GAP));
        let last = Probing { since: now, next: now, asked: ASKED, answered: 0 };
        assert_eq!(last.due(), Some(now + WINDOW));
        assert_eq!(Confirmed { by: ONE, since: now }.due(), Some(now + KNOWN_FOR));
    }

    const CVIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10));

    fn claim(by: Mac, to_all: bool) -> Claimed {
        Claimed { addr: CVIP, by, to_all }
    }

    #[test]
    fn three_questions_that_another_host_answers_confirm_it_for_that_address_alone() {
        let mut now = Instant::now();
        let other = IpAddr::from([192, 0, 2, 11]);
        let mut conflicts = AddressConflicts::default();
        conflicts.watch([CVIP, other]);
        assert!(conflicts.questions(now).is_empty() && conflicts.due().is_none());
        conflicts.claimed(claim(ONE, true), false, now);
        for _ in 0..3 {
            assert_eq!(conflicts.confirmed().next(), None);
            assert_eq!(conflicts.questions(now), [CVIP]);
            conflicts.asked(CVIP, true, now);
            assert!(conflicts.questions(now).is_empty(), "one at a time");
            conflicts.claimed(claim(ONE, false), true, now);
            now = conflicts.due().unwrap();
        }
        assert_eq!(conflicts.confirmed().collect::<Vec<_>>(), [(CVIP, ONE)]);
        assert_eq!(conflicts.state(other), Some(NoConflict));
        assert!(conflicts.questions(now).is_empty(), "it is forgotten");
        assert_eq!(conflicts.confirmed().next(), None);
    }

    #[test]
    fn a_question_that_could_not_be_sent_is_sent_again_later() {
        let now = Instant::now();
        let mut conflicts = AddressConflicts::default();
        conflicts.watch([CVIP]);
        conflicts.doubt(CVIP, now);
        assert_eq!(conflicts.questions(now), [CVIP]);
        conflicts.asked(CVIP, false, now);
        assert!(conflicts.questions(now).is_empty());
        assert_eq!(conflicts.questions(now + GAP), [CVIP]);
    }

    #[test]
    fn claims_are_taken_once_with_the_last_host_and_whether_any_was_to_all() {
        let now = Instant::now();
        let mut conflicts = AddressConflicts::default();
        conflicts.claimed(claim(ONE, true), false, now);
        assert!(conflicts.take_claims().is_empty(), "it is not watched");
        conflicts.watch([CVIP]);
        conflicts.claimed(claim(ONE, true), false, now);
        conflicts.claimed(claim(TWO, false), true, now);
        assert_eq!(conflicts.take_claims(), [claim(TWO, true)]);
        assert!(conflicts.take_claims().is_empty());
    }

    #[test]
    fn what_is_known_of_an_address_stays_known_while_it_is_watched() {
        let now = Instant::now();
        let mut conflicts = AddressConflicts::default();
        conflicts.watch([CVIP]);
        conflicts.doubt(CVIP, now);
        let known = conflicts.state(CVIP);
        conflicts.watch([CVIP, IpAddr::from([192, 0, 2, 11])]);
        assert_eq!(conflicts.state(CVIP), known);
        conflicts.watch([]);
        assert_eq!(conflicts.state(CVIP), None);
        conflicts.watch([CVIP]);
        assert_eq!(conflicts.state(CVIP), Some(NoConflict));
    }
}
