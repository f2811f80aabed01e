//! Sequences of messages, of what others do to a kernel's addresses, and of what comes of it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::*;
use crate::conf::{Cvip, DirectorNode, RealServer, Routing};
use crate::net::{Device, Incapable, SettingFailure};
use crate::recorder::Recorded;
use crate::recorder::testing::Tape;

const MS: Duration = Duration::from_millis(1);

enum Input {
    Nothing,
    /// The node is to play this role.
    Take(AddressRole),
    Yield,
    Elected,
    /// Another host claims an address, and this is the active director beyond doubt.
    Announce,
    /// Another process removes every address.
    Remove,
    /// Another process deletes the local routes of the addresses.
    DeleteRoutes,
    /// The kernel refuses to add addresses, or no longer.
    Refuse(bool),
    Carrier(bool),
    /// The machine does not run for so many milliseconds.
    Freeze(u32),
    Undo,
}

/// A kernel of addresses, and a clock.
struct World {
    state: Recorded<AddressState>,
    tape: Tape,
    start: Instant,
    now: Instant,
    addresses: BTreeSet<(IpAddr, String)>,
    /// Those of them that were made with a lifetime.
    leased: BTreeSet<(IpAddr, String)>,
    unreached: BTreeSet<(IpAddr, String)>,
    refuses: bool,
    has_carrier: bool,
    numbers: u64,
    outputs: Vec<String>,
}

/// A CVIP of as many directors, of which this node is the first.
fn conf(directors: u32) -> Arc<Conf> {
    let director =
        |node| DirectorNode { node, garp_interface: "eth0".to_owned(), sync_interface: None };
    let server =
        |node: u8| RealServer { node: node.into(), addr: [10, 0, 0, node].into(), weight: 1 };
    let cvip = Cvip {
        addr: [10, 0, 0, 100].into(),
        gateway: None,
        directors: (1..=directors).map(director).collect(),
        real_servers: vec![server(1), server(2)],
        services: Vec::new(),
    };
    Arc::new(Conf { routing: Routing::Dr, cvips: vec![cvip] })
}

fn place(desired: &DesiredAddress) -> (IpAddr, String) {
    match &desired.device {
        Device::Name(name) => (desired.addr, name.clone()),
        Device::Connected => unreachable!("there is no gateway"),
    }
}

/// Each world is replayed once it has been played, and decides as it did.
impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.tape.check(&mut self.state);
        }
    }
}

impl World {
    fn new(directors: u32) -> World {
        let now = Instant::now();
        let (recorder, tape) = Tape::new();
        World {
            state: Recorded::new(AddressState::new(1, conf(directors), now), &recorder),
            tape,
            start: now,
            now,
            addresses: BTreeSet::new(),
            leased: BTreeSet::new(),
            unreached: BTreeSet::new(),
            refuses: false,
            has_carrier: true,
            numbers: 0,
            outputs: Vec::new(),
        }
    }

    fn input(&mut self, input: &Input) {
        match *input {
            Input::Nothing => {}
            Input::Take(role) => {
                self.numbers += 1;
                let (conf, number) = (Arc::clone(&self.state.conf), self.numbers);
                self.state.told(AddressMessage::Take { role, conf, number }, self.now);
            }
            Input::Yield => self.state.told(AddressMessage::Yield, self.now),
            Input::Elected => self.state.told(AddressMessage::Elected, self.now),
            Input::Announce => self.state.told(AddressMessage::Announce, self.now),
            Input::Remove => {
                self.addresses.clear();
                self.state.notified(self.now);
            }
            Input::DeleteRoutes => {
                self.unreached.clone_from(&self.addresses);
                self.state.notified(self.now);
            }
            Input::Refuse(refuses) => self.refuses = refuses,
            Input::Carrier(has_carrier) => {
                self.has_carrier = has_carrier;
                self.state.notified(self.now);
            }
            Input::Freeze(ms) => self.now += ms * MS,
            Input::Undo => self.state.told(AddressMessage::Undo, self.now),
        }
    }

