//! Faults and operators' actions, and schedules of them.

// Fields are named by what they are: nodes, ports, milliseconds.
#![allow(missing_docs)]

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::conf::PORTS;
use crate::random::Random;

/// Milliseconds.
pub type Ms = u64;

/// One thing that happens to the cluster. What has a length ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// cvipd is killed, and started again a second later.
    Kill { node: u32 },
    /// cvipd is told to end, and started again after a while.
    Terminate { node: u32, away_ms: Ms },
    /// cvipd stands still.
    Stop { node: u32, for_ms: Ms },
    /// The machine loses its power, and boots again after a while.
    Crash { node: u32, away_ms: Ms },
    /// The whole machine stands still; its clocks do as well, or jump.
    Pause { node: u32, for_ms: Ms, clock_stands: bool },
    /// Threads of cvipd run late, by up to so long.
    Busy { node: u32, late_ms: Ms, for_ms: Ms },
    /// The wall clock is set.
    Wall { node: u32, by_s: i64 },
    /// Packets from one node to the other are lost.
    Cut { from: u32, to: u32, for_ms: Ms },
    /// Some nodes do not reach the others, nor etcd.
    Partition { nodes: Vec<u32>, for_ms: Ms },
    /// The cable is pulled.
    Unplug { node: u32, for_ms: Ms },
    /// Every link loses, delays, reorders and doubles packets.
    BadNetwork { loss_percent: u32, delay_ms: Ms, for_ms: Ms },
    /// A node's heartbeats are lost, and nothing else that it sends. It lasts until no other fault does and, if
    /// the node is no director, until the cluster was right without them.
    HeartbeatsLost { node: u32 },
    /// The router misses announcements.
    AnnouncementsLost { for_ms: Ms },
    /// The director that is active loses its power, and boots again after a while.
    ActiveCrash { away_ms: Ms },
    /// A node does not reach etcd.
    NoStore { node: u32, for_ms: Ms },
    /// One of etcd's servers stands still.
    ServerPause { server: usize, for_ms: Ms },
    /// One of etcd's servers is down.
    ServerStop { server: usize, for_ms: Ms },
    /// All of etcd is down.
    StoreAway { for_ms: Ms },
    /// etcd elects another leader.
    NewLeader,
    /// etcd forgets its history.
    Compact,
    /// etcd is put back to an earlier state.
    StoreRestored { back_ms: Ms },
    /// etcd is emptied.
    StoreEmptied,
    /// etcd takes no writes: it is out of space.
    StoreFull { for_ms: Ms },
    /// The run folder's file system is full.
    FilesFull { node: u32, for_ms: Ms },
    /// The run folder's file system is mounted to be read alone.
    FilesReadOnly { node: u32, for_ms: Ms },
    /// A file of the run folder is cut short: so much of it is left. What stands there is read when cvipd
    /// starts, or at once.
    FilesTorn { node: u32, file: RunFile, kept_percent: u32 },
    /// The kernel refuses changes to the IPVS table.
    TableRefused { node: u32, for_ms: Ms },
    /// The kernel refuses addresses.
    AddressRefused { node: u32, for_ms: Ms },
    /// The kernel tells nothing of sockets.
    EventsLost { node: u32, for_ms: Ms },
    /// A server stops listening, and listens again after a while.
    ServerDown { node: u32, port: u16, for_ms: Ms },
    /// A server closes and opens its socket so many times, at this pace.
    Flap { node: u32, port: u16, times: u32, every_ms: Ms },
    /// A server accepts no connection.
    Hang { node: u32, port: u16, for_ms: Ms },
    /// A hand empties the IPVS table.
    Flush { node: u32 },
    /// A hand changes the IPVS table: sets a weight, deletes a destination.
    EditTable { node: u32, what: TableEdit },
    /// A hand adds a service that is not cvipd's.
    ForeignService { node: u32, port: u16 },
    /// A hand removes the CVIP from its interface.
    RemoveAddress { node: u32 },
    /// A hand sets a sysctl to something else.
    SetSysctl { node: u32 },
    /// An operator flags a port on one node or, if none is named, on all; with no weight, the flag is
    /// removed.
    Flag { node: Option<u32>, port: u16, weight: Option<u16> },
    /// An operator drains a node, and takes that back after a while.
    Drain { node: u32, for_ms: Ms },
    /// An operator wants this director to be active.
    TakeOver { node: u32 },
    /// A node leaves for good, and its cvipd is started again after a while or, if none is named, once
    /// all is right without it.
    Leave { node: u32, away_ms: Option<Ms> },
    /// cvip.conf changes on one machine after the other, in this order, and is read again.
    Reload { layout: usize, order: Vec<u32>, every_ms: Ms },
    /// cvip.conf has a fault on one machine, and is mended after a while; it is read both times.
    BrokenConf { node: u32, for_ms: Ms },
}

