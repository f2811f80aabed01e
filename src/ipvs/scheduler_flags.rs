//! The words for a scheduler's flags: one table, for readers and writers.
//!
//! Two of Linux's schedulers read flags (`IP_VS_SVC_F_SCHED_SH_*` and `_MH_*`, linux/ip_vs.h)
//! and have words of their own for them; by number any scheduler can be given any.

use super::types::service_flags::{SCHED1, SCHED2, SCHED3};

/// A word for a flag that a service's scheduler reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerFlag {
    /// The word, as ipvsadm(8) has it.
    pub word: &'static str,
    /// The flag: one of `SCHED1` to `SCHED3` of [`super::service_flags`].
    pub bit: u32,
    /// The scheduler that the word belongs to; none: any.
    pub scheduler: Option<&'static str>,
}

const fn flag(word: &'static str, bit: u32, scheduler: Option<&'static str>) -> SchedulerFlag {
    SchedulerFlag { word, bit, scheduler }
}

impl SchedulerFlag {
    /// Every word, a scheduler's own before those for any.
    pub const ALL: [SchedulerFlag; 7] = [
        flag("sh-fallback", SCHED1, Some("sh")),
        flag("sh-port", SCHED2, Some("sh")),
        flag("mh-fallback", SCHED1, Some("mh")),
        flag("mh-port", SCHED2, Some("mh")),
        flag("flag-1", SCHED1, None),
        flag("flag-2", SCHED2, None),
        flag("flag-3", SCHED3, None),
    ];

    /// The flag that a word stands for.
    pub fn named(word: &str) -> Option<SchedulerFlag> {
        SchedulerFlag::ALL.into_iter().find(|flag| flag.word == word)
    }

    /// True if a scheduler can be given this word.
    pub fn fits(&self, scheduler: &str) -> bool {
        self.scheduler.is_none_or(|of| of == scheduler)
    }

    /// The words for those of a service's flags that its scheduler reads: its own where it has
    /// some, in the order of the flags.
    pub fn words(scheduler: &str, flags: u32) -> Vec<&'static str> {
        let known = |bit| {
            SchedulerFlag::ALL.iter().find(move |flag| flag.bit == bit && flag.fits(scheduler))
        };
        let set = [SCHED1, SCHED2, SCHED3].into_iter().filter(|bit| flags & bit != 0);
        set.filter_map(known).map(|flag| flag.word).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedulers_own_words_come_before_numbers_and_every_word_is_read_back() {
        let words = |scheduler| SchedulerFlag::words(scheduler, u32::MAX);
        assert_eq!(words("sh"), ["sh-fallback", "sh-port", "flag-3"]);
        assert_eq!(words("mh"), ["mh-fallback", "mh-port", "flag-3"]);
        assert_eq!(words("wlc"), ["flag-1", "flag-2", "flag-3"]);
        assert!(SchedulerFlag::words("sh", !(SCHED1 | SCHED2 | SCHED3)).is_empty());
        for flag in SchedulerFlag::ALL {
            assert_eq!(SchedulerFlag::named(flag.word), Some(flag));
            let scheduler = flag.scheduler.unwrap_or("wlc");
            assert_eq!(SchedulerFlag::words(scheduler, flag.bit), [flag.word]);
        }
        assert_eq!(SchedulerFlag::named("sh-prot"), None);
    }
}
