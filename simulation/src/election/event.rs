//! What happens in a world.

use std::fmt;

/// A fault that lasts until it ends. Directors are named by their place, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Fault {
    /// A director does not reach the store, and knows it.
    StoreUnavailable(u8),
    /// No director does.
    StoreDown,
    /// A director reads old contents of the store, and what it claims is carried out when this
    /// ends: it is told that there was no answer.
    StoreSlow(u8),
    /// What a director claims is carried out, and it is told that there was no answer.
    AnswersLost(u8),
    /// Heartbeats from one do not reach another.
    LinkLost(u8, u8),
    /// They come late: by one step, then by two.
    LinkLate(u8, u8),
    /// A director's machine is cut off from all others and from the store, and suspects its link.
    CutOff(u8),
    /// Another host is proved to answer for the CVIP, as seen from a director that is active.
    Conflict(u8),
    /// A director cannot carry the CVIPs.
    CannotCarry(u8),
    /// The real servers do not answer: no director can vouch for itself.
    NobodyAnswers,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Event {
    /// A step of time: heartbeats come, and the directors read the store and decide, in the order
    /// of this number.
    Step(u8),
    Begins(Fault),
    Ends(Fault),
    /// A director's cvipd is killed and started again.
    Restarts(u8),
    /// Its machine is: what it noted is lost.
    Reboots(u8),
    /// A director's cvipd is killed.
    Dies(u8),
    /// One that is down is started.
    Starts(u8),
    /// A director hands over and stops.
    Stops(u8),
    /// Its monitor is made anew, in the same cvipd.
    IsMadeAnew(u8),
    /// An operator asks it to take over.
    IsAsked(u8),
    /// The store is emptied.
    StoreEmptied,
    /// The store is put back to what it was before the last election.
    StorePutBack,
    /// There is a new cvip.conf with another order, or other directors.
    NewConf,
    /// A director reads it.
    Reloads(u8),
    /// All faults end, all directors run and have read the newest cvip.conf.
    AllIsWell,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |at: u8| u32::from(at) + 1;
        match *self {
            Fault::StoreUnavailable(at) => write!(f, "store unavailable to {}", name(at)),
            Fault::StoreDown => write!(f, "store down"),
            Fault::StoreSlow(at) => write!(f, "store slow to {}", name(at)),
            Fault::AnswersLost(at) => write!(f, "answers of the store to {} lost", name(at)),
            Fault::LinkLost(from, to) => {
                write!(f, "heartbeats from {} to {} lost", name(from), name(to))
            }
            Fault::LinkLate(from, to) => {
                write!(f, "heartbeats from {} to {} late", name(from), name(to))
            }
            Fault::CutOff(at) => write!(f, "{} cut off", name(at)),
            Fault::Conflict(at) => {
                write!(f, "another host answers for the CVIP beside {}", name(at))
            }
            Fault::CannotCarry(at) => write!(f, "{} cannot carry the CVIPs", name(at)),
            Fault::NobodyAnswers => write!(f, "real servers do not answer"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |at: u8| u32::from(at) + 1;
        match *self {
            Event::Step(0) => write!(f, "(time passes)"),
            Event::Step(order) => write!(f, "(time passes; order {order})"),
            Event::Begins(fault) => write!(f, "{fault}"),
            Event::Ends(fault) => write!(f, "no longer: {fault}"),
            Event::Restarts(at) => write!(f, "cvipd of {} is killed and started", name(at)),
            Event::Reboots(at) => write!(f, "machine {} is rebooted", name(at)),
            Event::Dies(at) => write!(f, "cvipd of {} is killed", name(at)),
            Event::Starts(at) => write!(f, "cvipd of {} is started", name(at)),
            Event::Stops(at) => write!(f, "{} hands over and stops", name(at)),
            Event::IsMadeAnew(at) => write!(f, "the monitor of {} is made anew", name(at)),
            Event::IsAsked(at) => write!(f, "{} is asked to take over", name(at)),
            Event::StoreEmptied => write!(f, "the store is emptied"),
            Event::StorePutBack => write!(f, "the store is put back to before the last election"),
            Event::NewConf => write!(f, "there is a new cvip.conf"),
            Event::Reloads(at) => write!(f, "{} reads the new cvip.conf", name(at)),
            Event::AllIsWell => write!(f, "all faults end"),
        }
    }
}
