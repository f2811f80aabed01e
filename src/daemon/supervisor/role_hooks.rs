//! Which change of role hooks were told last, and how long a director that is to give up the CVIPs
//! waits for them. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Instant;
use crate::daemon::hooks::messages::{HookCvip, RoleChange, RoleEvent};

/// What hooks were told of this node's role.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RoleHooks {
    /// How long the hooks of one event may take.
    within: Duration,
    /// The last event; none if this node was no director since it started.
    last: Option<RoleEvent>,
    /// Other CVIPs are carried than were told.
    is_outdated: bool,
    /// How many events there were.
    told: u64,
    /// What it carries as the active director, or carried last.
    carried: Option<CarriedCvips>,
    /// The hooks of [`RoleEvent::GivingUp`] run.
    awaited: Option<AwaitedHooks>,
}

/// What a director carries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CarriedCvips {
    /// The lowest node number of its director set.
    pub(super) set: u32,
    /// The term in which it is the active director; none if it is not.
    pub(super) term: Option<u64>,
    /// The CVIPs.
    pub(super) cvips: Vec<HookCvip>,
}

/// Hooks that are waited for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct AwaitedHooks {
    /// The number of their event.
    number: u64,
    /// They are waited for until then.
    by: Instant,
}

impl RoleHooks {
    /// `was_director`: an earlier cvipd may have been the active director here.
    pub(super) fn new(within: Duration, was_director: bool) -> RoleHooks {
        let last = was_director.then_some(RoleEvent::Active);
        RoleHooks { within, last, is_outdated: false, told: 0, carried: None, awaited: None }
    }

    /// The last event.
    pub(super) fn last(&self) -> Option<RoleEvent> {
        self.last
    }

    /// Whether hooks are to be told of an event: what was told is not told again.
    pub(super) fn is_new(&self, event: RoleEvent) -> bool {
        self.last != Some(event) || self.is_outdated
    }

    /// As an active director it carries these CVIPs from now on.
    pub(super) fn reloaded(&mut self, cvips: &[HookCvip]) {
        let is_active = self.last == Some(RoleEvent::Active);
        let is_other = self.carried.as_ref().is_some_and(|carried| carried.cvips != cvips);
        self.is_outdated = is_active && is_other;
    }

    /// Takes an event that is new, by what the node carries as a director according to cvip.conf.
    pub(super) fn tell(
        &mut self,
        event: RoleEvent,
        carried: CarriedCvips,
        now: Instant,
    ) -> RoleChange {
        (self.last, self.is_outdated) = (Some(event), false);
        self.told += 1;
        let number = self.told;
        let is_awaited = event == RoleEvent::GivingUp;
        self.awaited = is_awaited.then(|| AwaitedHooks { number, by: now + self.within });
        if event == RoleEvent::Active {
            self.carried = Some(carried.clone());
        }
        // What goes is what was carried, whatever cvip.conf says by now.
        let latest = carried.term;
        let CarriedCvips { set, term, cvips } = self.carried.clone().unwrap_or(carried);
        RoleChange { number, event, set, term: latest.or(term), cvips }
    }

    /// The hooks of the event of this number have ended.
    pub(super) fn ended(&mut self, number: u64) {
        let _ = self.awaited.take_if(|awaited| awaited.number == number);
    }

    /// Until when hooks are waited for; none if they have ended, or their time is over.
    pub(super) fn awaited(&self, now: Instant) -> Option<Instant> {
        self.awaited.map(|awaited| awaited.by).filter(|by| now < *by)
    }
}

#[cfg(test)]
mod tests {
    use super::RoleEvent::{Active, GivingUp, Standby};
    use super::*;

    fn carried(term: Option<u64>, last: u8) -> CarriedCvips {
        let (address, interface) = ([192, 0, 2, last].into(), "eth0".to_owned());
        CarriedCvips { set: 1, term, cvips: vec![HookCvip { address, interface, gateway: None }] }
    }

    #[test]
    fn an_event_is_told_once_and_giving_up_is_waited_for_until_its_end_or_its_deadline() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut hooks = RoleHooks::new(Duration::from_secs(5), false);
        assert_eq!((hooks.last(), hooks.is_new(Active)), (None, true));
        assert_eq!(hooks.tell(Active, carried(Some(3), 100), at(0)).number, 1);
        assert!(!hooks.is_new(Active) && hooks.awaited(at(1)).is_none());
        let giving_up = hooks.tell(GivingUp, carried(Some(4), 100), at(10));
        assert_eq!((giving_up.number, giving_up.term), (2, Some(4)));
        assert_eq!(hooks.awaited(at(20)), Some(at(5010)));
        hooks.ended(1);
        assert_eq!(hooks.awaited(at(5009)), Some(at(5010)), "another event's hooks have ended");
        assert_eq!(hooks.awaited(at(5010)), None);
        hooks.ended(2);
        assert_eq!(hooks.awaited(at(30)), None);
        // Another director is active before the hooks have ended.
        hooks.tell(Active, carried(Some(5), 100), at(40));
        hooks.tell(GivingUp, carried(Some(5), 100), at(50));
        let standby = hooks.tell(Standby, carried(None, 100), at(60));
        assert_eq!((standby.number, standby.term, hooks.awaited(at(60))), (5, Some(5), None));
    }

    #[test]
    fn an_active_director_with_other_cvips_is_told_again_and_what_goes_is_what_was_carried() {
        let now = Instant::now();
        let (first, second) = (carried(Some(1), 100), carried(Some(1), 101));
        let mut hooks = RoleHooks::new(Duration::from_secs(5), false);
        hooks.tell(Active, first.clone(), now);
        hooks.reloaded(&first.cvips);
        assert!(!hooks.is_new(Active));
        hooks.reloaded(&second.cvips);
        assert!(hooks.is_new(Active));
        assert_eq!(hooks.tell(Active, second.clone(), now).cvips, second.cvips);
        // It is no director any more.
        hooks.reloaded(&[]);
        let none = CarriedCvips { set: 1, term: None, cvips: Vec::new() };
        let standby = hooks.tell(Standby, none, now);
        assert_eq!((standby.term, standby.cvips), (Some(1), second.cvips));
    }
}