    fn look(&self) -> SettingsSnapshot {
        let difference = |desired: &DesiredAddress| {
            let (addr, device) = place(desired);
            match (
                self.addresses.contains(&place(desired)),
                self.unreached.contains(&place(desired)),
            ) {
                (false, _) => Some(Difference::Missing { addr, prefix: 32, device }),
                (true, true) => Some(Difference::Unreached { addr, device }),
                (true, false) => None,
            }
        };
        let gone = self.leased.difference(&self.addresses);
        let lapsed = |(addr, device): &(IpAddr, String)| NetError::Lapsed {
            addr: *addr,
            device: device.clone(),
        };
        SettingsSnapshot {
            differences: self.state.desired().addresses.iter().filter_map(difference).collect(),
            lapsed: gone.map(lapsed).collect(),
            incapable: (!self.has_carrier)
                .then(|| Incapable::NoCarrier("eth0".into()))
                .into_iter()
                .collect(),
        }
    }

    fn make(&mut self) -> SettingsReport {
        let mut report = SettingsReport::default();
        let desired = self.state.desired().addresses.clone();
        for desired in &desired {
            let (addr, device) = place(desired);
            if !self.addresses.contains(&place(desired)) {
                if self.refuses {
                    let error = NetError::Unreached { addr, device };
                    report.failures.push(SettingFailure::from(error));
                    continue;
                }
                self.addresses.insert(place(desired));
                self.leased.extend(desired.valid_lft.map(|_| place(desired)));
                report.done.push(Done::Added { addr, prefix: 32, device: device.clone() });
            }
            if self.unreached.remove(&place(desired)) {
                report.done.push(Done::Rerouted { addr, device: device.clone() });
            }
            if device != "lo" {
                report.reachable.push(Reachable { addr, device });
            }
        }
        let wanted: BTreeSet<_> = desired.iter().map(place).collect();
        let gone: Vec<_> = self.addresses.difference(&wanted).cloned().collect();
        for (addr, device) in gone {
            self.addresses.remove(&(addr, device.clone()));
            report.done.push(Done::Removed { addr, prefix: 32, device });
        }
        self.leased.retain(|at| wanted.contains(at));
        if !report.done.is_empty() {
            self.state.notified(self.now);
        }
        report
    }

    fn say(&mut self, what: String) {
        let at = (self.now - self.start).as_millis();
        self.outputs.push(format!("{at} {what}"));
    }

    fn carry_out(&mut self) {
        let mut turns = 0;
        while let Some(action) = self.state.next(self.now) {
            turns += 1;
            assert!(turns < 50, "it never rests: {:?}", self.outputs);
            match action {
                AddressAction::Look => {
                    let look = self.look();
                    self.state.looked(Ok(look), self.now);
                }
                AddressAction::LookAtSettings => {
                    self.state.looked_at_settings(Vec::new(), self.now)
                }
                AddressAction::Make { is_repair } => {
                    let report = self.make();
                    self.state.made(report, is_repair, self.now);
                }
                AddressAction::Renew => {
                    let lapsed = self.look().lapsed;
                    let outcome = if lapsed.is_empty() { Ok(()) } else { Err(lapsed) };
                    self.state.renewed(outcome, self.now);
                    self.state.notified(self.now);
                }
                AddressAction::Announce(addresses) => {
                    let addrs: Vec<String> =
                        addresses.iter().map(|at| at.addr.to_string()).collect();
                    self.say(format!("announce {}", addrs.join(" ")));
                }
                AddressAction::Undo => {
                    self.say("undo".to_owned());
                    self.state.undone(SettingsReport::default(), self.now);
                }
                AddressAction::Tell(AddressNotice::Announced(addresses)) => {
                    self.say(format!("{} announced", addresses.len()));
                }
                AddressAction::Tell(notice) => self.say(format!("{notice:?}")),
                AddressAction::Event(DirectorEvent::Repaired { what }) => {
                    self.say(format!("repaired: {what}"))
                }
                AddressAction::Event(event) => self.say(format!("{event:?}")),
            }
        }
    }

