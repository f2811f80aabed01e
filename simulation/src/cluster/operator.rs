//! What faults and operators do to a world, and how they end.

use std::sync::Arc;
use std::time::Duration;

use cvip::conf::Conf;
use cvip::cores::{MonitorCommand, MonitorMessage, SupervisorInput, service_id, service_key};
use cvip::ipvs::{Change, Destination, Forwarding, Service, ServiceId};
use cvip::protocol::Protocol;
use cvip::store::{DrainTarget, ServiceKey};
use nix::errno::Errno;

use super::clients::ROUTER;
use super::conf::CVIP;
use super::faults::{Fault, TableEdit};
use super::machine::Machine;
use super::network::LinkQuality;
use super::packet::Place;
use super::world::{SERVERS, StoreAftermath, World};
use crate::kernel::ipvs::IpvsTable;
use crate::kernel::network::NetworkRequest;
use crate::store::FileFault;
use crate::time::SimTime;

/// How long `cvipctl leave` lets connections go on.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// A director that is asked to take over claims for so long (`ASKED_FOR` of the election), and its claim is answered
/// within a second.
const ASKED_FOR: Duration = Duration::from_secs(11);

/// What of a fault comes later than its beginning.
#[derive(Clone, Debug)]
pub enum Later {
    /// The fault ends.
    End(Fault),
    /// One socket of a flap closes or opens.
    Toggle {
        /// On which node.
        node: u32,
        /// On which TCP port.
        port: u16,
        /// It opens; otherwise it closes.
        opens: bool,
    },
    /// A machine reads another configuration.
    Conf {
        /// Which machine.
        node: u32,
        /// The configuration's index.
        layout: usize,
    },
}

