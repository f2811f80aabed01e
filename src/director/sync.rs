//! The kernel's connection synchronisation: which daemon a director runs. Pure.
//!
//! The active director sends its connections, a standby receives them into its own table. The
//! kernel runs one daemon of each role at most; cvipd's are known by their sync id and interface.
//! Another program's is left alone, and reported to be in the way. A standby has a table only
//! while the kernel shows that it leaves it alone ([`Synchroniser::passive`]).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::DirectorEvent;
use crate::clock::Instant;
use crate::conf::{Conf, DirectorSet};
use crate::ipvs::{Change, DaemonRole, SyncDaemon};

/// A director's role in its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRole {
    /// It is the active one.
    pub active: bool,
    /// It is not the active one any more, and still forwards what reaches it.
    pub forwarding: bool,
}

/// The daemon that cvip.conf asks of a director in its role; none for one that is alone, or whose
/// `sync_interface` is not named.
pub fn desired(conf: &Conf, me: u32, role: &SyncRole) -> Option<DesiredDaemon> {
    let is_shared = |set: &DirectorSet| set.directors.contains(&me) && set.directors.len() > 1;
    let directors = conf.director_sets().into_iter().find(is_shared)?.directors;
    let set = directors.into_iter().min()?;
    let interface = conf.sync_interface(me)?.to_owned();
    Some(DesiredDaemon { interface, set, active: role.active })
}

/// What a director's daemon should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredDaemon {
    /// The interface of the multicast group.
    pub interface: String,
    /// The set's number: directors of one set speak with one another, and with no others.
    pub set: u32,
    /// The director is the active one.
    pub active: bool,
}

/// A daemon of another program, where cvipd's should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InTheWay(pub SyncDaemon);

impl fmt::Display for InTheWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SyncDaemon { role, interface, sync_id, .. } = &self.0;
        write!(
            f,
            "connections are not synchronised: a {role} sync daemon that is not cvipd's runs on \
             {interface} with syncid {sync_id} (ipvsadm --stop-daemon {role} ends it)"
        )
    }
}

impl DesiredDaemon {
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

    fn is_ours(&self, daemon: &SyncDaemon) -> bool {
        daemon.sync_id == self.sync_id() && daemon.interface == self.interface
    }
}

/// The changes that lead from the daemons that run to the one that is desired; none is desired where
/// a director is alone or cvip.conf names no interface. `before` is what this director desired
/// earlier: its daemons end if they are desired no longer.
pub fn plan(
    desired: Option<&DesiredDaemon>,
    before: &[DesiredDaemon],
    running: &[SyncDaemon],
) -> (Vec<Change>, Option<InTheWay>) {
    let mut changes = Vec::new();
    let mut in_the_way = None;
    if let Some(desired) = desired {
        let start = Change::StartDaemon(SyncDaemon {
            role: desired.role(),
            interface: desired.interface.clone(),
            sync_id: desired.sync_id(),
            max_len: None,
            group: None,
            port: None,
            ttl: None,
        });
        match running.iter().find(|daemon| daemon.role == desired.role()) {
            Some(daemon) if desired.is_ours(daemon) => {}
            Some(daemon) if before.iter().any(|before| before.is_ours(daemon)) => {
                changes.push(Change::StopDaemon(daemon.role, daemon.sync_id));
                changes.push(start);
            }
            Some(daemon) => in_the_way = Some(InTheWay(daemon.clone())),
            None => changes.push(start),
        }
    }
    for daemon in running {
        let ours = desired.into_iter().chain(before).any(|known| known.is_ours(daemon));
        let is_desired = desired.is_some_and(|desired| desired.role() == daemon.role);
        if ours && !is_desired {
            changes.push(Change::StopDaemon(daemon.role, daemon.sync_id));
        }
    }
    (changes, in_the_way)
}

/// A daemon that does not run is started again after this, doubled each time.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// It is tried again this often at least.
const RETRY_WITHIN: Duration = Duration::from_secs(15);

/// One that has run for this long has ended by itself, or by hand: it is started again at once.
const STEADY_AFTER: Duration = Duration::from_secs(10);