    fn run(&mut self, until: u32) {
        let end = self.start + until * MS;
        loop {
            self.carry_out();
            if self.now >= end {
                return;
            }
            self.now = self.state.due().max(self.now + MS).min(end);
        }
    }
}

/// Inputs at these milliseconds, and what comes out from then until just before the next one;
/// announcements that are repeated are left out.
#[track_caller]
fn assert_sequence(directors: u32, steps: &[(u32, Input, &[&str])]) {
    let mut world = World::new(directors);
    for (index, (at, input, expected)) in steps.iter().enumerate() {
        world.now = world.now.max(world.start + *at * MS);
        world.input(input);
        world.run(steps.get(index + 1).map_or(at + 1, |(next, ..)| next - 1));
        let first = format!("{at} announce");
        let is_repeated = |line: &String| line.contains(" announce ") && !line.starts_with(&first);
        world.outputs.retain(|line| !is_repeated(line));
        assert_eq!(std::mem::take(&mut world.outputs), *expected, "step {index}");
    }
}

use AddressRole::*;
use Input::*;

#[test]
fn a_role_is_made_told_and_announced_and_its_loss_too() {
    assert_sequence(
        2,
        &[
            (0, Nothing, &["0 Carries(true)"]),
            (100, Take(Standby), &["100 Stand(1)"]),
            (
                200,
                Take(ActiveDirector),
                &["200 Stand(2)", "200 announce 10.0.0.100", "200 1 announced"],
            ),
            (5000, Announce, &["5000 announce 10.0.0.100"]),
            (6000, Yield, &["6000 0 announced"]),
            (6100, Yield, &[]),
            (6200, Announce, &[]),
            (6300, Take(Yielding), &["6300 Stand(3)"]),
        ],
    );
}

#[test]
fn a_role_from_before_another_director_was_active_carries_and_announces_nothing() {
    assert_sequence(
        2,
        &[
            (0, Nothing, &["0 Carries(true)"]),
            (100, Take(Standby), &["100 Stand(1)"]),
            // The main thread has not heard of it yet.
            (200, Yield, &[]),
            (300, Take(ActiveDirector), &["300 Stand(2)"]),
            (400, Take(Yielding), &["400 Stand(3)"]),
            (500, Elected, &[]),
            (
                600,
                Take(ActiveDirector),
                &["600 Stand(4)", "600 announce 10.0.0.100", "600 1 announced"],
            ),
        ],
    );
}

#[test]
fn what_is_given_back_before_it_is_announced_is_announced_no_more() {
    for after in [Yield, Take(Yielding), Undo] {
        let mut world = World::new(2);
        world.input(&Take(ActiveDirector));
        world.run(3050);
        world.outputs.clear();
        // Both wait when the thread comes to them.
        world.input(&Announce);
        world.input(&after);
        world.run(3100);
        let is_announced = world.outputs.iter().any(|line| line.contains(" announce "));
        assert!(!is_announced, "{:?}", world.outputs);
    }
}

#[test]
fn a_machine_that_was_frozen_asks_before_it_announces_anything() {
    assert_sequence(
        2,
        &[
            (
                0,
                Take(ActiveDirector),
                &["0 Stand(1)", "0 Carries(true)", "0 announce 10.0.0.100", "0 1 announced"],
            ),
            // The announcement of 500 ms is late.
            (400, Freeze(900), &["1300 Doubt", "1300 0 announced"]),
            (1400, Take(Standby), &["1400 Stand(2)"]),
        ],
    );
    // It is told to announce, and finds that it was away.
    let mut world = World::new(2);
    world.input(&Take(ActiveDirector));
    world.run(2500);
    world.outputs.clear();
    world.input(&Freeze(5000));
    world.input(&Announce);
    world.run(7600);
    assert_eq!(world.outputs, ["7500 Doubt", "7500 0 announced"]);
}

