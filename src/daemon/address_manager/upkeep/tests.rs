//! Sequences of roles, notifications and outcomes, against a kernel of one address.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::net::{Done, Incapable, Reachable};

const MS: Duration = Duration::from_millis(1);

fn addr() -> IpAddr {
    "192.0.2.10".parse().unwrap()
}

fn missing() -> Difference {
    Difference::Missing { addr: addr(), prefix: 32, device: "eth0".into() }
}

fn setting() -> Difference {
    let path = "net/ipv4/conf/all/arp_ignore".to_owned();
    let (wanted, why, needed_on) = ("1", "why", crate::net::NeededOn::RealServers);
    Difference::Setting { path, is: "0".into(), wanted, why, needed_on }
}

fn gone() -> NetError {
    NetError::Lapsed { addr: addr(), device: "eth0".into() }
}

/// A kernel with one address and one setting, and a clock.
struct Kernel {
    upkeep: Upkeep,
    start: Instant,
    now: Instant,
    leased: bool,
    /// The address was made, and has not been seen to be gone.
    remembered: bool,
    stands: bool,
    set: bool,
    /// It is too old for a setting.
    outdated: bool,
    refuses: bool,
    incapable: bool,
    acts: Vec<(u128, UpkeepAction)>,
    verdicts: Vec<(u128, bool)>,
}

impl Kernel {
    fn new(leased: bool) -> Kernel {
        let start = Instant::now();
        Kernel {
            upkeep: Upkeep::new(start),
            start,
            now: start,
            leased,
            remembered: false,
            stands: false,
            set: false,
            outdated: false,
            refuses: false,
            incapable: false,
            acts: Vec::new(),
            verdicts: Vec::new(),
        }
    }

    /// An active director that has been at work for a second.
    fn active(leased: bool) -> Kernel {
        let mut kernel = Kernel::new(leased);
        kernel.set_role(AddressRole::ActiveDirector);
        kernel.run(1000);
        assert!(kernel.stands && kernel.set);
        kernel.acts.clear();
        kernel.verdicts.clear();
        kernel
    }

    fn set_role(&mut self, role: AddressRole) {
        self.upkeep.set_role(role, self.leased, self.now);
    }

    fn at(&self) -> u128 {
        (self.now - self.start).as_millis()
    }

    fn look(&self) -> SettingsSnapshot {
        let wanted = self.upkeep.role().is_some();
        let mut differences = Vec::new();
        differences.extend((wanted && !self.set).then(setting));
        differences.extend((wanted && !self.stands).then(missing));
        if self.outdated && wanted {
            let error =
                NetError::NoSetting { setting: "net.x".into(), hint: "too old", outdated: true };
            differences.push(Difference::Unmet(error.into()));
        }
        let lapsed = (self.leased && self.remembered && !self.stands).then(gone);
        let incapable = self.incapable.then(|| Incapable::NoCarrier("eth0".into()));
        let (lapsed, incapable) = (Vec::from_iter(lapsed), Vec::from_iter(incapable));
        SettingsSnapshot { differences, lapsed, incapable }
    }

    fn make(&mut self) {
        let mut report = SettingsReport::default();
        let device = "eth0".to_owned();
        if !self.set {
            self.set = true;
            let (path, value, was) = ("net/x".to_owned(), "1".to_owned(), "0".to_owned());
            report.done.push(Done::Set { path, value, was });
        }
        match (self.stands, self.refuses) {
            (false, true) => report.failures.push(NetError::TimedOut.into()),
            (false, false) => {
                (self.stands, self.remembered) = (true, true);
                let device = device.clone();
                report.done.push(Done::Added { addr: addr(), prefix: 32, device });
            }
            _ => {}
        }
        if self.stands {
            report.reachable.push(Reachable { addr: addr(), device });
        }
        // Its own changes are notified of, too.
        if !report.done.is_empty() {
            self.upkeep.notified();
        }
        let anew = report.done.iter().any(|done| matches!(done, Done::Added { .. }));
        self.upkeep.made(&report, anew, self.now);
    }

