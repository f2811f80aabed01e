//! Who else answers for a CVIP that this director carries: asked on the wire, as duplicate address
//! detection does, which changes no cache. What a node's settings promise, its neighbours
//! may see otherwise; and what answers need not be a node at all.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::Finding;
use super::observed::{Host, Observed};
use crate::clock::Instant;
use crate::conf::Routing;
use crate::net::{ConflictState, ConflictWatch, Interface, Mac, NetError};

/// Longer than a watch asks.
const AT_MOST: Duration = Duration::from_millis(1500);

/// The interfaces on which another host could answer, with the CVIPs that this node carries there.
pub(super) fn places(seen: &Observed, interfaces: &[Interface]) -> BTreeMap<String, Vec<IpAddr>> {
    let mut places: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for cvip in seen.directed() {
        let Some(director) = seen.node.and_then(|node| cvip.director(node)) else { continue };
        let mut interfaces = interfaces.iter();
        let interface = interfaces.find(|interface| interface.name == director.garp_interface);
        // What is wrong with others is said with their addresses.
        if interface.is_some_and(|i| i.up && i.carrier && i.answers_neighbours) {
            places.entry(director.garp_interface.clone()).or_default().push(cvip.addr);
        }
    }
    places
}

/// Asks on an interface who else has these addresses: a second without an answer, less with one.
pub(super) fn ask(device: &str, addrs: &[IpAddr]) -> Result<BTreeMap<IpAddr, Mac>, NetError> {
    let mut watch = ConflictWatch::open(device, addrs.iter().copied())?;
    let mut now = Instant::now();
    let end = now + AT_MOST;
    for addr in addrs {
        watch.doubt(*addr, now);
    }
    let settled = |state| {
        matches!(state, None | Some(ConflictState::NoConflict | ConflictState::Confirmed { .. }))
    };
    loop {
        watch.step(now)?;
        if now >= end || addrs.iter().all(|addr| settled(watch.state(*addr))) {
            break;
        }
        let left = end.saturating_duration_since(now);
        let left = watch.timeout(now).map_or(left, |timeout| timeout.min(left));
        let mut fds = watch.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        // Interrupted or not, the next step looks.
        let _ = ppoll(&mut fds, Some(TimeSpec::from(left)), None);
        now = Instant::now();
    }
    Ok(watch.confirmed().collect())
}

/// Others that answered.
pub(super) fn conflicts(seen: &Observed, host: &Host) -> Vec<Finding> {
    let others = host.conflicts.iter().map(|(addr, mac)| {
        let version = if addr.is_ipv4() { 4 } else { 6 };
        let what = format!(
            "another host, {mac}, answers for it, too: clients reach the one or the other, and \
             the other does not balance"
        );
        let node = match seen.conf.routing {
            Routing::Dr | Routing::Tun => "hides it (run `cvipctl doctor` there)",
            Routing::Nat => "does not carry it (run `cvipctl doctor` there)",
        };
        Finding::fault(format!("CVIP {addr}"), what).fix(format!(
            "find it (`ip -{version} neigh | grep {mac}` shows its other addresses); if it is a \
             node, see that it {node}; if not, give it another address"
        ))
    });
    others.collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn a_director_asks_where_it_carries_cvips_and_others_ask_nowhere() {
        let conf = conf(Routing::Dr, &["192.0.2.10", "2001:db8::10"], 2);
        let both = vec![addr("192.0.2.10"), addr("2001:db8::10")];
        let places = |node| places(&seen(conf.clone(), node), &host(node).interfaces);
        assert_eq!(places(1), [("eth0".to_owned(), both)].into());
        assert!(places(2).is_empty() && places(3).is_empty());
        let mut down = host(1).interfaces;
        down.iter_mut().for_each(|interface| interface.up = false);
        assert!(super::places(&seen(conf.clone(), 1), &down).is_empty());
    }

    #[test]
    fn another_host_that_answers_is_a_fault_that_says_how_to_find_it() {
        let seen = seen(conf(Routing::Dr, &["2001:db8::10"], 1), 1);
        let mut host = host(1);
        assert!(conflicts(&seen, &host).is_empty());
        host.conflicts.insert(addr("2001:db8::10"), Mac([2, 0, 0, 0, 0, 7]));
        let lines = lines(&conflicts(&seen, &host));
        assert!(lines[0].starts_with("fault: CVIP 2001:db8::10: another host, 02:00:00:00:00:07"));
        assert!(lines[0].contains("`ip -6 neigh | grep 02:00:00:00:00:07`"), "{lines:?}");
    }

    #[test]
    fn what_is_no_ethernet_cannot_be_asked() {
        assert!(ask("lo", &[addr("192.0.2.10")]).is_err());
    }
}
