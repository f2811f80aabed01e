//! What was done to addresses and settings, what could not be done, and what would have to be: each a
//! typed value with a sentence.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{DesiredSysctl, NeededOn, NetError, sysctl};
use crate::serial::interned::{self, ProgramText};

/// What came of one application of desired settings.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SettingsReport {
    /// What was changed, in order; empty if all was right already.
    pub done: Vec<Done>,
    /// What could not be made; the rest was.
    pub failures: Vec<SettingFailure>,
    /// The desired addresses that stand now, cvipd's own or not, on interfaces whose neighbours
    /// ask for them: what to [`announce`](super::announce()) after a takeover.
    pub reachable: Vec<Reachable>,
}

impl SettingsReport {
    /// Notes an error, once: a missing link may fail several desired settings.
    pub(super) fn fail(&mut self, error: NetError) {
        let failure = error.into();
        if !self.failures.contains(&failure) {
            self.failures.push(failure);
        }
    }
}

/// An address on an interface that has neighbours.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reachable {
    /// The address.
    pub addr: IpAddr,
    /// Name of the interface.
    pub device: String,
}

/// One change that was made.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Done {
    /// An address was added.
    Added {
        /// The address.
        addr: IpAddr,
        /// Prefix length.
        prefix: u8,
        /// Name of the interface.
        device: String,
    },
    /// An address that cvipd had added was removed.
    Removed {
        /// The address.
        addr: IpAddr,
        /// Prefix length.
        prefix: u8,
        /// Name of the interface.
        device: String,
    },
    /// The local route of an address, without which it receives nothing, was made again.
    Rerouted {
        /// The address.
        addr: IpAddr,
        /// Name of the interface.
        device: String,
    },
    /// A link was made.
    Made(String),
    /// A link that cvipd had made was deleted.
    Deleted(String),
    /// A link was brought up.
    Up(String),
    /// A link that cvipd had brought up was brought down again.
    Down(String),
    /// A setting was changed.
    Set {
        /// Path below `/proc/sys`.
        path: String,
        /// Its new value.
        value: String,
        /// What it was.
        was: String,
    },
    /// A setting that cvipd had changed was given back the value it had before.
    Restored {
        /// Path below `/proc/sys`.
        path: String,
        /// Its new, old value.
        value: String,
    },
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Done::Added { addr, prefix, device } => write!(f, "added {addr}/{prefix} to {device}"),
            Done::Removed { addr, prefix, device } => {
                write!(f, "removed {addr}/{prefix} from {device}")
            }
            Done::Rerouted { addr, device } => {
                write!(f, "made the local route to {addr} on {device} again")
            }
            Done::Made(device) => write!(f, "made {device}"),
            Done::Deleted(device) => write!(f, "deleted {device}"),
            Done::Up(device) => write!(f, "set {device} up"),
            Done::Down(device) => write!(f, "set {device} down"),
            Done::Set { path, value, was } => {
                write!(f, "set {} to {value} (was {was})", sysctl::name(path))
            }
            Done::Restored { path, value } => {
                write!(f, "set {} back to {value}", sysctl::name(path))
            }
        }
    }
}

/// One desired setting that could not be met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingFailure {
    /// Why not.
    pub error: NetError,
    /// What goes wrong without it, where that needs saying.
    #[serde(deserialize_with = "interned::option")]
    pub consequence: Option<ProgramText>,
}

impl SettingFailure {
    /// True for a setting that this kernel is too old to have: worth a notice, and not to be
    /// repeated.
    pub fn is_notice(&self) -> bool {
        matches!(self.error, NetError::NoSetting { outdated: true, .. })
    }

    pub(super) fn of(desired: &DesiredSysctl, error: NetError) -> SettingFailure {
        SettingFailure { error, consequence: Some(desired.why) }
    }
}

impl From<NetError> for SettingFailure {
    fn from(error: NetError) -> SettingFailure {
        SettingFailure { error, consequence: None }
    }
}

impl fmt::Display for SettingFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        self.consequence.map_or(Ok(()), |consequence| write!(f, " ({consequence})"))
    }
}

