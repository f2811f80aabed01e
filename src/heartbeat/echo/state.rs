//! Which echo questions are open, and which machines answered. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use super::wire::Token;
use crate::clock::Instant;

/// So many questions to one machine stay open; of more, the oldest is given up.
const OPEN: usize = 8;

/// What was asked of which machine.
#[derive(Debug, Default)]
pub(super) struct EchoAsked {
    targets: BTreeMap<IpAddr, EchoTarget>,
    sequence: u16,
}

#[derive(Debug, Default)]
struct EchoTarget {
    open: VecDeque<OpenEcho>,
    answered: Option<Instant>,
}

/// A question without an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenEcho {
    pub(super) sequence: u16,
    pub(super) token: Token,
    pub(super) at: Instant,
}

impl EchoAsked {
    /// The sequence number of the next question.
    pub(super) fn next_sequence(&mut self) -> u16 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// A question was sent.
    pub(super) fn sent(&mut self, addr: IpAddr, question: OpenEcho) {
        let open = &mut self.targets.entry(addr).or_default().open;
        if open.len() == OPEN {
            open.pop_front();
        }
        open.push_back(question);
    }

    /// Whether this answers an open question; closes it.
    pub(super) fn answered(&mut self, from: IpAddr, sequence: u16, token: Token) -> bool {
        let Some(target) = self.targets.get_mut(&from) else {
            return false;
        };
        let asked = |open: &OpenEcho| open.sequence == sequence && open.token == token;
        let Some(question) = target.open.iter().position(asked) else {
            return false;
        };
        let question = target.open.remove(question).expect("it was just found");
        target.answered = target.answered.max(Some(question.at));
        true
    }
    /// When the newest question that a machine has answered was asked.
    pub(super) fn answered_at(&self, addr: IpAddr) -> Option<Instant> {
        self.targets.get(&addr)?.answered
    }

    /// Forgets a machine, its questions and its answers.
    pub(super) fn forget(&mut self, addr: IpAddr) {
        self.targets.remove(&addr);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const TOKEN: Token = *b"sixteen letters.";

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_answer_counts_once_from_the_machine_that_was_asked_with_what_was_asked() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut asked = EchoAsked::default();
        let (one, other) = (addr("10.0.0.1"), addr("10.0.0.2"));
        asked.sent(one, OpenEcho { sequence: 1, token: TOKEN, at: now });
        asked.sent(one, OpenEcho { sequence: 2, token: [2; 16], at: later });
        asked.sent(other, OpenEcho { sequence: 3, token: [3; 16], at: now });
        assert!(!asked.answered(other, 1, TOKEN), "another machine");
        assert!(!asked.answered(one, 1, [0; 16]), "a guess");
        assert!(!asked.answered(one, 2, TOKEN), "another question's token");
        assert!(!asked.answered(addr("10.0.0.3"), 1, TOKEN), "it was not asked");
        assert_eq!(asked.answered_at(one), None);
        assert!(asked.answered(one, 2, [2; 16]));
        assert!(asked.answered(one, 1, TOKEN), "late, but an answer");
        assert_eq!(asked.answered_at(one), Some(later));
        assert!(!asked.answered(one, 1, TOKEN), "again");
        assert_eq!(asked.answered_at(other), None);
    }

    #[test]
    fn a_machine_that_never_answers_costs_no_more_with_time() {
        let now = Instant::now();
        let mut asked = EchoAsked::default();
        for sequence in 0..1000 {
            asked.sent(addr("10.0.0.1"), OpenEcho { sequence, token: TOKEN, at: now });
        }
        assert_eq!(asked.targets[&addr("10.0.0.1")].open.len(), OPEN);
        assert!(!asked.answered(addr("10.0.0.1"), 0, TOKEN), "given up");
        assert!(asked.answered(addr("10.0.0.1"), 999, TOKEN));
    }
}