    /// Does what is due until some milliseconds have passed.
    fn run(&mut self, ms: u32) {
        let end = self.now + ms * MS;
        loop {
            let mut acts = 0;
            while let Some(action) = self.upkeep.next(self.now) {
                acts += 1;
                assert!(acts < 50, "it never rests: {:?}", self.acts);
                self.acts.push((self.at(), action));
                match action {
                    UpkeepAction::Look => {
                        let verdict = self.upkeep.looked(&self.look(), self.now);
                        let at = self.at();
                        self.verdicts.extend(verdict.map(|verdict| (at, verdict.able)));
                    }
                    UpkeepAction::LookAtSettings => {
                        let differences = self.look().differences;
                        let of_settings = differences.into_iter().filter(|d| *d != missing());
                        self.upkeep.looked_at_settings(&of_settings.collect::<Vec<_>>());
                    }
                    UpkeepAction::Make | UpkeepAction::Repair => self.make(),
                    UpkeepAction::Renew => {
                        let is_gone = self.remembered && !self.stands;
                        let outcome = if is_gone { Err(vec![gone()]) } else { Ok(()) };
                        self.upkeep.renewed(&outcome);
                        // The kernel notifies of a renewal.
                        self.upkeep.notified();
                    }
                    UpkeepAction::Announce | UpkeepAction::Ask(_) => {}
                }
            }
            let at = self.at();
            let verdict = self.upkeep.capability_at(self.now);
            self.verdicts.extend(verdict.map(|verdict| (at, verdict.able)));
            if self.now >= end {
                return;
            }
            self.now = self.upkeep.due().max(self.now + MS).min(end);
        }
    }

    fn remove(&mut self) {
        self.stands = false;
        self.upkeep.notified();
    }

    fn count(&self, action: UpkeepAction) -> usize {
        self.acts.iter().filter(|(_, done)| *done == action).count()
    }

    fn first(&self, action: UpkeepAction) -> Option<u128> {
        self.acts.iter().find(|(_, done)| *done == action).map(|(at, _)| *at)
    }
}

#[test]
fn a_look_that_fails_is_made_again_after_a_second() {
    let start = Instant::now();
    let mut upkeep = Upkeep::new(start);
    assert_eq!(upkeep.next(start), Some(UpkeepAction::Look));
    upkeep.look_failed(start);
    assert_eq!((upkeep.next(start), upkeep.due()), (None, start + RETRY.1));
    assert_eq!(upkeep.next(start + RETRY.1), Some(UpkeepAction::Look));
    assert_eq!(upkeep.due(), start + RETRY.1 + LOOK_EVERY);
}

#[test]
fn a_role_is_made_at_once_and_nothing_before_it_is_known() {
    let mut kernel = Kernel::new(false);
    kernel.run(5000);
    assert!(
        !kernel.stands
            && kernel.count(UpkeepAction::Make) + kernel.count(UpkeepAction::Repair) == 0
    );
    assert_eq!(kernel.verdicts, [(0, true)], "what its interfaces can do is known beforehand");
    let before = kernel.at();
    kernel.set_role(AddressRole::ActiveDirector);
    kernel.run(0);
    assert_eq!(
        (kernel.first(UpkeepAction::Make), kernel.first(UpkeepAction::Announce)),
        (Some(before), Some(before))
    );
}

#[test]
fn what_another_program_removes_or_resets_is_back_within_a_second() {
    for role in [AddressRole::ActiveDirector, AddressRole::RealServer] {
        let mut kernel = Kernel::new(false);
        kernel.set_role(role);
        kernel.run(10_050);
        kernel.remove();
        kernel.run(1);
        assert!(kernel.stands, "{role:?}");
        // No notification tells of a setting.
        kernel.set = false;
        kernel.run(1000);
        assert!(kernel.set, "{role:?}");
        assert_eq!(kernel.count(UpkeepAction::Repair), 2);
    }
}