/// One thing in which the kernel is not as the desired settings say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Difference {
    /// A setting has another value.
    Setting {
        /// Path below `/proc/sys`.
        path: String,
        /// Its value.
        is: String,
        /// What it should be.
        #[serde(deserialize_with = "interned::text")]
        wanted: ProgramText,
        /// What goes wrong without it.
        #[serde(deserialize_with = "interned::text")]
        why: ProgramText,
        /// Which nodes need it.
        needed_on: NeededOn,
    },
    /// A link is down.
    Down(String),
    /// An address is missing.
    Missing {
        /// The address.
        addr: IpAddr,
        /// Prefix length.
        prefix: u8,
        /// Name of the interface that should carry it.
        device: String,
    },
    /// An address is there without its local route: it receives nothing.
    Unreached {
        /// The address.
        addr: IpAddr,
        /// Name of the interface that carries it.
        device: String,
    },
    /// An address stands where neighbours ask for it, and should not.
    Misplaced {
        /// The address.
        addr: IpAddr,
        /// Name of the interface that carries it.
        device: String,
    },
    /// An address that should have a lifetime was configured for ever, by another program.
    Permanent {
        /// The address.
        addr: IpAddr,
        /// Name of the interface that carries it.
        device: String,
    },
    /// A desired setting that cannot be met.
    Unmet(SettingFailure),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Setting { path, is, wanted, why, needed_on } => {
                let setting = sysctl::name(path);
                write!(f, "{setting} is {is} and should be {wanted} on {needed_on}: {why}")
            }
            Difference::Down(device) => write!(f, "{device} is down and should be up"),
            Difference::Missing { addr, prefix, device } => {
                write!(f, "{addr}/{prefix} is missing on {device}")
            }
            Difference::Unreached { addr, device } => {
                write!(f, "{addr} on {device} has no local route, and receives nothing")
            }
            Difference::Misplaced { addr, device } => write!(
                f,
                "{addr} stands on {device}, where this node answers for it and must not: if it is \
                 not cvipd that just gave it up, remove it from the network configuration"
            ),
            Difference::Permanent { addr, device } => write!(
                f,
                "{addr} stands on {device} by other means than cvipd, and would stay there after \
                 a failover: remove it from the network configuration"
            ),
            Difference::Unmet(failure) => failure.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_a_sentence_in_the_words_of_ip_and_sysctl() {
        let addr = "10.0.0.100".parse().unwrap();
        let path = "net/ipv4/vs/expire_nodest_conn".to_owned();
        for (done, sentence) in [
            (Done::Added { addr, prefix: 32, device: "lo".into() }, "added 10.0.0.100/32 to lo"),
            (
                Done::Removed { addr, prefix: 32, device: "lo".into() },
                "removed 10.0.0.100/32 from lo",
            ),
            (
                Done::Rerouted { addr, device: "lo".into() },
                "made the local route to 10.0.0.100 on lo again",
            ),
            (Done::Made("cvip4in6".into()), "made cvip4in6"),
            (Done::Deleted("cvip4in6".into()), "deleted cvip4in6"),
            (Done::Up("tunl0".into()), "set tunl0 up"),
            (Done::Down("tunl0".into()), "set tunl0 down"),
            (
                Done::Set { path: path.clone(), value: "1".into(), was: "0".into() },
                "set net.ipv4.vs.expire_nodest_conn to 1 (was 0)",
            ),
            (
                Done::Restored { path, value: "0".into() },
                "set net.ipv4.vs.expire_nodest_conn back to 0",
            ),
        ] {
            assert_eq!(done.to_string(), sentence);
        }
    }

    #[test]
    fn a_kernel_that_is_too_old_for_a_setting_is_a_notice_and_one_without_ipvs_is_not() {
        let failure = |outdated| SettingFailure {
            error: NetError::NoSetting { setting: "a.b".into(), hint: ": hint", outdated },
            consequence: Some("without it, x"),
        };
        assert!(failure(true).is_notice());
        assert!(!failure(false).is_notice());
        assert_eq!(
            failure(true).to_string(),
            "no setting a.b in this kernel: hint (without it, x)"
        );
    }
}