/// Lets a fault begin. Gives what follows later, and after how long.
pub fn begin(world: &mut World, fault: &Fault) -> Vec<(Duration, Later)> {
    let now = world.now;
    let mut later = vec![(fault.length(), Later::End(fault.clone()))];
    match fault {
        Fault::Kill { node } | Fault::Crash { node, .. } => {
            world.end_process(*node);
            if let Fault::Crash { .. } = fault {
                world.power_off(*node);
            }
        }
        Fault::Terminate { node, .. } => {
            let machine = world.machine(*node);
            machine.is_ending = machine.process.is_some();
            world.tell(*node, SupervisorInput::Terminate);
        }
        Fault::Stop { node, for_ms } => {
            let until = now + Duration::from_millis(*for_ms);
            let machine = world.machine(*node);
            machine.stopped_until = machine.stopped_until.max(until);
        }
        Fault::Pause { node, for_ms, clock_stands } => {
            let until = now + Duration::from_millis(*for_ms);
            let machine = world.machine(*node);
            if *clock_stands && machine.paused_until <= now {
                machine.lag += Duration::from_millis(*for_ms);
            }
            machine.paused_until = machine.paused_until.max(until);
        }
        Fault::Busy { node, late_ms, .. } => {
            let late = Duration::from_millis(*late_ms);
            if let Some(process) = &mut world.machine(*node).process {
                process.post.late = late;
            }
        }
        Fault::Wall { node, by_s } => world.machine(*node).host.wall_offset += by_s,
        Fault::Cut { from, to, .. } => world.network.cut(Place::Node(*from), Place::Node(*to)),
        Fault::Partition { nodes, .. } => partition(world, nodes, true),
        Fault::Unplug { node, .. } => {
            world.network.unplug(Place::Node(*node));
            set_carrier(world, *node, false);
        }
        Fault::BadNetwork { loss_percent, delay_ms, .. } => {
            world.network.degrade_all(LinkQuality {
                loss: loss_percent * 10_000,
                doubled: 20_000,
                delay: LinkQuality::GOOD.delay,
                jitter: Duration::from_millis(*delay_ms),
            });
        }
        Fault::HeartbeatsLost { node } => world.network.lose_heartbeats(Place::Node(*node)),
        Fault::AnnouncementsLost { .. } => world.network.misses_announcements = true,
        Fault::ActiveCrash { away_ms } => {
            return match world.carriers()[..] {
                [node] => begin(world, &Fault::Crash { node, away_ms: *away_ms }),
                _ => Vec::new(),
            };
        }
        Fault::NoStore { node, .. } => no_store(world, *node, true),
        Fault::ServerPause { server, .. } => world.store.pause(*server, now),
        Fault::ServerStop { server, .. } => stop_server(world, *server),
        Fault::StoreAway { .. } => {
            (0..SERVERS).for_each(|server| stop_server(world, server));
        }
        Fault::NewLeader => world.store.new_leader(now),
        Fault::Compact => world.store.compact(),
        Fault::StoreRestored { back_ms } => {
            world.restore_store(Duration::from_millis(*back_ms));
        }
        Fault::StoreEmptied => {
            world.has_lost_terms = true;
            world.with_store(|store, now| StoreAftermath {
                closed: store.empty(now),
                ..StoreAftermath::default()
            });
        }
        Fault::StoreFull { .. } => world.store.set_full(true),
        Fault::FilesFull { node, for_ms } => {
            files_refuse(world, *node, *for_ms, FileFault::Full, Errno::ENOSPC);
        }
        Fault::FilesReadOnly { node, for_ms } => {
            files_refuse(world, *node, *for_ms, FileFault::ReadOnly, Errno::EROFS);
        }
        Fault::FilesTorn { node, file, kept_percent } => {
            world.machine(*node).tear(*file, *kept_percent);
        }
        Fault::TableRefused { node, for_ms } => {
            let (machine, until) = until(world, *node, *for_ms);
            machine.host.kernel.ipvs().refuse(None, Errno::ENOMEM, until);
        }
        Fault::AddressRefused { node, for_ms } => {
            let (machine, until) = until(world, *node, *for_ms);
            machine.host.kernel.network.refuse(NetworkRequest::Put, Errno::ENOBUFS, until);
        }
        Fault::EventsLost { node, for_ms } => {
            let (machine, until) = until(world, *node, *for_ms);
            machine.host.kernel.sockets.lose_events(until);
        }
        Fault::ServerDown { node, port, .. } => listen(world, *node, *port, false),
        Fault::Flap { node, port, times, every_ms } => {
            for time in 0..*times * 2 {
                let after = Duration::from_millis(every_ms * u64::from(time) / 2);
                let opens = time % 2 == 1;
                later.push((after, Later::Toggle { node: *node, port: *port, opens }));
            }
        }
        Fault::Hang { node, port, .. } => hang(world, *node, *port, true),
        Fault::Flush { node } => {
            let host = &mut world.machine(*node).host;
            host.foreign.clear();
            hand(host.kernel.ipvs(), &Change::Flush);
        }
        Fault::EditTable { node, what } => edit(world, *node, *what),
        Fault::ForeignService { node, port } => {
            let service = ServiceKey { cvip: CVIP, protocol: Protocol::Tcp, port: *port };
            let host = &mut world.machine(*node).host;
            let id = service_id(service);
            hand(host.kernel.ipvs(), &Change::AddService(Service::new(id, "rr")));
            host.foreign.insert(service);
        }
        Fault::RemoveAddress { node } => {
            let now = world.now;
            let machine = world.machine(*node);
            let clock = machine.clock(now);
            machine.host.kernel.network.remove_by_hand("eth0", CVIP, clock);
        }
        Fault::SetSysctl { node } => {
            let path = "net/ipv4/conf/all/arp_ignore";
            world.machine(*node).host.kernel.network.write_by_hand(path, "0");
        }
        Fault::Flag { node, port, weight } => world.flag(*node, *port, *weight),
        Fault::Drain { node, .. } => {
            let target = DrainTarget { node: *node, port: None };
            world.order_drain(target, true);
        }
        Fault::TakeOver { node } => {
            let machine = world.machine(*node);
            if machine.process.is_some() {
                machine.asked_until = machine.clock(now) + ASKED_FOR;
            }
            world.tell_monitor(*node, MonitorMessage::Told(MonitorCommand::TakeOver));
        }
        Fault::Leave { node, .. } => world.tell(*node, SupervisorInput::Leave(LEAVE_WITHIN)),
        Fault::Reload { layout, order, every_ms } => {
            for (index, node) in order.iter().enumerate() {
                let after = Duration::from_millis(every_ms * index as u64);
                later.push((after, Later::Conf { node: *node, layout: *layout }));
            }
        }
        Fault::BrokenConf { node, .. } => {
            world.machine(*node).host.files.conf = None;
            world.tell(*node, SupervisorInput::Reload);
        }
    }
    world.touch_all();
    later
}