/// A change of the IPVS table by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableEdit {
    /// One destination gets weight 0.
    Weight,
    /// One destination is deleted.
    Delete,
    /// One destination is added that is no real server.
    Add,
    /// One service gets another scheduler.
    Scheduler,
    /// One service is deleted.
    Service,
}

/// A file of the run folder that cvipd reads back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunFile {
    /// The terms of a director.
    Terms,
    /// Which start of cvipd holds the node's lease.
    Lease,
    /// The node's own port flags.
    Flags,
    /// The services that cvipd has made in the kernel's table.
    Owned,
    /// The addresses and settings that cvipd has made.
    Settings,
}

/// Every file of the run folder that cvipd reads back.
const RUN_FILES: [RunFile; 5] =
    [RunFile::Terms, RunFile::Lease, RunFile::Flags, RunFile::Owned, RunFile::Settings];

/// A fault, and when it happens: milliseconds from the schedule's beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timed {
    /// When.
    pub at_ms: Ms,
    /// What.
    #[serde(flatten)]
    pub fault: Fault,
}

impl Fault {
    /// How long it lasts.
    pub fn length(&self) -> Duration {
        let ms = match self {
            Fault::Kill { .. } => 1000,
            // It is judged once the node has left.
            Fault::Leave { away_ms: None, .. } => 12_000,
            Fault::Flap { times, every_ms, .. } => u64::from(*times) * every_ms,
            Fault::Reload { order, every_ms, .. } => order.len() as u64 * every_ms,
            other => other.clone().drawn_length().copied().unwrap_or(0),
        };
        Duration::from_millis(ms)
    }

    /// Makes it last for so long at most, if its length is drawn.
    pub fn shorten(&mut self, to_ms: Ms) {
        if let Some(ms) = self.drawn_length() {
            *ms = to_ms.min(*ms);
        }
    }

    fn drawn_length(&mut self) -> Option<&mut Ms> {
        match self {
            Fault::Terminate { away_ms: ms, .. }
            | Fault::Crash { away_ms: ms, .. }
            | Fault::ActiveCrash { away_ms: ms }
            | Fault::Leave { away_ms: Some(ms), .. }
            | Fault::Stop { for_ms: ms, .. }
            | Fault::Pause { for_ms: ms, .. }
            | Fault::Busy { for_ms: ms, .. }
            | Fault::Cut { for_ms: ms, .. }
            | Fault::Partition { for_ms: ms, .. }
            | Fault::Unplug { for_ms: ms, .. }
            | Fault::BadNetwork { for_ms: ms, .. }
            | Fault::NoStore { for_ms: ms, .. }
            | Fault::ServerPause { for_ms: ms, .. }
            | Fault::ServerStop { for_ms: ms, .. }
            | Fault::StoreAway { for_ms: ms }
            | Fault::StoreFull { for_ms: ms }
            | Fault::FilesFull { for_ms: ms, .. }
            | Fault::FilesReadOnly { for_ms: ms, .. }
            | Fault::AnnouncementsLost { for_ms: ms }
            | Fault::TableRefused { for_ms: ms, .. }
            | Fault::AddressRefused { for_ms: ms, .. }
            | Fault::EventsLost { for_ms: ms, .. }
            | Fault::ServerDown { for_ms: ms, .. }
            | Fault::Hang { for_ms: ms, .. }
            | Fault::Drain { for_ms: ms, .. }
            | Fault::BrokenConf { for_ms: ms, .. } => Some(ms),
            _ => None,
        }
    }
}

