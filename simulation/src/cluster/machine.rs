//! A machine: its kernel, its files, and the cvipd that runs on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cvip::conf::{Conf, Loaded, Sources};
use cvip::cores::Terms;
use cvip::listeners::{Listener, ListenersError, Ranges};
use cvip::protocol::Protocol;
use cvip::store::ServiceKey;

use super::conf::{addr_of, protocol_of};
use super::process::Process;
use crate::kernel::Kernel;
use crate::kernel::sockets::NewListener;
use crate::store::HostFiles;
use crate::time::SimTime;

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

    fn kernel(node: u32) -> Kernel {
        Kernel::new(&[("eth0", addr_of(node), 24)])
    }

    /// Nothing of the kernel, of /run and of the servers is left.
    pub fn power_off(&mut self) {
        (self.is_up, self.has_left) = (false, false);
        self.host.kernel = Machine::kernel(self.node);
        self.host.servers.clear();
        self.host.foreign.clear();
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
}

/// A machine's files.
#[derive(Default)]
pub struct Files {
    /// cvip.conf; none: it has a fault.
    pub conf: Option<Arc<Conf>>,
    /// The file of terms.
    pub terms: Option<Terms>,
    /// The incarnation in the note of who holds the node's lease.
    pub incarnation: Option<u64>,
    /// Nothing can be written.
    pub is_full: bool,
}

impl Files {
    /// Reads cvip.conf.
    pub fn load(&self) -> Loaded {
        Loaded::of_conf(self.conf.as_deref().cloned(), Sources::default())
    }

    /// Notes which incarnation holds the node's lease, if that can be written.
    pub fn write_incarnation(&mut self, incarnation: u64) {
        if !self.is_full {
            self.incarnation = Some(incarnation);
        }
    }

    /// Writes the file of terms; true if it was written.
    pub fn write_terms(&mut self, terms: Terms) -> bool {
        if self.is_full {
            return false;
        }
        self.terms = Some(terms);
        true
    }

    /// Reads the file of terms of a set.
    pub fn read_terms(&self, set: u32) -> Terms {
        let text = self.terms.as_ref().map(Terms::encode).unwrap_or_default();
        Terms::parse(&text, set)
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
