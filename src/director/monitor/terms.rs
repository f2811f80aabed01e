//! In which term this director was active, and which terms it has given up, beyond its end: so that
//! one that is started again while the store is unavailable goes on as what it was, and none takes
//! a term again that it has yielded. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::messages::MonitorOutput;
use super::wire::Terms;

/// The terms, and whether the file says them.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub(super) struct RememberedTerms {
    terms: Terms,
    /// This start has said what is true: until then the file is an earlier one's.
    is_ours: bool,
    /// The file could not be written since.
    is_unsaved: bool,
}

impl RememberedTerms {
    /// Those that the file had when this director was started.
    pub(super) fn new(terms: Terms) -> RememberedTerms {
        RememberedTerms { terms, is_ours: false, is_unsaved: false }
    }

    /// The term of a set in which this director is active, or was when it ended. 0: it is active,
    /// by an election of another set.
    pub(super) fn term(&self, set: u32) -> Option<u64> {
        self.terms.active.map(|(of, term)| if of == set { term } else { 0 })
    }

    /// Notes the term in which it is active, if it is, and the terms that it has given up.
    pub(super) fn note(
        &mut self,
        active: Option<(u32, u64)>,
        given_up: &BTreeMap<u32, u64>,
    ) -> MonitorOutput {
        (self.terms, self.is_ours) = (Terms { active, given_up: given_up.clone() }, true);
        MonitorOutput::WriteTerms(self.terms.clone())
    }

    /// Whether the file was written. Where there is no room to say that this director yielded, at
    /// least nothing says that it did not.
    pub(super) fn written(&mut self, is_written: bool) -> Option<MonitorOutput> {
        self.is_unsaved = !is_written;
        let is_false = self.is_unsaved && self.terms.active.is_none();
        is_false.then_some(MonitorOutput::RemoveTerms)
    }

    /// The file is not there: it was deleted, or never written.
    pub(super) fn missing(&mut self) -> Option<MonitorOutput> {
        self.is_unsaved |= self.is_ours && self.terms != Terms::default();
        self.tend()
    }

    /// Writes again what is not in the file.
    pub(super) fn tend(&self) -> Option<MonitorOutput> {
        self.is_unsaved.then(|| MonitorOutput::WriteTerms(self.terms.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens to the terms.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Active(u64),
        Yielded(u64),
        Written(bool),
        Missing,
        Tended,
    }

    #[test]
    fn what_could_not_be_written_or_was_deleted_is_written_again_until_it_is_there() {
        use MonitorOutput::{RemoveTerms, WriteTerms};
        let active = |term| WriteTerms(Terms { active: Some((1, term)), ..Terms::default() });
        let yielded =
            |term| WriteTerms(Terms { active: None, given_up: BTreeMap::from([(1, term)]) });
        let mut terms = RememberedTerms::new(Terms::parse("active 1 6\n", 1));
        for (n, (step, expected)) in [
            // The file is an earlier start's: nothing is said of it yet.
            (Step::Missing, None),
            (Step::Tended, None),
            (Step::Active(7), Some(active(7))),
            (Step::Written(true), None),
            (Step::Tended, None),
            (Step::Missing, Some(active(7))),
            (Step::Written(true), None),
            // No room: an old file says that it is active in term 7.
            (Step::Active(8), Some(active(8))),
            (Step::Written(false), None),
            (Step::Tended, Some(active(8))),
            (Step::Written(false), None),
            // It must not say that this director is active when it is not.
            (Step::Yielded(8), Some(yielded(8))),
            (Step::Written(false), Some(RemoveTerms)),
            (Step::Missing, Some(yielded(8))),
            (Step::Written(true), None),
            (Step::Tended, None),
        ]
        .into_iter()
        .enumerate()
        {
            let output = match step {
                Step::Active(term) => Some(terms.note(Some((1, term)), &BTreeMap::new())),
                Step::Yielded(term) => Some(terms.note(None, &BTreeMap::from([(1, term)]))),
                Step::Written(is_written) => terms.written(is_written),
                Step::Missing => terms.missing(),
                Step::Tended => terms.tend(),
            };
            assert_eq!(output, expected, "step {n}: {step:?}");
        }
    }

    #[test]
    fn a_term_of_another_set_is_an_election_of_another_set() {
        let terms = RememberedTerms::new(Terms::parse("active 1 7\n", 1));
        assert_eq!((terms.term(1), terms.term(2)), (Some(7), Some(0)));
        assert_eq!(RememberedTerms::new(Terms::default()).term(1), None);
    }
}
