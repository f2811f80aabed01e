//! A kernel's table in memory: what IPVS answers, as far as the recorded cases ask.
//!
//! It stands in for the kernel where there is none, and makes no claim beyond the cases: the
//! same ones run against a real kernel in `ipvsadm_kernel.rs`.

use std::cell::RefCell;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use cvip::ipvs::{
    Change, DaemonRole, Destination, DestinationEntry, Family, Info, Service, ServiceEntry,
    ServiceId, Stats, SyncDaemon, Timeouts,
};
use cvip::ipvsadm::table::{Table, TableError};

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const ESRCH: i32 = 3;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ERANGE: i32 = 34;
const ENETUNREACH: i32 = 101;

const SCHEDULERS: &[&str] = &[
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "none",
];

/// What stands in the table; a handle, so that it outlives one call.
#[derive(Clone, Debug)]
pub(crate) struct Memory(pub(crate) Rc<RefCell<State>>);

/// What it holds.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) services: Vec<(ServiceEntry, Vec<DestinationEntry>)>,
    pub(crate) timeouts: Timeouts,
    pub(crate) daemons: Vec<SyncDaemon>,
    pub(crate) connections: String,
    /// `/proc/net/ip_vs_status`, where the kernel has it.
    pub(crate) status: Option<String>,
    /// `/proc/sys/net/ipv4/vs/expire_nodest_conn`, where the kernel has it.
    pub(crate) expire_nodest_conn: Option<bool>,
    /// How many times changes were applied: a restore is to need few.
    pub(crate) batches: usize,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory(Rc::new(RefCell::new(State {
            services: Vec::new(),
            timeouts: Timeouts { tcp: 900, tcp_fin: 120, udp: 300 },
            daemons: Vec::new(),
            connections: String::new(),
            status: None,
            expire_nodest_conn: None,
            batches: 0,
        })))
    }
}

impl State {
    fn find(&mut self, id: &ServiceId) -> Option<&mut (ServiceEntry, Vec<DestinationEntry>)> {
        self.services.iter_mut().find(|(entry, _)| entry.service.id == *id)
    }