/// Lets what comes later come.
pub fn continue_with(world: &mut World, later: &Later, confs: &[Arc<Conf>], layout: usize) {
    match later {
        Later::End(fault) => end(world, fault, confs, layout),
        Later::Toggle { node, port, opens } => listen(world, *node, *port, *opens),
        // Of two changes that overlap, the later one holds on every machine.
        Later::Conf { layout: other, .. } if *other != layout => {}
        Later::Conf { node, .. } => {
            world.machine(*node).host.files.conf = Some(Arc::clone(&confs[layout]));
            world.tell(*node, SupervisorInput::Reload);
        }
    }
    world.touch_all();
}

fn end(world: &mut World, fault: &Fault, confs: &[Arc<Conf>], layout: usize) {
    match fault {
        Fault::Kill { node } | Fault::Terminate { node, .. } => {
            world.start(*node, Duration::ZERO);
        }
        Fault::Leave { node, away_ms: None } => {
            // The store could not be told, so that it has not left: an operator starts it again.
            let machine = world.machine(*node);
            if machine.process.is_none() && !machine.has_left {
                world.start(*node, Duration::ZERO);
            }
        }
        Fault::Leave { node, away_ms: Some(_) } => {
            world.machine(*node).has_left = false;
            world.start(*node, Duration::ZERO);
        }
        Fault::Crash { node, .. } => world.power_on(*node),
        Fault::Busy { node, .. } => {
            if let Some(process) = &mut world.machine(*node).process {
                process.post.late = Duration::ZERO;
            }
        }
        Fault::Cut { from, to, .. } => world.network.mend(Place::Node(*from), Place::Node(*to)),
        Fault::Partition { nodes, .. } => partition(world, nodes, false),
        Fault::Unplug { node, .. } => {
            world.network.plug(Place::Node(*node));
            set_carrier(world, *node, true);
        }
        Fault::BadNetwork { .. } => world.network.mend_quality(),
        Fault::AnnouncementsLost { .. } => world.network.misses_announcements = false,
        Fault::NoStore { node, .. } => no_store(world, *node, false),
        Fault::ServerPause { server, .. } => world.with_store(|store, now| StoreAftermath {
            answers: store.resume(*server, now),
            ..StoreAftermath::default()
        }),
        Fault::ServerStop { server, .. } => start_server(world, *server),
        Fault::StoreAway { .. } => {
            (0..SERVERS).for_each(|server| start_server(world, server));
        }
        Fault::StoreFull { .. } => world.store.set_full(false),
        Fault::FilesFull { node, .. } | Fault::FilesReadOnly { node, .. } => {
            let machine = world.machine(*node);
            machine.host.files.fault = None;
            machine.store_files_mut().set_fault(None);
        }
        Fault::ServerDown { node, port, .. } | Fault::Flap { node, port, .. } => {
            listen(world, *node, *port, true);
        }
        Fault::Hang { node, port, .. } => hang(world, *node, *port, false),
        Fault::Drain { node, .. } => {
            let target = DrainTarget { node: *node, port: None };
            world.order_drain(target, false);
        }
        Fault::BrokenConf { node, .. } => {
            world.machine(*node).host.files.conf = Some(Arc::clone(&confs[layout]));
            world.tell(*node, SupervisorInput::Reload);
        }
        _ => {}
    }
}

fn stop_server(world: &mut World, server: usize) {
    world.with_store(|store, now| StoreAftermath {
        closed: store.stop(server, now).into_iter().map(|client| (server, client)).collect(),
        ..StoreAftermath::default()
    });
}

fn start_server(world: &mut World, server: usize) {
    world.with_store(|store, now| StoreAftermath {
        answers: store.start(server, now),
        ..StoreAftermath::default()
    });
}