/// When the last fault of a schedule has ended.
pub fn end(schedule: &[Timed]) -> Duration {
    let ends = schedule.iter().map(|t| Duration::from_millis(t.at_ms) + t.fault.length());
    ends.max().unwrap_or_default()
}

/// Of which nodes a cluster is made: what a schedule draws from.
#[derive(Clone, Debug)]
pub struct Targets {
    /// Every node.
    pub nodes: Vec<u32>,
    /// The directors.
    pub directors: Vec<u32>,
    /// How many servers etcd has.
    pub servers: usize,
    /// How many configurations there are.
    pub layouts: usize,
}

/// Lengths that matter: around time-outs, and far beyond them.
const LENGTHS: [Ms; 12] = [20, 120, 450, 600, 900, 1500, 2500, 4000, 8000, 11_000, 16_000, 30_000];

/// Draws a schedule: a few faults within seconds, often of directors, often overlapping.
pub fn draw(targets: &Targets, random: &mut Random) -> Vec<Timed> {
    let count = 1 + random.within(0..=5);
    // Faults that meet on one node are the ones that nobody thought of together.
    let one_node = random.choose(&targets.nodes).copied().filter(|_| random.happens(350_000));
    let met = one_node.map(|node| Targets {
        nodes: vec![node],
        directors: targets.directors.iter().copied().filter(|of| *of == node).collect(),
        ..targets.clone()
    });
    let targets = &Met { all: targets, met: met.as_ref().unwrap_or(targets) };
    let spread = *random.choose(&[500, 3000, 12_000, 25_000]).unwrap_or(&3000);
    let mut schedule: Vec<Timed> = (0..count)
        .map(|_| Timed { at_ms: random.within(0..=spread), fault: one(targets, random) })
        .collect();
    if random.happens(300_000) {
        match random.within(0..6) {
            0 => {
                return vec![Timed {
                    at_ms: 0,
                    fault: Fault::ActiveCrash { away_ms: long(random) },
                }];
            }
            1 => schedule.extend(unheard_server(targets.all, random)),
            2 => schedule.extend(early_clock(targets.all, random)),
            3 => schedule.extend(new_store(targets.all, random)),
            4 => schedule.push(other_directors(targets.all, random)),
            _ => schedule.extend(unheard_takeover(targets.all, random)),
        }
    }
    schedule.sort_by_key(|timed| timed.at_ms);
    schedule
}

// Faults that matter together alone, and would seldom meet.

/// A length beyond the time after which a director is taken for lost.
fn long(random: &mut Random) -> Ms {
    random.within(4000..=16_000)
}

/// A server stops and listens again, and what the node's heartbeats say of the latter is lost.
fn unheard_server(all: &Targets, random: &mut Random) -> Vec<Timed> {
    let node = *random.choose(&all.nodes).unwrap_or(&1);
    let port = *random.choose(&PORTS).unwrap_or(&80);
    let (at_ms, for_ms) = (random.within(0..=3000), random.within(300..=4000));
    let lost = at_ms + random.within(50..=for_ms);
    vec![
        Timed { at_ms, fault: Fault::ServerDown { node, port, for_ms } },
        Timed { at_ms: lost, fault: Fault::HeartbeatsLost { node } },
    ]
}