    fn change(&mut self, change: &Change) -> Result<(), i32> {
        match change {
            Change::AddService(service) => {
                if self.find(&service.id).is_some() {
                    return Err(EEXIST);
                }
                check_service(service)?;
                let entry = ServiceEntry { service: service.clone(), stats: Stats::default() };
                self.services.push((entry, Vec::new()));
            }
            Change::EditService(service) => {
                let (entry, _) = self.find(&service.id).ok_or(ESRCH)?;
                check_service(service)?;
                entry.service = service.clone();
            }
            Change::DeleteService(id) => {
                self.find(id).ok_or(ESRCH)?;
                self.services.retain(|(entry, _)| entry.service.id != *id);
            }
            Change::AddDestination(id, destination) => {
                let (_, destinations) = self.find(id).ok_or(ESRCH)?;
                check_thresholds(destination)?;
                if destinations.iter().any(|entry| entry.destination.id == destination.id) {
                    return Err(EEXIST);
                }
                check_unicast(destination.id.addr)?;
                let entry = DestinationEntry {
                    destination: *destination,
                    active: 0,
                    inactive: 0,
                    persistent: 0,
                    stats: Stats::default(),
                };
                // The kernel's list grows at its head.
                destinations.insert(0, entry);
            }
            Change::EditDestination(id, destination) => {
                let (_, destinations) = self.find(id).ok_or(ESRCH)?;
                check_thresholds(destination)?;
                let entry = destinations
                    .iter_mut()
                    .find(|entry| entry.destination.id == destination.id)
                    .ok_or(ENOENT)?;
                entry.destination = *destination;
            }
            Change::DeleteDestination(id, destination) => {
                let (_, destinations) = self.find(id).ok_or(ESRCH)?;
                let before = destinations.len();
                destinations.retain(|entry| entry.destination.id != *destination);
                if destinations.len() == before {
                    return Err(ENOENT);
                }
            }
            Change::Zero(None) => {}
            Change::Zero(Some(id)) => {
                self.find(id).ok_or(ESRCH)?;
            }
            Change::Flush => self.services.clear(),
            Change::SetTimeouts(new) => {
                let keep = |new: u32, old: u32| if new == 0 { old } else { new };
                self.timeouts = Timeouts {
                    tcp: keep(new.tcp, self.timeouts.tcp),
                    tcp_fin: keep(new.tcp_fin, self.timeouts.tcp_fin),
                    udp: keep(new.udp, self.timeouts.udp),
                };
            }
            Change::StartDaemon(daemon) => self.start(daemon)?,
            Change::StopDaemon(role, _) => {
                let before = self.daemons.len();
                self.daemons.retain(|daemon| daemon.role != *role);
                if self.daemons.len() == before {
                    return Err(ESRCH);
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, daemon: &SyncDaemon) -> Result<(), i32> {
        if self.daemons.iter().any(|running| running.role == daemon.role) {
            return Err(EEXIST);
        }
        if daemon.interface != "lo" {
            return Err(ENODEV);
        }
        let master = daemon.role == DaemonRole::Master;
        if master && daemon.group.is_some_and(|group| group.is_ipv6()) {
            return Err(ENETUNREACH);
        }
        let mut daemon = daemon.clone();
        daemon.max_len.get_or_insert(if master { 1472 } else { 65_507 });
        daemon.group.get_or_insert(Ipv4Addr::new(224, 0, 0, 81).into());
        daemon.port.get_or_insert(8848);
        daemon.ttl.get_or_insert(1);
        self.daemons.push(daemon);
        Ok(())
    }
}

fn check_service(service: &Service) -> Result<(), i32> {
    let known = SCHEDULERS.contains(&service.scheduler.as_str());
    let engine = service.pe.as_deref().is_none_or(|pe| pe == "sip");
    if !known || !engine {
        return Err(ENOENT);
    }
    if service.id.family() == Family::V6 && !(1..=128).contains(&service.netmask) {
        return Err(EINVAL);
    }
    Ok(())
}

fn check_thresholds(destination: &Destination) -> Result<(), i32> {
    if destination.lower > destination.upper { Err(ERANGE) } else { Ok(()) }
}

fn check_unicast(addr: IpAddr) -> Result<(), i32> {
    let broadcast = addr == IpAddr::V4(Ipv4Addr::BROADCAST);
    if addr.is_unspecified() || addr.is_multicast() || broadcast { Err(EINVAL) } else { Ok(()) }
}

impl Table for Memory {
    fn info(&mut self) -> Result<Info, TableError> {
        Ok(Info { version: (1, 2, 1), connection_table_size: 4096 })
    }

    fn services(&mut self) -> Result<Vec<ServiceEntry>, TableError> {
        Ok(self.0.borrow().services.iter().map(|(entry, _)| entry.clone()).collect())
    }

    fn service(&mut self, id: &ServiceId) -> Result<ServiceEntry, TableError> {
        self.0
            .borrow_mut()
            .find(id)
            .map(|(entry, _)| entry.clone())
            .ok_or(TableError::Refused(ESRCH))
    }

    fn destinations(&mut self, id: &ServiceId) -> Result<Vec<DestinationEntry>, TableError> {
        let mut state = self.0.borrow_mut();
        Ok(state.find(id).map(|(_, destinations)| destinations.clone()).unwrap_or_default())
    }

    fn apply(&mut self, changes: &[Change]) -> Result<Vec<(usize, i32)>, TableError> {
        let mut state = self.0.borrow_mut();
        state.batches += 1;
        let refused = changes
            .iter()
            .enumerate()
            .filter_map(|(index, change)| state.change(change).err().map(|errno| (index, errno)));
        Ok(refused.collect())
    }

    fn timeouts(&mut self) -> Result<Timeouts, TableError> {
        Ok(self.0.borrow().timeouts)
    }

    fn daemons(&mut self) -> Result<Vec<SyncDaemon>, TableError> {
        Ok(self.0.borrow().daemons.clone())
    }

    fn connections(&mut self) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(io::Cursor::new(self.0.borrow().connections.clone().into_bytes())))
    }

    fn status(&mut self) -> io::Result<Box<dyn Read>> {
        let status = self.0.borrow().status.clone().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(io::Cursor::new(status.into_bytes())))
    }

    fn setting(&mut self, name: &str) -> io::Result<String> {
        let value = Some(name).filter(|name| *name == "expire_nodest_conn");
        let value = value.and_then(|_| self.0.borrow().expire_nodest_conn);
        value.map(|on| u8::from(on).to_string()).ok_or(io::ErrorKind::NotFound.into())
    }
}

/// What a kernel says to somebody who is not root.
pub(crate) fn not_root() -> Result<Memory, TableError> {
    Err(TableError::Refused(EPERM))
}
