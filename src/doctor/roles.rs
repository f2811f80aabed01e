//! Who is the active director of each CVIP: decided elsewhere, and taken from there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::conf::Conf;
use crate::director::sync;
use crate::net::AddressRole;
use crate::store::StoreState;

/// The directors that are active now.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Roles {
    active: BTreeMap<IpAddr, u32>,
}

impl Roles {
    #[cfg(test)]
    /// The first director of each set in cvip.conf's order is active.
    pub(crate) fn by_order(conf: &Conf) -> Roles {
        Roles::elected(conf, |directors| directors.first().copied())
    }

    /// By the store, as `cvipctl status` tells it: see [`StoreState::active_director`].
    pub(crate) fn by_store(conf: &Conf, state: &StoreState) -> Roles {
        Roles::elected(conf, |directors| state.active_director(directors))
    }

    /// `elected` says which of a set's directors is active, if any is.
    pub(crate) fn elected(conf: &Conf, elected: impl Fn(&[u32]) -> Option<u32>) -> Roles {
        let mut active = BTreeMap::new();
        for set in conf.director_sets() {
            if let Some(node) = elected(&set.directors) {
                active.extend(set.cvips.iter().map(|cvip| (*cvip, node)));
            }
        }
        Roles { active }
    }

    /// The active director of a CVIP.
    pub(crate) fn active(&self, cvip: IpAddr) -> Option<u32> {
        self.active.get(&cvip).copied()
    }

    /// True if the node is the active director of any CVIP.
    pub(crate) fn is_active(&self, node: u32) -> bool {
        self.active.values().any(|active| *active == node)
    }

    /// A node's role.
    pub(crate) fn of(&self, conf: &Conf, node: u32) -> AddressRole {
        match (self.is_active(node), conf.is_director(node)) {
            (true, _) => AddressRole::ActiveDirector,
            (false, true) => AddressRole::Standby,
            (false, false) => AddressRole::RealServer,
        }
    }

    /// The connection synchronisation daemon that a node should run: none where it is no director,
    /// the only one of its set, or without a `sync_interface`.
    pub(crate) fn sync(&self, conf: &Conf, node: u32) -> Option<sync::DesiredDaemon> {
        let mut sets = conf.director_sets().into_iter();
        let set = sets.find(|set| set.directors.contains(&node) && set.directors.len() > 1)?;
        Some(sync::DesiredDaemon {
            interface: conf.sync_interface(node)?.to_owned(),
            set: set.directors.iter().copied().min()?,
            active: self.is_active(node),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::conf;
    use super::*;
    use crate::conf::Routing;
    use crate::store::{Elected, NodeRecord};

    #[test]
    fn the_first_director_is_active_the_others_wait_and_the_rest_serve() {
        let conf = conf(Routing::Dr, &["192.0.2.10"], 2);
        let roles = Roles::by_order(&conf);
        let of = [1, 2, 3].map(|node| roles.of(&conf, node));
        assert_eq!(
            of,
            [AddressRole::ActiveDirector, AddressRole::Standby, AddressRole::RealServer]
        );
        assert_eq!(roles.active(conf.cvips[0].addr), Some(1));
        let roles = Roles::elected(&conf, |directors| directors.last().copied());
        assert!(roles.is_active(2) && !roles.is_active(1));
        let mut state = StoreState::default();
        let by_store = |state: &StoreState| Roles::by_store(&conf, state);
        let elect = |state: &mut StoreState, node| {
            state.directors.insert(1, Elected { node, incarnation: 1, term: 1 });
        };
        elect(&mut state, 2);
        assert_eq!(by_store(&state), roles);
        elect(&mut state, 4);
        assert_eq!(by_store(&state), Roles::default(), "no director any more");
        state.directors.clear();
        assert_eq!(by_store(&state), Roles::default(), "no director was elected yet");
        let directing = NodeRecord { directing: true, ..NodeRecord::empty(2, 1, 1) };
        state.nodes.insert(2, directing);
        assert_eq!(by_store(&state), Roles::default(), "its lease has ended");
        state.alive.insert(2, 1);
        assert_eq!(by_store(&state), roles, "it was alone until now");
        elect(&mut state, 1);
        assert!(by_store(&state).is_active(1), "an election counts for more");
        let alone = super::super::testing::conf(Routing::Dr, &["192.0.2.10"], 1);
        assert!(Roles::by_store(&alone, &StoreState::default()).is_active(1), "it is not elected");
        assert_eq!(Roles::elected(&conf, |_| None).of(&conf, 1), AddressRole::Standby);
    }

    #[test]
    fn directors_of_a_set_synchronise_and_a_lone_one_does_not() {
        let conf = |directors| conf(Routing::Dr, &["192.0.2.10"], directors);
        let sync = |directors, node| {
            let conf = conf(directors);
            Roles::by_order(&conf).sync(&conf, node)
        };
        let desired = |active| sync::DesiredDaemon { interface: "eth1".to_owned(), set: 1, active };
        assert_eq!(sync(2, 1), Some(desired(true)));
        assert_eq!(sync(2, 2), Some(desired(false)));
        assert_eq!((sync(2, 3), sync(1, 1)), (None, None));
        let mut without = conf(2);
        without.cvips[0].directors[0].sync_interface = None;
        assert_eq!(Roles::by_order(&without).sync(&without, 1), None);
    }
}
