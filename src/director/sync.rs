//! The kernel's connection synchronisation: which daemon a director runs. Pure.
//!
//! The active director sends its connections, a standby receives them into its own table. The
//! kernel runs one daemon of each role at most, whoever started it; ours are known by our sync id
//! and interface. Another's is left alone, and said to be in the way.

use std::fmt;

use crate::conf::{Conf, DirectorSet};
use crate::ipvs::{Change, Daemon, DaemonRole};

/// A director's part in its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// It is the active one.
    pub active: bool,
    /// It is not the active one any more, and still forwards what reaches it.
    pub forwarding: bool,
}

/// The daemon that cvip.conf asks of a director in its part; none for one that is alone, or whose
/// `sync_interface` is not named.
pub fn wish(conf: &Conf, me: u32, part: &Part) -> Option<Wish> {
    let is_shared = |set: &DirectorSet| set.directors.contains(&me) && set.directors.len() > 1;
    let directors = conf.director_sets().into_iter().find(is_shared)?.directors;
    let set = directors.into_iter().min()?;
    let interface = conf.sync_interface(me)?.to_owned();
    Some(Wish { interface, set, active: part.active })
}

/// What a director's daemon should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The interface of the multicast group.
    pub interface: String,
    /// The set's number: directors of one set speak with one another, and with no others.
    pub set: u32,
    /// The director is the active one.
    pub active: bool,
}

/// A daemon of somebody else, where ours should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InTheWay(pub Daemon);

impl fmt::Display for InTheWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Daemon { role, interface, sync_id, .. } = &self.0;
        write!(
            f,
            "connections are not synchronised: a {role} sync daemon that is not cvipd's runs on \
             {interface} with syncid {sync_id} (ipvsadm --stop-daemon {role} ends it)"
        )
    }
}

impl Wish {
    /// The sync id: 8 bits of the set's number (`IP_VS_SYNC_...`: 0 means any).
    pub fn sync_id(&self) -> u32 {
        match self.set & 0xff {
            0 => 0xff,
            id => id,
        }
    }

    fn role(&self) -> DaemonRole {
        if self.active { DaemonRole::Master } else { DaemonRole::Backup }
    }

    fn is_ours(&self, daemon: &Daemon) -> bool {
        daemon.sync_id == self.sync_id() && daemon.interface == self.interface
    }
}

/// The changes that lead from the daemons that run to the one that is wished; none is wished where
/// a director is alone or cvip.conf names no interface. `before` is what this director wished
/// last: its daemon ends if it is wished no longer.
pub fn plan(
    wish: Option<&Wish>,
    before: Option<&Wish>,
    running: &[Daemon],
) -> (Vec<Change>, Option<InTheWay>) {
    let mut changes = Vec::new();
    let mut in_the_way = None;
    if let Some(wish) = wish {
        let start = Change::StartDaemon(Daemon {
            role: wish.role(),
            interface: wish.interface.clone(),
            sync_id: wish.sync_id(),
            max_len: None,
            group: None,
            port: None,
            ttl: None,
        });
        match running.iter().find(|daemon| daemon.role == wish.role()) {
            Some(daemon) if wish.is_ours(daemon) => {}
            Some(daemon) if before.is_some_and(|before| before.is_ours(daemon)) => {
                changes.push(Change::StopDaemon(daemon.role, daemon.sync_id));
                changes.push(start);
            }
            Some(daemon) => in_the_way = Some(InTheWay(daemon.clone())),
            None => changes.push(start),
        }
    }
    let known = [wish, before];
    for daemon in running {
        let ours = known.iter().flatten().any(|known| known.is_ours(daemon));
        let wished = wish.is_some_and(|wish| wish.role() == daemon.role);
        if ours && !wished {
            changes.push(Change::StopDaemon(daemon.role, daemon.sync_id));
        }
    }
    (changes, in_the_way)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(active: bool) -> Wish {
        Wish { interface: "eth1".to_owned(), set: 3, active }
    }

    fn daemon(role: DaemonRole, interface: &str, sync_id: u32) -> Daemon {
        let interface = interface.to_owned();
        Daemon {
            role,
            interface,
            sync_id,
            max_len: Some(1472),
            group: Some([224, 0, 0, 81].into()),
            port: Some(8848),
            ttl: Some(1),
        }
    }

    fn names(changes: &[Change]) -> Vec<String> {
        changes
            .iter()
            .map(|change| match change {
                Change::StartDaemon(d) => format!("start {} {} {}", d.role, d.interface, d.sync_id),
                Change::StopDaemon(role, id) => format!("stop {role} {id}"),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    use DaemonRole::{Backup, Master};

    #[test]
    fn a_director_runs_the_daemon_of_its_part() {
        for (active, running, planned) in [
            (true, vec![], vec!["start master eth1 3"]),
            (false, vec![], vec!["start backup eth1 3"]),
            (true, vec![daemon(Master, "eth1", 3)], vec![]),
            (true, vec![daemon(Backup, "eth1", 3)], vec!["start master eth1 3", "stop backup 3"]),
            (false, vec![daemon(Master, "eth1", 3)], vec!["start backup eth1 3", "stop master 3"]),
        ] {
            let (changes, in_the_way) = plan(Some(&wish(active)), None, &running);
            assert_eq!(names(&changes), planned);
            assert_eq!(in_the_way, None);
        }
    }

    #[test]
    fn what_is_somebody_elses_is_left_alone() {
        let other = daemon(Master, "eth1", 77);
        let (changes, in_the_way) = plan(Some(&wish(true)), None, std::slice::from_ref(&other));
        assert_eq!((changes, in_the_way), (vec![], Some(InTheWay(other.clone()))));
        let (changes, in_the_way) = plan(None, None, &[other]);
        assert_eq!((changes, in_the_way), (vec![], None));
    }

    #[test]
    fn another_interface_or_none_ends_the_old_daemon() {
        let running = [daemon(Backup, "eth1", 3)];
        let new = Wish { interface: "eth2".to_owned(), ..wish(false) };
        let (changes, _) = plan(Some(&new), Some(&wish(false)), &running);
        assert_eq!(names(&changes), ["stop backup 3", "start backup eth2 3"]);
        let (changes, _) = plan(None, Some(&wish(false)), &running);
        assert_eq!(names(&changes), ["stop backup 3"]);
    }

    #[test]
    fn a_sync_id_is_one_byte_and_never_0() {
        for (set, id) in [(3, 3), (255, 255), (256, 255), (257, 1)] {
            assert_eq!(Wish { set, ..wish(true) }.sync_id(), id);
        }
    }
}