/// A machine without a clock of its own boots, with the time of an earlier day, and reaches etcd later.
fn early_clock(all: &Targets, random: &mut Random) -> Vec<Timed> {
    let node = *random.choose(&all.nodes).unwrap_or(&1);
    let (at_ms, away_ms) = (random.within(0..=1000), random.within(2000..=4000));
    let by_s = -(random.within(1..=100_000) as i64);
    let for_ms = away_ms + random.within(3000..=30_000);
    vec![
        Timed { at_ms, fault: Fault::Crash { node, away_ms } },
        Timed { at_ms, fault: Fault::NoStore { node, for_ms } },
        Timed { at_ms: at_ms + 1, fault: Fault::Wall { node, by_s } },
    ]
}

/// etcd is down and comes back empty, and cvipds of directors are started again meanwhile.
fn new_store(all: &Targets, random: &mut Random) -> Vec<Timed> {
    let (at_ms, for_ms) = (random.within(0..=2000), random.within(3000..=16_000));
    let mut schedule = vec![
        Timed { at_ms, fault: Fault::StoreAway { for_ms } },
        Timed { at_ms: at_ms + 500, fault: Fault::StoreEmptied },
    ];
    for node in all.directors.iter().copied() {
        if random.happens(600_000) {
            let at_ms = at_ms + random.within(0..=for_ms / 2);
            schedule.push(Timed { at_ms, fault: Fault::Kill { node } });
        }
    }
    schedule
}

/// cvip.conf strikes the first director on every machine, or names it again.
fn other_directors(all: &Targets, random: &mut Random) -> Timed {
    let layout = random.within(0..all.layouts.min(2) as u64) as usize;
    let order = shuffled(&all.nodes, random);
    let fault = Fault::Reload { layout, order, every_ms: random.within(0..=700) };
    Timed { at_ms: random.within(0..=3000), fault }
}

fn shuffled(nodes: &[u32], random: &mut Random) -> Vec<u32> {
    let mut order = nodes.to_vec();
    for index in (1..order.len()).rev() {
        order.swap(index, random.within(0..=index as u64) as usize);
    }
    order
}

/// A director takes over, and the router misses its first announcements.
fn unheard_takeover(all: &Targets, random: &mut Random) -> Vec<Timed> {
    let node = *random.choose(&all.directors).unwrap_or(&1);
    let at_ms = random.within(0..=3000);
    // Of those that follow, the last one within the bound of invariant 19 comes 6.5 s after the first.
    let for_ms = random.within(300..=4500);
    vec![
        Timed { at_ms, fault: Fault::AnnouncementsLost { for_ms } },
        Timed { at_ms: at_ms + 100, fault: Fault::TakeOver { node } },
    ]
}

/// Whom faults hit.
struct Met<'a> {
    /// Every node.
    all: &'a Targets,
    /// Those that this burst is about.
    met: &'a Targets,
}

