//! What goes wrong with machines and networks: cables, bridges that lose frames, slow and lossy lines, machines that
//! freeze or lose their power. Each fault ends when its guard is dropped.
//!
//! Frames are dropped and delayed by traffic control (tc(8)): on the bridge's side, so that a member cannot see
//! it, or as the queue of the member's own interface.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::address::Network;
use super::host::Host;
use crate::cabling::set_port;
use crate::namespace::Namespace;

/// Something that is wrong for as long as this lives.
#[must_use = "a fault ends when its guard is dropped"]
#[derive(Debug)]
pub struct Fault {
    undo: Vec<Undo>,
}

/// What ends a fault.
#[derive(Debug)]
enum Undo {
    Link(Arc<Namespace>, String),
    Tc(Arc<Namespace>, String),
    Processes(Vec<Pid>),
}

impl Fault {
    fn new(undo: Undo) -> Fault {
        Fault { undo: vec![undo] }
    }

    /// Several faults that end together.
    pub fn all(faults: impl IntoIterator<Item = Fault>) -> Fault {
        let take = |mut fault: Fault| std::mem::take(&mut fault.undo);
        Fault { undo: faults.into_iter().flat_map(take).collect() }
    }

    /// Ends it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn end(mut self) -> Result<()> {
        std::mem::take(&mut self.undo).iter().try_for_each(Undo::run)
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        for undo in &self.undo {
            // The member may have got a new cable in the meantime.
            let _ = undo.run();
        }
    }
}

impl Undo {
    fn run(&self) -> Result<()> {
        match self {
            Undo::Link(bridge, port) => set_port(bridge, port, true),
            Undo::Tc(namespace, line) => namespace.batch("tc", line),
            Undo::Processes(stopped) => {
                for pid in stopped {
                    // It may have been killed.
                    let _ = kill(*pid, Signal::SIGCONT);
                }
                Ok(())
            }
        }
    }
}

/// Which way frames go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Those that the member sends.
    From,
    /// Those that are for the member.
    To,
    /// All of them.
    Both,
}

impl Direction {
    fn from(self) -> bool {
        self != Direction::To
    }

    fn to(self) -> bool {
        self != Direction::From
    }
}

/// What a bad line does to the frames that it carries; see tc-netem(8).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    /// How many of a hundred are lost.
    pub loss_percent: f32,
    /// How long each takes.
    pub delay: Duration,
    /// How much longer or shorter.
    pub jitter: Duration,
    /// How many of a hundred overtake the others, and take no time. There has to be a delay.
    pub reorder_percent: f32,
}

impl fmt::Display for Impairment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (delay, jitter) = (self.delay.as_micros(), self.jitter.as_micros());
        write!(f, "loss {}% delay {delay}us", self.loss_percent)?;
        if jitter > 0 {
            write!(f, " {jitter}us")?;
        }
        if self.reorder_percent > 0.0 {
            write!(f, " reorder {}%", self.reorder_percent)?;
        }
        Ok(())
    }
}

