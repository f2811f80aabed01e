//! A machine: its kernel, its files, and the cvipd that runs on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cvip::conf::{Conf, Loaded, Sources};
use cvip::cores::{Terms, Value, service_key};
use cvip::listeners::{Listener, ListenersError, Ranges};
use cvip::protocol::Protocol;
use cvip::store::{Key, Scope, ServiceKey};

use super::conf::{addr_of, protocol_of};
use super::faults::RunFile;
use super::process::Process;
use crate::kernel::Kernel;
use crate::kernel::sockets::NewListener;
use crate::store::{FileFault, HostFiles};
use crate::time::SimTime;

/// The wall clock of a machine that boots is so many seconds before that of its last boot: without a store that
/// remembers, no start gets the incarnation of an earlier one.
const EARLIER_S: i64 = 100;

/// A machine.
pub struct Machine {
    /// Node number.
    pub node: u32,
    /// What is outside of its cvipd.
    pub host: Surroundings,
    /// Its cvipd, if it runs.
    pub process: Option<Process>,
    /// Which start of it this is: what was scheduled for an earlier one is void.
    pub epoch: u64,
    /// It is on.
    pub is_up: bool,
    /// The whole machine stands still until then.
    pub paused_until: SimTime,
    /// Its cvipd alone stands still until then.
    pub stopped_until: SimTime,
    /// Its monotonic clock is behind the simulation's by so much: it stood still in a pause.
    pub lag: Duration,
    /// Its cvipd is started again once it has ended.
    pub starts_again: bool,
    /// Its cvipd was told to end, and has not ended.
    pub is_ending: bool,
    /// An operator wants its director to be active, until then by its own clock: that may come to be all the time.
    pub asked_until: SimTime,
    /// It has left the cluster by `cvipctl leave`.
    pub has_left: bool,
    /// What of the store stands in its own folder, while no process has it.
    pub store_files: HostFiles,
    /// The time of the next event that is scheduled for it.
    pub scheduled: SimTime,
}

impl Machine {
    /// A machine that was just booted, with its servers, without a cvipd.
    pub fn new(node: u32, conf: Arc<Conf>, has_socket_events: bool) -> Machine {
        let host = Surroundings {
            kernel: Machine::kernel(node),
            files: Files { conf: Some(conf), ..Files::default() },
            has_socket_events,
            wall_offset: 0,
            servers: BTreeMap::new(),
            foreign: BTreeSet::new(),
            disowned: BTreeSet::new(),
            has_disowned_settings: false,
        };
        Machine {
            node,
            host,
            process: None,
            epoch: 0,
            is_up: true,
            paused_until: SimTime(0),
            stopped_until: SimTime(0),
            lag: Duration::ZERO,
            starts_again: false,
            is_ending: false,
            asked_until: SimTime(0),
            has_left: false,
            store_files: HostFiles::new(),
            scheduled: SimTime::NEVER,
        }
    }

    /// What of the store stands in its own folder.
    pub fn store_files(&self) -> &HostFiles {
        self.process.as_ref().map_or(&self.store_files, |process| process.client.files())
    }

    /// The same, to be changed by another program.
    pub fn store_files_mut(&mut self) -> &mut HostFiles {
        match &mut self.process {
            Some(process) => process.client.files_mut(),
            None => &mut self.store_files,
        }
    }

    /// A file of the run folder is cut short: so much of it is left.
    pub fn tear(&mut self, file: RunFile, kept_percent: u32) {
        let (node, runs) = (self.node, self.process.is_some());
        let key = match file {
            RunFile::Terms => {
                if let Some(text) = &mut self.host.files.terms {
                    text.truncate(text.len() * kept_percent as usize / 100);
                }
                return;
            }
            RunFile::Lease => {
                self.host.files.incarnation = None;
                // What a cvipd that runs has written it knows.
                if !runs {
                    self.store_files.tear_lease();
                }
                return;
            }
            RunFile::Settings => {
                self.host.has_disowned_settings |= self.host.kernel.network.damage_record();
                return;
            }
            RunFile::Flags => Key::Flags(Scope::Node(node)),
            RunFile::Owned => Key::Owned(node),
        };
        let is_torn = self.store_files_mut().tear(key, kept_percent);
        if is_torn && file == RunFile::Owned {
            let services = self.host.kernel.table().services();
            let keys = services.filter_map(|(service, _)| service_key(service.id));
            self.host.disowned.extend(keys.filter(|key| !self.host.foreign.contains(key)));
        }
    }

    /// What is gone by now, or recorded as cvipd's own again, is none of those that cvipd does not know.
    pub fn forget_disowned(&mut self) {
        let services = self.host.kernel.table().services();
        let stand: BTreeSet<ServiceKey> =
            services.filter_map(|(service, _)| service_key(service.id)).collect();
        let owned = match self.store_files().read(Key::Owned(self.node)) {
            Ok(Some(Value::Owned(owned))) => owned.clone(),
            _ => BTreeSet::new(),
        };
        self.host.disowned.retain(|service| stand.contains(service) && !owned.contains(service));
    }

    fn kernel(node: u32) -> Kernel {
        Kernel::new(&[("eth0", addr_of(node), 24)])
    }