fn one(Met { all, met }: &Met<'_>, random: &mut Random) -> Fault {
    let length = |random: &mut Random| {
        let about = *random.choose(&LENGTHS).unwrap_or(&600);
        about + random.within(0..=about / 2)
    };
    // Directors are where most can go wrong.
    let of = match random.happens(600_000) {
        true if !met.directors.is_empty() => &met.directors,
        _ => &met.nodes,
    };
    let node = *random.choose(of).unwrap_or(&1);
    let port = *random.choose(&PORTS).unwrap_or(&80);
    let server = random.within(0..all.servers as u64) as usize;
    let for_ms = length(random);
    match random.within(0..49) {
        0 | 1 => Fault::Kill { node },
        2 => Fault::Terminate { node, away_ms: for_ms },
        3 | 4 => Fault::Stop { node, for_ms },
        5 | 6 => Fault::Crash { node, away_ms: for_ms.max(2000) },
        7 | 8 => Fault::Pause { node, for_ms, clock_stands: random.happens(500_000) },
        9 => Fault::Busy { node, late_ms: random.within(5..=400), for_ms },
        10 => Fault::Wall { node, by_s: random.within(0..=200_000) as i64 - 100_000 },
        11..=13 => {
            let to = *random.choose(&all.directors).unwrap_or(&1);
            Fault::Cut { from: node, to, for_ms }
        }
        14 | 15 => {
            let some: Vec<u32> =
                all.nodes.iter().copied().filter(|_| random.happens(300_000)).collect();
            let nodes = if some.is_empty() { vec![node] } else { some };
            Fault::Partition { nodes, for_ms }
        }
        16 | 17 => Fault::Unplug { node, for_ms },
        18 => Fault::BadNetwork {
            loss_percent: random.within(0..=30) as u32,
            delay_ms: random.within(0..=250),
            for_ms,
        },
        19 | 20 => Fault::NoStore { node, for_ms },
        21 => Fault::ServerPause { server, for_ms },
        22 => Fault::ServerStop { server, for_ms },
        23 | 24 => Fault::StoreAway { for_ms },
        25 => Fault::NewLeader,
        26 => Fault::Compact,
        27 => Fault::StoreRestored { back_ms: length(random) },
        28 => Fault::StoreEmptied,
        29 => Fault::StoreFull { for_ms },
        30 => Fault::FilesFull { node, for_ms },
        31 => Fault::TableRefused { node, for_ms },
        32 => Fault::AddressRefused { node, for_ms },
        33 => Fault::EventsLost { node, for_ms },
        34 => Fault::ServerDown { node, port, for_ms },
        35 => Fault::Flap {
            node,
            port,
            times: random.within(2..=12) as u32,
            every_ms: random.within(2..=900),
        },
        36 => Fault::Hang { node, port: 80, for_ms },
        37 => match random.within(0..3) {
            0 => Fault::Flush { node },
            1 => Fault::ForeignService { node, port: random.within(8000..8004) as u16 },
            _ => {
                let edits = [
                    TableEdit::Weight,
                    TableEdit::Delete,
                    TableEdit::Add,
                    TableEdit::Scheduler,
                    TableEdit::Service,
                ];
                let what = *random.choose(&edits).unwrap_or(&TableEdit::Weight);
                Fault::EditTable { node, what }
            }
        },
        38 => Fault::RemoveAddress { node },
        39 => Fault::SetSysctl { node },
        40 => Fault::Drain { node, for_ms: for_ms.max(2000) },
        41 => Fault::TakeOver { node },
        42 => Fault::Leave {
            node,
            away_ms: Some(for_ms.max(4000)).filter(|_| random.happens(500_000)),
        },
        43 | 44 => Fault::Flag {
            node: Some(node).filter(|_| random.happens(500_000)),
            port,
            weight: Some(random.within(1..=4) as u16).filter(|_| random.happens(600_000)),
        },
        45 => Fault::FilesReadOnly { node, for_ms },
        46 => Fault::FilesTorn {
            node,
            file: *random.choose(&RUN_FILES).unwrap_or(&RunFile::Terms),
            kept_percent: *random.choose(&[0, 50, 75, 90, 95, 99]).unwrap_or(&50),
        },
        47 => Fault::HeartbeatsLost { node },
        _ => match random.happens(700_000) {
            true => {
                let order = shuffled(&all.nodes, random);
                let layout = random.within(0..all.layouts as u64) as usize;
                Fault::Reload { layout, order, every_ms: random.within(0..=700) }
            }
            false => Fault::BrokenConf { node, for_ms },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_schedule_and_a_schedule_survives_its_file() {
        let targets =
            Targets { nodes: (1..=8).collect(), directors: vec![1, 2, 3], servers: 3, layouts: 3 };
        for seed in 0..200 {
            let schedule = draw(&targets, &mut Random::new(seed));
            assert_eq!(schedule, draw(&targets, &mut Random::new(seed)));
            let text = serde_json::to_string(&schedule).unwrap();
            assert_eq!(serde_json::from_str::<Vec<Timed>>(&text).unwrap(), schedule);
        }
    }
}
