//! What is done to the real cluster: the simulator's faults, as far as they can be made real, and
//! what administrators and servers do beside them. Pure.

use crate::cluster::conf::{FLAGGED, HTTP, XDMCP};
use crate::cluster::faults::{self, Fault, Ms, Targets};
use crate::random::Random;
use cvip::protocol::Protocol;

/// One thing that is done. What has a length ends by itself; all else stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A fault of the simulator's.
    Fault(Fault),
    /// A server of one family opens its socket, or closes it.
    Listen {
        /// On which node.
        node: u32,
        /// On which port.
        service: (Protocol, u16),
        /// The socket is one for IPv6 alone, otherwise one for IPv4.
        ipv6: bool,
        /// It opens; otherwise it closes.
        opens: bool,
    },
    /// `setport_weight` flags a port of a node, or takes the flag away.
    Flag {
        /// Of which node; none: of all.
        node: Option<u32>,
        /// Which port.
        service: (Protocol, u16),
        /// The weight; none: the flag is taken away.
        weight: Option<u16>,
    },
    /// `cvipctl drain`, or `cvipctl undrain`.
    Drain {
        /// Which node.
        node: u32,
        /// It is drained; otherwise the drain is taken back.
        is_ordered: bool,
    },
}

/// A step, and when it is done: milliseconds from the burst's beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedStep {
    /// When.
    pub at_ms: Ms,
    /// What.
    pub step: Step,
}

/// The ports that cvip.conf names in every layout, and those that are balanced by a flag alone.
pub const BY_CONF: [(Protocol, u16); 2] = [HTTP, XDMCP];
/// See [`BY_CONF`].
pub const BY_FLAG: [(Protocol, u16); 2] = [FLAGGED, (Protocol::Udp, 9177)];
/// The port that some layouts name and others do not.
pub const SOMETIMES: (Protocol, u16) = (Protocol::Tcp, 8081);

/// A burst has so many steps at most.
const STEPS: usize = 6;

/// Most faults end after this: around the time-outs of heartbeats and of the store. One in
/// [`LONG_ONE_IN`] may last longer, up to [`LONG`]: beyond the lifetime of an address and of a lease.
const SHORT: Ms = 2500;
const LONG: Ms = 12_000;
const LONG_ONE_IN: u64 = 10;

/// Why a fault of the simulator's cannot be made real on one kernel with network namespaces; none:
/// it can.
pub fn not_real(fault: &Fault) -> Option<&'static str> {
    Some(match fault {
        Fault::Wall { .. } => "all namespaces have one wall clock",
        Fault::StoreRestored { .. } | Fault::StoreFull { .. } => "it needs etcd's own files",
        Fault::FilesFull { .. } | Fault::FilesReadOnly { .. } => {
            "the run folders share one file system"
        }
        Fault::FilesTorn { .. } => "what a cvipd makes of it depends on when it is cut short",
        Fault::HeartbeatsLost { .. } | Fault::AnnouncementsLost { .. } => {
            "no packet filter of the lab's loses one kind of packet alone"
        }
        Fault::ActiveCrash { .. } => "it is the crash of a director, which is drawn beside it",
        Fault::TableRefused { .. } | Fault::AddressRefused { .. } => "the kernel refuses nothing",
        Fault::EventsLost { .. } => "the kernel loses no event when asked to",
        Fault::Hang { .. } => "a hung server's backlog accepts connections, as a probe sees it",
        _ => return None,
    })
}

/// Draws a burst: the real ones of a schedule of the simulator's within seconds, and other steps
/// between them, one to six in all.
pub fn draw(targets: &Targets, random: &mut Random) -> Vec<TimedStep> {
    let faults = faults::draw(targets, random).into_iter().map(|timed| timed.fault);
    let faults = faults.filter(|fault| not_real(fault).is_none());
    let faults: Vec<Fault> = faults.take(STEPS).collect();
    let mut steps: Vec<Step> =
        faults.into_iter().map(|fault| Step::Fault(shortened(fault, random))).collect();
    let others = random.within(0..=(STEPS - steps.len()) as u64).max(u64::from(steps.is_empty()));
    steps.extend((0..others).map(|_| other(targets, random)));
    let spread = *random.choose(&[300, 1000, 2500]).unwrap_or(&1000);
    let mut steps: Vec<TimedStep> = steps
        .into_iter()
        .map(|step| TimedStep { at_ms: random.within(0..=spread), step })
        .collect();
    steps.sort_by_key(|timed| timed.at_ms);
    steps
}