    /// Nothing of the kernel, of /run and of the servers is left.
    pub fn power_off(&mut self) {
        (self.is_up, self.has_left) = (false, false);
        self.host.kernel = Machine::kernel(self.node);
        self.host.servers.clear();
        self.host.foreign.clear();
        self.host.disowned.clear();
        self.host.has_disowned_settings = false;
        // It boots with a clock of before its last boot, and with another one each time.
        self.host.wall_offset -= EARLIER_S;
        (self.host.files.terms, self.host.files.incarnation) = (None, None);
        self.starts_again = false;
        self.store_files = HostFiles::new();
        (self.paused_until, self.stopped_until) = (SimTime(0), SimTime(0));
    }

    /// The machine's own time.
    pub fn clock(&self, now: SimTime) -> SimTime {
        SimTime(now.0.saturating_sub(u64::try_from(self.lag.as_micros()).unwrap_or(u64::MAX)))
    }

    /// The simulation's time of one of the machine's own.
    pub fn simulated(&self, own: SimTime) -> SimTime {
        match own {
            SimTime::NEVER => own,
            own => own + self.lag,
        }
    }

    /// It runs, and is not paused.
    pub fn is_running(&self, now: SimTime) -> bool {
        self.is_up && self.paused_until <= now
    }
}

/// What a process finds on its machine.
pub struct Surroundings {
    /// The kernel.
    pub kernel: Kernel,
    /// The files.
    pub files: Files,
    /// The kernel tells of sockets.
    pub has_socket_events: bool,
    /// The wall clock is off by so many seconds.
    pub wall_offset: i64,
    /// Its servers' sockets, by port.
    pub servers: BTreeMap<u16, u64>,
    /// Services that a hand added, with their destinations.
    pub foreign: BTreeSet<ServiceKey>,
    /// Services that cvipd made, and does not know any more as its own: the file that says so was torn.
    pub disowned: BTreeSet<ServiceKey>,
    /// The same of addresses and settings.
    pub has_disowned_settings: bool,
}

/// A machine's files.
#[derive(Default)]
pub struct Files {
    /// cvip.conf; none: it has a fault.
    pub conf: Option<Arc<Conf>>,
    /// The text of the file of terms.
    pub terms: Option<String>,
    /// The incarnation in the note of who holds the node's lease.
    pub incarnation: Option<u64>,
    /// Why nothing can be written, if that is so.
    pub fault: Option<FileFault>,
}

impl Files {
    /// Reads cvip.conf.
    pub fn load(&self) -> Loaded {
        Loaded::of_conf(self.conf.as_deref().cloned(), Sources::default())
    }

    /// Notes which incarnation holds the node's lease, if that can be written.
    pub fn write_incarnation(&mut self, incarnation: u64) {
        if self.fault.is_none() {
            self.incarnation = Some(incarnation);
        }
    }

    /// Writes the file of terms; true if it was written.
    pub fn write_terms(&mut self, terms: &Terms) -> bool {
        if self.fault.is_some() {
            return false;
        }
        self.terms = Some(terms.encode());
        true
    }

    /// Removes the file of terms, unless the file system is mounted to be read alone.
    pub fn remove_terms(&mut self) {
        if self.fault != Some(FileFault::ReadOnly) {
            self.terms = None;
        }
    }

    /// Reads the file of terms of a set.
    pub fn read_terms(&self, set: u32) -> Terms {
        Terms::parse(self.terms.as_deref().unwrap_or_default(), set)
    }
}

impl Surroundings {
    /// Every listener on these ports.
    ///
    /// # Errors
    /// The kernel is armed to list none.
    pub fn dump_all(
        &mut self,
        ranges: &Ranges,
        now: SimTime,
    ) -> Result<Vec<Listener>, ListenersError> {
        let mut found = Vec::new();
        for protocol in Protocol::ALL {
            found.extend(self.kernel.sockets.dump(protocol, ranges, now)?);
        }
        found.sort_unstable();
        Ok(found)
    }

    /// A server opens or closes its socket.
    pub fn listen(&mut self, port: u16, opens: bool, now: SimTime) {
        match (self.servers.get(&port).copied(), opens) {
            (None, true) => {
                let protocol = protocol_of(port);
                let backlog = if protocol == Protocol::Tcp { 4 } else { 0 };
                let addr = [0, 0, 0, 0].into();
                let socket = NewListener { protocol, addr, port, uid: 0, backlog };
                self.servers.insert(port, self.kernel.sockets.listen(socket, now));
            }
            (Some(cookie), false) => {
                self.servers.remove(&port);
                self.kernel.sockets.close(cookie, now);
            }
            _ => {}
        }
    }

    /// A server listens on a port.
    pub fn is_listening(&self, port: u16) -> bool {
        self.servers.contains_key(&port)
    }

    /// Seconds since 1970, by the machine's clock.
    pub fn unix_time(&self, now: SimTime) -> u64 {
        const BEGINNING: i64 = 1_800_000_000;
        let seconds = i64::try_from(now.0 / 1_000_000).unwrap_or(i64::MAX);
        u64::try_from(BEGINNING + seconds + self.wall_offset).unwrap_or(0)
    }
}