#[test]
fn while_nothing_happens_little_is_done() {
    for outdated in [false, true] {
        let mut kernel = Kernel::active(false);
        kernel.outdated = outdated;
        kernel.run(60_000);
        assert_eq!(kernel.count(UpkeepAction::Make) + kernel.count(UpkeepAction::Repair), 0);
        assert!(kernel.count(UpkeepAction::LookAtSettings) <= 60);
        assert_eq!(kernel.count(UpkeepAction::Look), 1, "{:?}", kernel.acts);
    }
    // One that renews is notified of that.
    let mut kernel = Kernel::active(true);
    kernel.run(60_000);
    assert_eq!(kernel.count(UpkeepAction::Make) + kernel.count(UpkeepAction::Repair), 0);
    assert!(kernel.count(UpkeepAction::Renew) >= 59 && kernel.count(UpkeepAction::Look) <= 122);
    assert!((1..=3).contains(&(kernel.count(UpkeepAction::Announce).saturating_sub(1))));
}

#[test]
fn what_another_program_keeps_removing_is_put_back_at_a_bounded_rate() {
    let mut kernel = Kernel::active(false);
    for _ in 0..600 {
        kernel.remove();
        kernel.run(100);
    }
    let repairs = kernel.count(UpkeepAction::Repair);
    assert!((30..=45).contains(&repairs), "{repairs} in a minute");
    kernel.run(2000);
    assert!(kernel.stands);
}

#[test]
fn what_the_kernel_refuses_is_tried_now_and_then_and_hinders_nothing_else() {
    let mut kernel = Kernel::active(false);
    kernel.refuses = true;
    kernel.remove();
    kernel.run(60_000);
    let repairs = kernel.count(UpkeepAction::Repair);
    assert!((5..=9).contains(&repairs), "{repairs} in a minute");
    kernel.set = false;
    kernel.run(1100);
    assert!(kernel.set);
    kernel.refuses = false;
    kernel.upkeep.notified();
    kernel.run(1100);
    assert!(kernel.stands, "a notification shortens the wait");
}

#[test]
fn a_node_that_did_not_run_or_finds_its_address_gone_adds_nothing_before_it_is_told() {
    // Frozen for longer than a standby waits.
    let mut kernel = Kernel::active(true);
    kernel.now += Duration::from_secs(5);
    kernel.stands = false;
    kernel.run(3000);
    assert_eq!(kernel.first(UpkeepAction::Ask(Doubt::Late)), Some(kernel.acts[0].0));
    assert!(!kernel.stands && kernel.upkeep.role().is_none());
    assert_eq!(kernel.count(UpkeepAction::Ask(Doubt::Late)), 1);
    kernel.set_role(AddressRole::ActiveDirector);
    kernel.run(0);
    assert!(kernel.stands);

    let mut kernel = Kernel::active(true);
    kernel.remove();
    kernel.run(500);
    assert!(!kernel.stands && kernel.count(UpkeepAction::Ask(Doubt::Gone)) == 1);
    kernel.set_role(AddressRole::ActiveDirector);
    kernel.run(0);
    assert!(
        kernel.stands && kernel.count(UpkeepAction::Repair) == 1,
        "it is a repair, and said so"
    );
}

#[test]
fn a_reload_does_not_hide_that_this_node_was_away() {
    let mut kernel = Kernel::active(true);
    kernel.now += Duration::from_secs(5);
    kernel.set_role(AddressRole::ActiveDirector);
    kernel.run(100);
    assert_eq!(kernel.count(UpkeepAction::Ask(Doubt::Late)), 1);
    assert_eq!(kernel.count(UpkeepAction::Make) + kernel.count(UpkeepAction::Renew), 0);
    // To give the address back needs no question.
    let mut kernel = Kernel::active(true);
    kernel.now += Duration::from_secs(5);
    kernel.leased = false;
    kernel.set_role(AddressRole::Yielding);
    kernel.run(100);
    assert_eq!(
        (kernel.count(UpkeepAction::Make), kernel.count(UpkeepAction::Ask(Doubt::Late))),
        (1, 0)
    );
}

#[test]
fn a_leased_address_that_another_program_keeps_removing_asks_at_a_bounded_rate() {
    let mut kernel = Kernel::active(true);
    for _ in 0..600 {
        kernel.remove();
        kernel.run(100);
        if kernel.upkeep.role().is_none() {
            kernel.set_role(AddressRole::ActiveDirector);
        }
    }
    let asked = kernel.count(UpkeepAction::Ask(Doubt::Gone));
    assert!((20..=45).contains(&asked), "{asked} in a minute");
}