/// What a director knows of its daemon: what is desired, and what the kernel shows. A daemon runs if
/// the kernel shows it, and not because it was started.
#[derive(Debug, Serialize, Deserialize)]
pub struct Synchroniser {
    role: Option<SyncRole>,
    desired: Option<DesiredDaemon>,
    /// What was desired earlier: those daemons may still run.
    before: Vec<DesiredDaemon>,
    /// Why the desired daemon does not run; none if it does, or none is desired.
    missing: Option<String>,
    /// The kernel leaves the table alone while a daemon receives (`backup_only`,
    /// ipvs-sysctl.rst).
    backup_only: bool,
    /// The kernel has shown the daemon that is desired now.
    ran: bool,
    /// When it was last to be started.
    tried: Option<Instant>,
    retry_after: Duration,
}

/// What `status` shows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncView {
    /// `master` (sends) or `backup` (receives).
    pub role: String,
    /// Its interface.
    pub interface: String,
    /// The number by which the daemons of one set know one another.
    pub sync_id: u32,
    /// Why it does not run; absent if the kernel shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

impl Default for Synchroniser {
    fn default() -> Synchroniser {
        Synchroniser {
            role: None,
            desired: None,
            before: Vec::new(),
            missing: None,
            backup_only: false,
            ran: false,
            tried: None,
            retry_after: RETRY_AFTER,
        }
    }
}

impl Synchroniser {
    /// The director's role, once it has one.
    pub fn role(&self) -> Option<&SyncRole> {
        self.role.as_ref()
    }

    /// Takes a role.
    pub fn take_role(&mut self, role: SyncRole) {
        self.role = Some(role);
    }

    /// True if there is a daemon to look for.
    pub fn has_any(&self) -> bool {
        self.desired.is_some() || !self.before.is_empty()
    }

    /// Takes what is desired by the role and cvip.conf. Another daemon is tried at once.
    pub fn desired(&mut self, desired: Option<DesiredDaemon>) {
        if desired == self.desired {
            return;
        }
        let old = std::mem::replace(&mut self.desired, desired);
        self.before.retain(|before| self.desired.as_ref() != Some(before));
        self.before.extend(old);
        (self.missing, self.ran) = (None, false);
        (self.tried, self.retry_after) = (None, RETRY_AFTER);
    }

    /// The changes to be made now; what was refused is not tried again at once.
    pub fn plan(&mut self, running: &[SyncDaemon], now: Instant) -> Vec<Change> {
        let (changes, _) = plan(self.desired.as_ref(), &self.before, running);
        let waits = self.tried.is_some_and(|tried| now < tried + self.retry_after);
        if changes.is_empty() || waits {
            return Vec::new();
        }
        if self.tried.is_some_and(|tried| now < tried + self.retry_after + STEADY_AFTER) {
            self.retry_after = (self.retry_after * 2).min(RETRY_WITHIN);
        } else {
            self.retry_after = RETRY_AFTER;
        }
        self.tried = Some(now);
        changes
    }

    /// Takes what the kernel shows now; `refused` is its answer to the last changes, if it was asked
    /// for any. Gives what is to be told.
    pub fn show(
        &mut self,
        running: &[SyncDaemon],
        refused: Option<&[String]>,
        backup_only: bool,
    ) -> Option<DirectorEvent> {
        self.backup_only = backup_only;
        let shown = |desired: &DesiredDaemon| running.iter().any(|daemon| desired.is_ours(daemon));
        self.before.retain(|before| shown(before) && self.desired.as_ref() != Some(before));
        let desired = self.desired.as_ref()?;
        let (_, in_the_way) = plan(Some(desired), &self.before, running);
        let mut daemons = running.iter();
        if daemons.any(|daemon| daemon.role == desired.role() && desired.is_ours(daemon)) {
            let restarted = self.ran && refused.is_some();
            self.ran = true;
            let was_missing = self.missing.take().is_some();
            return (was_missing || restarted).then(|| DirectorEvent::SyncRuns {
                role: desired.role().to_string(),
                interface: desired.interface.clone(),
            });
        }
        let before = self.missing.clone();
        let reason = match (in_the_way, refused) {
            (Some(other), _) => other.to_string(),
            (None, Some([first, ..])) => first.clone(),
            (None, _) => match before.clone() {
                Some(before) => before,
                None => "it ended, or was ended by hand".to_owned(),
            },
        };
        self.missing = Some(reason.clone());
        (before.as_ref() != Some(&reason)).then(|| DirectorEvent::SyncMissing {
            role: desired.role().to_string(),
            interface: desired.interface.clone(),
            reason,
        })
    }