#[test]
fn what_is_removed_is_back_at_once_and_an_event() {
    assert_sequence(
        1,
        &[
            (0, Take(RealServer), &["0 Stand(1)", "0 Carries(true)"]),
            (
                100,
                Take(ActiveDirector),
                &["100 Stand(2)", "100 announce 10.0.0.100", "100 1 announced"],
            ),
            (
                5000,
                Remove,
                &["5000 repaired: added 10.0.0.100/32 to eth0", "5000 announce 10.0.0.100"],
            ),
            (9000, Nothing, &[]),
        ],
    );
}

#[test]
fn a_local_route_that_is_deleted_is_made_again_and_an_event() {
    for role in [Standby, ActiveDirector] {
        let mut world = World::new(2);
        world.input(&Take(role));
        world.run(3050);
        world.outputs.clear();
        world.input(&DeleteRoutes);
        world.run(3150);
        assert!(world.unreached.is_empty());
        let device = if role == Standby { "lo" } else { "eth0" };
        let again = format!("repaired: made the local route to 10.0.0.100 on {device} again");
        assert!(world.outputs.iter().any(|line| line.ends_with(&again)), "{:?}", world.outputs);
        let doubts = world.outputs.iter().filter(|line| line.ends_with("Doubt")).count();
        assert_eq!(doubts, 0, "the address never was gone");
    }
}

#[test]
fn an_address_with_a_lifetime_that_is_gone_is_asked_about_before_it_is_back() {
    assert_sequence(
        2,
        &[
            (
                0,
                Take(ActiveDirector),
                &["0 Stand(1)", "0 Carries(true)", "0 announce 10.0.0.100", "0 1 announced"],
            ),
            (5500, Remove, &["5500 Doubt", "5500 0 announced"]),
            (
                5600,
                Take(ActiveDirector),
                &[
                    "5600 Stand(2)",
                    "5600 repaired: added 10.0.0.100/32 to eth0",
                    "5600 announce 10.0.0.100",
                    "5600 1 announced",
                ],
            ),
            (9000, Nothing, &[]),
        ],
    );
}

#[test]
fn a_machine_that_was_frozen_asks_before_it_renews_or_adds_anything() {
    assert_sequence(
        2,
        &[
            (
                0,
                Take(ActiveDirector),
                &["0 Stand(1)", "0 Carries(true)", "0 announce 10.0.0.100", "0 1 announced"],
            ),
            (2500, Freeze(5000), &["7500 Doubt", "7500 0 announced"]),
            (8000, Take(Standby), &["8000 Stand(2)"]),
        ],
    );
}

#[test]
fn a_fault_is_told_once_and_its_end_too() {
    assert_sequence(
        1,
        &[
            (0, Refuse(true), &["0 Carries(true)"]),
            (
                10,
                Take(Standby),
                &[
                    "10 Stand(1)",
                    "10 Faults([\"10.0.0.100 is on lo and receives nothing: see what leads it elsewhere \
                 with `ip rule` and `ip route get 10.0.0.100`\"])",
                ],
            ),
            (
                60_000,
                Refuse(false),
                &["60100 repaired: added 10.0.0.100/32 to lo", "60100 Faults([])"],
            ),
            (80_000, Nothing, &[]),
        ],
    );
}

#[test]
fn a_lost_carrier_is_told_at_once_and_one_that_returns_after_a_while() {
    assert_sequence(
        2,
        &[
            (
                0,
                Take(ActiveDirector),
                &["0 Stand(1)", "0 Carries(true)", "0 announce 10.0.0.100", "0 1 announced"],
            ),
            (
                5500,
                Carrier(false),
                &[
                    "5500 Incapable { reason: \"eth0 has no carrier\" }",
                    "5500 Carries(false)",
                    "5500 Faults([\"eth0 has no carrier: the CVIPs cannot be carried here; see to the \
                 interface\"])",
                ],
            ),
            (
                7500,
                Carrier(true),
                &[
                    "7500 announce 10.0.0.100",
                    "10500 CanCarry",
                    "10500 Carries(true)",
                    "10500 Faults([])",
                ],
            ),
            (12_000, Undo, &["12000 undo", "12000 Undone", "12000 0 announced"]),
        ],
    );
}