fn partition(world: &mut World, nodes: &[u32], cut: bool) {
    let all: Vec<u32> = world.machines.keys().copied().collect();
    for node in nodes {
        for other in all.iter().filter(|other| !nodes.contains(other)) {
            let (a, b) = (Place::Node(*node), Place::Node(*other));
            for (from, to) in [(a, b), (b, a)] {
                match cut {
                    true => world.network.cut(from, to),
                    false => world.network.mend(from, to),
                }
            }
        }
        no_store(world, *node, cut);
        for (from, to) in [(ROUTER, Place::Node(*node)), (Place::Node(*node), ROUTER)] {
            match cut {
                true => world.network.cut(from, to),
                false => world.network.mend(from, to),
            }
        }
    }
}

fn no_store(world: &mut World, node: u32, cut: bool) {
    for server in 0..SERVERS {
        let (a, b) = (Place::Node(node), Place::Server(server));
        for (from, to) in [(a, b), (b, a)] {
            match cut {
                true => world.network.cut(from, to),
                false => world.network.mend(from, to),
            }
        }
    }
}

/// A server opens or closes its socket.
pub fn listen(world: &mut World, node: u32, port: u16, opens: bool) {
    let now = world.now;
    let machine = world.machine(node);
    if !machine.is_up {
        return;
    }
    let clock = machine.clock(now);
    machine.host.listen(port, opens, clock);
}

fn hang(world: &mut World, node: u32, port: u16, hangs: bool) {
    let host = &mut world.machine(node).host;
    if let Some(cookie) = host.servers.get(&port).copied() {
        host.kernel.sockets.set_hung(cookie, hangs);
    }
}

/// A hand changes the first of cvipd's services that has something to change.
fn edit(world: &mut World, node: u32, what: TableEdit) {
    let host = &mut world.machine(node).host;
    let is_own = |id: ServiceId| service_key(id).is_some_and(|key| !host.foreign.contains(&key));
    let ipvs = host.kernel.ipvs();
    let found = ipvs.services().find(|(service, _)| is_own(service.id));
    let Some((service, destinations)) = found else { return };
    let (service, first) = (service.clone(), destinations.values().next().copied());
    let change = match (what, first) {
        (TableEdit::Weight, Some(first)) => {
            Change::EditDestination(service.id, Destination { weight: 0, ..first })
        }
        (TableEdit::Delete, Some(first)) => Change::DeleteDestination(service.id, first.id),
        (TableEdit::Add, _) => {
            let port = service_key(service.id).map_or(0, |key| key.port);
            let addr = [10, 0, 0, 99].into();
            let destination = Destination::new(addr, port, Forwarding::Route, 1);
            Change::AddDestination(service.id, destination)
        }
        (TableEdit::Scheduler, _) => {
            Change::EditService(Service { scheduler: "rr".to_owned(), ..service })
        }
        (TableEdit::Service, _) => Change::DeleteService(service.id),
        (_, None) => return,
    };
    hand(ipvs, &change);
}

/// What a hand's change is refused for is no fault of cvipd's.
fn hand(ipvs: &mut IpvsTable, change: &Change) {
    let _ = ipvs.change(change);
}

/// Nothing can be written below a machine's run folder, for a while.
fn files_refuse(world: &mut World, node: u32, for_ms: u64, fault: FileFault, errno: Errno) {
    let (machine, until) = until(world, node, for_ms);
    machine.host.files.fault = Some(fault);
    machine.store_files_mut().set_fault(Some(fault));
    machine.host.kernel.network.refuse(NetworkRequest::Save, errno, until);
}

fn set_carrier(world: &mut World, node: u32, has_carrier: bool) {
    let now = world.now;
    let machine = world.machine(node);
    let clock = machine.clock(now);
    machine.host.kernel.network.set_carrier("eth0", has_carrier, clock);
}

/// A machine, and its own time after so many milliseconds.
fn until(world: &mut World, node: u32, for_ms: u64) -> (&mut Machine, SimTime) {
    let now = world.now;
    let machine = world.machine(node);
    // The kernel that a machine boots later has another clock, and none of the faults before it.
    let until = match machine.is_up {
        true => machine.clock(now) + Duration::from_millis(for_ms),
        false => SimTime(0),
    };
    (machine, until)
}