impl Host {
    /// Pulls a cable out: the interface loses its carrier, and nothing gets in or out.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn unplug(&self, network: Network) -> Result<Fault> {
        self.require(network)?;
        let (bridge, port) = (self.bridge(), self.port(network));
        set_port(bridge, &port, false)?;
        Ok(Fault::new(Undo::Link(Arc::clone(bridge), port)))
    }

    /// Loses every frame, as a switch does whose port is blocked: the interface keeps its carrier, and nobody is told.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn silence(&self, network: Network, direction: Direction) -> Result<Fault> {
        self.require(network)?;
        let mut faults = Vec::new();
        // The bridge receives what the member sends.
        if direction.from() {
            faults.push(self.drop_frames(network, "ingress", "matchall")?);
        }
        if direction.to() {
            faults.push(self.drop_frames(network, "egress", "matchall")?);
        }
        Ok(Fault::all(faults))
    }

    /// Loses every frame between this member and another one, and no others: `From` those that this one sends to it
    /// (broadcasts too), `To` those that come from it. Both keep their carrier.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn part_from(&self, other: &Host, network: Network, direction: Direction) -> Result<Fault> {
        self.require(network)?;
        other.require(network)?;
        let came_from = |host: &Host| format!("flower src_mac {}", host.mac_on(network));
        let mut faults = Vec::new();
        if direction.from() {
            faults.push(other.drop_frames(network, "egress", &came_from(self))?);
        }
        if direction.to() {
            faults.push(self.drop_frames(network, "egress", &came_from(other))?);
        }
        Ok(Fault::all(faults))
    }

    /// Makes the line bad. There can be one such fault for each direction.
    ///
    /// # Errors
    /// If the kernel refuses, or has no netem.
    pub fn impair(
        &self,
        network: Network,
        direction: Direction,
        impairment: Impairment,
    ) -> Result<Fault> {
        self.require(network)?;
        let mut faults = Vec::new();
        let mut queue = |namespace: &Arc<Namespace>, device: &str| -> Result<()> {
            let queue = format!("qdisc add dev {device} root netem limit 10000 {impairment}");
            namespace.batch("tc", &queue)?;
            let undo = format!("qdisc del dev {device} root");
            faults.push(Fault::new(Undo::Tc(Arc::clone(namespace), undo)));
            Ok(())
        };
        // A queue is at the sending end.
        if direction.from() {
            queue(self.namespace(), network.device())?;
        }
        if direction.to() {
            queue(self.bridge(), &self.port(network))?;
        }
        Ok(Fault::all(faults))
    }

    /// Stops every process of this member where it stands (SIGSTOP), as a machine that swaps itself to death does. Its
    /// kernel goes on: it forwards, and it answers ARP and pings. Sockets of this very process, and threads of it that have
    /// entered the member, are not concerned.
    ///
    /// # Errors
    /// If a process does not stop.
    pub fn freeze(&self) -> Result<Fault> {
        Ok(Fault::new(Undo::Processes(self.namespace().stop_all()?)))
    }

    /// Loses every frame of every network, both ways and all at once: cut off from all, and nobody is told.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn isolate(&self) -> Result<Fault> {
        let sides = ["ingress", "egress"];
        let both = |network: &Network| sides.map(|side| (*network, side));
        self.drop_all(self.networks().iter().flat_map(both), "matchall")
    }

    fn drop_frames(&self, network: Network, side: &str, which: &str) -> Result<Fault> {
        self.drop_all([(network, side)], which)
    }

    /// Drops what comes by on these sides of the bridge's ports. A process for each would take its time, and a fault has
    /// one moment.
    fn drop_all<'s>(
        &self,
        sides: impl IntoIterator<Item = (Network, &'s str)>,
        which: &str,
    ) -> Result<Fault> {
        /// A filter is known by its preference, which no other one of its device may have.
        static PREFERENCE: AtomicU16 = AtomicU16::new(1);
        let (mut queues, mut filters, mut undo) = (String::new(), String::new(), String::new());
        for (network, side) in sides {
            let port = self.port(network);
            let preference = PREFERENCE.fetch_add(1, Ordering::Relaxed);
            let filter = format!("dev {port} {side} pref {preference} protocol all");
            // It may have one already, which stays: alone, it does nothing.
            queues += &format!("qdisc replace dev {port} clsact\n");
            filters += &format!("filter add {filter} {which} action drop\n");
            undo += &format!("filter del {filter}\n");
        }
        let bridge = self.bridge();
        bridge.batch("tc", &(queues + &filters))?;
        Ok(Fault::new(Undo::Tc(Arc::clone(bridge), undo)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impairment_is_written_as_tc_reads_it() {
        let bad = Impairment { loss_percent: 20.0, ..Impairment::default() };
        assert_eq!(bad.to_string(), "loss 20% delay 0us");
        let worse = Impairment {
            loss_percent: 0.5,
            delay: Duration::from_millis(200),
            jitter: Duration::from_millis(50),
            reorder_percent: 25.0,
        };
        assert_eq!(worse.to_string(), "loss 0.5% delay 200000us 50000us reorder 25%");
    }
}