#[test]
fn a_carrier_that_is_lost_is_told_at_once_and_one_that_returns_after_a_while() {
    for role in [Some(AddressRole::ActiveDirector), Some(AddressRole::Standby), None] {
        let mut kernel = Kernel::new(true);
        if let Some(role) = role {
            kernel.set_role(role);
        }
        kernel.run(1000);
        kernel.verdicts.clear();
        let lost = kernel.at();
        kernel.incapable = true;
        kernel.upkeep.notified();
        kernel.run(2000);
        kernel.incapable = false;
        kernel.upkeep.notified();
        kernel.run(10_000);
        assert_eq!(kernel.verdicts.len(), 2, "{role:?}: {:?}", kernel.verdicts);
        assert!(kernel.verdicts[0].0 <= lost + 100 && !kernel.verdicts[0].1);
        assert!(kernel.verdicts[1].0 >= lost + 5000 && kernel.verdicts[1].1);
    }
}

#[test]
fn an_active_director_whose_address_is_refused_cannot_carry_it() {
    let mut kernel = Kernel::new(true);
    kernel.refuses = true;
    kernel.set_role(AddressRole::ActiveDirector);
    kernel.run(1000);
    assert_eq!(kernel.verdicts.last().map(|(_, able)| *able), Some(false));
    // It yields, and another has time to take over before it says that it could.
    kernel.stands = true;
    kernel.set_role(AddressRole::Standby);
    kernel.run(30_000);
    assert_eq!(kernel.verdicts.last().map(|(_, able)| *able), Some(false));
    kernel.run(60_000);
    assert_eq!(kernel.verdicts.last().map(|(_, able)| *able), Some(true));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Role(bool),
    Remove,
    Reset,
    Refuse(bool),
    Carrier(bool),
    Notify,
    Frozen(u32),
    Run(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        any::<bool>().prop_map(Step::Role),
        Just(Step::Remove),
        Just(Step::Reset),
        any::<bool>().prop_map(Step::Refuse),
        any::<bool>().prop_map(Step::Carrier),
        Just(Step::Notify),
        (0..20_000u32).prop_map(Step::Frozen),
        (0..5000u32).prop_map(Step::Run),
    ]
}

proptest! {
    #[test]
    fn after_anything_what_is_asked_for_stands_once_it_can_and_nothing_runs_hot(
        leased: bool,
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let mut kernel = Kernel::new(leased);
        kernel.set_role(AddressRole::ActiveDirector);
        for step in steps {
            match step {
                Step::Role(active) => kernel.set_role(match active {
                    true => AddressRole::ActiveDirector,
                    false => AddressRole::Standby,
                }),
                Step::Remove => kernel.remove(),
                Step::Reset => kernel.set = false,
                Step::Refuse(refuses) => kernel.refuses = refuses,
                Step::Carrier(carrier) => {
                    kernel.incapable = !carrier;
                    kernel.upkeep.notified();
                }
                Step::Notify => kernel.upkeep.notified(),
                Step::Frozen(ms) => kernel.now += ms * MS,
                Step::Run(ms) => kernel.run(ms),
            }
        }
        (kernel.refuses, kernel.incapable) = (false, false);
        kernel.upkeep.notified();
        for _ in 0..3 {
            kernel.run(3000);
            if kernel.upkeep.role().is_none() {
                kernel.set_role(AddressRole::ActiveDirector);
            }
        }
        kernel.run(1000);
        prop_assert!(kernel.stands && kernel.set);
        let before = kernel.acts.len();
        kernel.run(60_000);
        // A second's renewal, two looks, and the looks at settings; announcements.
        prop_assert!(kernel.acts.len() - before < 320, "{:?}", &kernel.acts[before..]);
        kernel.run(10_000);
        prop_assert_eq!(kernel.verdicts.last().map(|(_, able)| *able), Some(true));
    }
}