    /// Why a standby is to have no table: the kernel would forward by it. None if the kernel leaves it
    /// alone, and for a director that forwards.
    pub fn passive(&self) -> Option<String> {
        self.role.filter(|role| !role.active && !role.forwarding)?;
        let Some(desired) = &self.desired else {
            return Some("cvip.conf gives this director no sync_interface".to_owned());
        };
        if let Some(why) = &self.missing {
            return Some(format!("no backup sync daemon runs on {}: {why}", desired.interface));
        }
        if !self.ran {
            return Some(format!("no backup sync daemon was seen yet on {}", desired.interface));
        }
        (!self.backup_only).then(|| "net.ipv4.vs.backup_only is not 1".to_owned())
    }

    /// The changes that end its daemons.
    pub fn end(&self, running: &[SyncDaemon]) -> Vec<Change> {
        let known: Vec<DesiredDaemon> = self.desired.iter().chain(&self.before).cloned().collect();
        plan(None, &known, running).0
    }

    /// What `status` shows.
    pub fn view(&self) -> Option<SyncView> {
        let desired = self.desired.as_ref()?;
        Some(SyncView {
            role: desired.role().to_string(),
            interface: desired.interface.clone(),
            sync_id: desired.sync_id(),
            missing: self.missing.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired(active: bool) -> DesiredDaemon {
        DesiredDaemon { interface: "eth1".to_owned(), set: 3, active }
    }

    fn daemon(role: DaemonRole, interface: &str, sync_id: u32) -> SyncDaemon {
        let interface = interface.to_owned();
        SyncDaemon {
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
            let (changes, in_the_way) = plan(Some(&desired(active)), &[], &running);
            assert_eq!(names(&changes), planned);
            assert_eq!(in_the_way, None);
        }
    }

    #[test]
    fn the_daemon_of_another_program_is_left_alone() {
        let other = daemon(Master, "eth1", 77);
        let (changes, in_the_way) = plan(Some(&desired(true)), &[], std::slice::from_ref(&other));
        assert_eq!((changes, in_the_way), (vec![], Some(InTheWay(other.clone()))));
        let (changes, in_the_way) = plan(None, &[], &[other]);
        assert_eq!((changes, in_the_way), (vec![], None));
    }

    #[test]
    fn another_interface_or_none_ends_the_old_daemon() {
        let running = [daemon(Backup, "eth1", 3)];
        let new = DesiredDaemon { interface: "eth2".to_owned(), ..desired(false) };
        let (changes, _) = plan(Some(&new), &[desired(false)], &running);
        assert_eq!(names(&changes), ["stop backup 3", "start backup eth2 3"]);
        let (changes, _) = plan(None, &[desired(false)], &running);
        assert_eq!(names(&changes), ["stop backup 3"]);
    }

    const STANDBY: SyncRole = SyncRole { active: false, forwarding: false };

    /// One look at the kernel's daemons: those that are to be started are, unless they are refused.
    fn look(
        sync: &mut Synchroniser,
        running: &mut Vec<SyncDaemon>,
        refuses: bool,
        now: Instant,
    ) -> Option<DirectorEvent> {
        let changes = sync.plan(running, now);
        for change in &changes {
            match change {
                Change::StartDaemon(_) if refuses => {}
                Change::StartDaemon(d) => running.push(d.clone()),
                Change::StopDaemon(role, _) => running.retain(|d| d.role != *role),
                other => panic!("{other:?}"),
            }
        }
        let said = if refuses { vec!["No such device".to_owned()] } else { vec![] };
        sync.show(running, (!changes.is_empty()).then_some(&said[..]), true)
    }

    #[test]
    fn a_standby_is_passive_until_the_kernel_shows_its_daemon_and_again_when_it_does_not() {
        let mut sync = Synchroniser::default();
        let (mut running, start) = (Vec::new(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        assert_eq!(sync.passive(), None, "nothing is known of its role");
        sync.take_role(STANDBY);
        assert!(sync.passive().unwrap().contains("no sync_interface"));
        sync.desired(Some(desired(false)));
        assert!(sync.passive().is_some(), "what was ordered is not done");
        let refused = look(&mut sync, &mut running, true, at(0));
        assert!(matches!(refused, Some(DirectorEvent::SyncMissing { .. })), "{refused:?}");
        assert!(sync.passive().unwrap().contains("No such device"));
        assert_eq!(look(&mut sync, &mut running, true, at(0)), None, "it waits, and says it once");
        let runs = look(&mut sync, &mut running, false, at(4));
        assert!(matches!(runs, Some(DirectorEvent::SyncRuns { .. })), "{runs:?}");
        assert_eq!(sync.passive(), None);
        // Ended by hand: started again at once.
        running.clear();
        let again = look(&mut sync, &mut running, false, at(60));
        assert!(matches!(again, Some(DirectorEvent::SyncRuns { .. })), "{again:?}");
        assert_eq!((sync.passive(), running.len()), (None, 1));
        // And not at full speed.
        let mut starts = 0;
        for second in 61..121 {
            running.clear();
            look(&mut sync, &mut running, false, at(second));
            starts += running.len();
            assert_eq!(sync.passive().is_some(), running.is_empty(), "after {second} s");
        }
        assert!((2..10).contains(&starts), "{starts}");
        // The kernel would forward by the table all the same.
        running = vec![daemon(Backup, "eth1", 3)];
        sync.show(&running, None, false);
        assert!(sync.passive().unwrap().contains("backup_only"));
        sync.show(&running, None, true);
        assert_eq!(sync.passive(), None);
    }

    #[test]
    fn a_daemon_of_another_part_or_of_another_program_leaves_a_standby_passive() {
        let mut sync = Synchroniser::default();
        let now = Instant::now();
        sync.take_role(SyncRole { active: true, forwarding: false });
        sync.desired(Some(desired(true)));
        let mut running = Vec::new();
        look(&mut sync, &mut running, false, now);
        assert_eq!((sync.passive(), running.len()), (None, 1));
        // Demoted: the master is not the backup.
        sync.take_role(SyncRole { active: false, forwarding: true });
        sync.desired(Some(desired(false)));
        assert_eq!(sync.passive(), None, "it forwards");
        sync.take_role(STANDBY);
        assert!(sync.passive().is_some(), "the kernel has not shown the backup yet");
        look(&mut sync, &mut running, false, now);
        assert_eq!((sync.passive(), running[0].role), (None, Backup));
        // Promoted while the backup is still there, and demoted again.
        sync.take_role(SyncRole { active: true, forwarding: false });
        sync.desired(Some(desired(true)));
        assert_eq!(sync.passive(), None);
        sync.take_role(STANDBY);
        sync.desired(Some(desired(false)));
        let other = vec![daemon(Backup, "eth0", 77)];
        sync.show(&other, None, true);
        assert!(sync.passive().unwrap().contains("ipvsadm --stop-daemon backup"));
    }

    #[test]
    fn an_old_daemon_is_remembered_until_the_kernel_shows_it_no_more() {
        let mut sync = Synchroniser::default();
        let now = Instant::now();
        sync.take_role(STANDBY);
        sync.desired(Some(desired(false)));
        let running = vec![daemon(Backup, "eth1", 3)];
        sync.show(&running, None, true);
        sync.desired(None);
        assert_eq!(names(&sync.plan(&running, now)), ["stop backup 3"]);
        sync.show(&running, Some(&["refused".to_owned()]), true);
        let later = now + RETRY_WITHIN;
        assert_eq!(names(&sync.plan(&running, later)), ["stop backup 3"], "it was refused");
        sync.show(&[], Some(&[]), true);
        assert!(!sync.has_any());
    }

    #[test]
    fn a_sync_id_is_one_byte_and_never_0() {
        for (set, id) in [(3, 3), (255, 255), (256, 255), (257, 1)] {
            assert_eq!(DesiredDaemon { set, ..desired(true) }.sync_id(), id);
        }
    }
}
