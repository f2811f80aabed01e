//! The interfaces of a network namespace with their addresses, as they are: for those who look
//! and change nothing.

use super::NetError;
use super::addresses::{Address, Rtnetlink};

/// A network interface with what it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name; what is not UTF-8 shows as U+FFFD.
    pub name: String,
    /// It is administratively up (`ip link set DEVICE up`).
    pub up: bool,
    /// It has a carrier: a cable, and a machine at its other end.
    pub carrier: bool,
    /// It is `lo`, or another loopback.
    pub loopback: bool,
    /// Neighbours are answered on it, by ARP or neighbour discovery.
    pub answers_neighbours: bool,
    /// Bytes of the largest packet, where the kernel says.
    pub mtu: Option<u32>,
    /// Its addresses, in the kernel's order.
    pub addresses: Vec<Address>,
}

/// Every interface of the calling thread's network namespace, in the kernel's order. Needs no
/// privilege.
///
/// # Errors
/// The kernel's lists cannot be read.
pub fn interfaces() -> Result<Vec<Interface>, NetError> {
    let mut netlink = Rtnetlink::open()?;
    let (links, addresses) = (netlink.links()?, netlink.addresses()?);
    let interfaces = links.into_iter().map(|link| Interface {
        up: link.is_up,
        carrier: link.has_carrier,
        loopback: link.is_loopback,
        answers_neighbours: link.answers_neighbours,
        mtu: link.mtu,
        addresses: addresses.iter().filter(|a| a.index == link.index).cloned().collect(),
        index: link.index,
        name: link.name,
    });
    Ok(interfaces.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_loopback_that_is_not_asked_for_neighbours() {
        let interfaces = interfaces().unwrap();
        let lo = interfaces.iter().find(|interface| interface.name == "lo").expect("lo");
        assert!(lo.loopback && !lo.answers_neighbours);
        assert!(lo.mtu.is_some_and(|bytes| bytes >= 1280), "{lo:?}");
        assert!(lo.addresses.iter().all(|address| address.index == lo.index));
    }
}