/// What servers and operators do, and what stays.
fn other(targets: &Targets, random: &mut Random) -> Step {
    let node = *random.choose(&targets.nodes).unwrap_or(&1);
    let all = [BY_CONF[0], BY_CONF[1], BY_FLAG[0], BY_FLAG[1], SOMETIMES];
    let service = *random.choose(&all).unwrap_or(&BY_CONF[0]);
    match random.within(0..10) {
        0..=4 => {
            let (ipv6, opens) = (random.happens(500_000), random.happens(600_000));
            Step::Listen { node, service, ipv6, opens }
        }
        5..=7 => {
            let weight = random.choose(&[None, Some(0), Some(1), Some(2), Some(7)]).copied();
            Step::Flag { node: Some(node), service, weight: weight.flatten() }
        }
        _ => Step::Drain { node, is_ordered: random.happens(400_000) },
    }
}

/// A fault of the simulator's that ends soon.
fn shortened(fault: Fault, random: &mut Random) -> Fault {
    let is_long = random.within(0..LONG_ONE_IN) == 0;
    let ends = if is_long { LONG } else { SHORT };
    let mut fault = match fault {
        // It comes back in the same burst.
        Fault::Leave { node, away_ms: None } => Fault::Leave { node, away_ms: Some(ends) },
        Fault::Flap { node, port, times, every_ms } => {
            Fault::Flap { node, port, times: times.min(8), every_ms: every_ms.min(300) }
        }
        fault => fault,
    };
    fault.shorten(ends);
    fault
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn targets() -> Targets {
        Targets { nodes: (1..=6).collect(), directors: vec![5, 6], servers: 3, layouts: 6 }
    }

    fn steps() -> Vec<Step> {
        let draw = |seed| draw(&targets(), &mut Random::new(seed));
        (0..2000).flat_map(draw).map(|timed| timed.step).collect()
    }

    #[test]
    fn a_seed_draws_the_same_burst_in_the_order_of_its_times() {
        for seed in 0..50 {
            let burst = draw(&targets(), &mut Random::new(seed));
            assert_eq!(burst, draw(&targets(), &mut Random::new(seed)));
            assert!((1..=6).contains(&burst.len()));
            assert!(burst.is_sorted_by_key(|timed| timed.at_ms));
        }
    }

    #[test]
    fn what_cannot_be_made_real_is_not_drawn_and_every_other_fault_is() {
        let word = |fault: &Fault| {
            let json = serde_json::to_value(fault).unwrap();
            json["fault"].as_str().unwrap().to_owned()
        };
        let mut real = BTreeSet::new();
        for step in steps() {
            if let Step::Fault(fault) = step {
                assert_eq!(not_real(&fault), None, "{fault:?}");
                assert!(fault.length().as_millis() <= u128::from(LONG), "{fault:?}");
                real.insert(word(&fault));
            }
        }
        let all = (0..2000).flat_map(|seed| faults::draw(&targets(), &mut Random::new(seed)));
        let all = all.map(|timed| timed.fault);
        let expected = all.filter(|fault| not_real(fault).is_none()).map(|fault| word(&fault));
        assert_eq!(real, expected.collect());
    }

    #[test]
    fn every_kind_of_step_is_drawn_both_ways() {
        let steps = steps();
        let has = |is: fn(&Step) -> bool| assert!(steps.iter().any(is));
        has(|step| matches!(step, Step::Listen { ipv6: true, opens: true, .. }));
        has(|step| matches!(step, Step::Listen { ipv6: false, opens: false, .. }));
        has(|step| matches!(step, Step::Flag { weight: Some(0), .. }));
        has(|step| matches!(step, Step::Flag { weight: None, .. }));
        has(|step| matches!(step, Step::Drain { is_ordered: true, .. }));
        has(|step| matches!(step, Step::Drain { is_ordered: false, .. }));
    }
}
