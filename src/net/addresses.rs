//! The kernel's links and addresses: listed, added, removed (`ip addr`, `ip link`).

use std::net::{IpAddr, Ipv4Addr};

use neli::consts::nl::NlmF;
use neli::consts::rtnl::{Iff, Rtm, Rtn};
use nix::errno::Errno;

use super::NetError;
use super::desired::tunnel_module;
use super::netlink::{RequestError, RtnetlinkSocket};
pub use crate::netlink::route::{Address, Link, host_prefix};
use crate::netlink::route::{
    every_address, every_link, link, local_route, new_address, new_tunnel, old_address,
    read_address, read_link, read_route, route,
};

/// The kernel's links and addresses, in the network namespace of the thread that opened this.
#[derive(Debug)]
pub(super) struct Rtnetlink {
    socket: RtnetlinkSocket,
}

impl Rtnetlink {
    pub(super) fn open() -> Result<Rtnetlink, NetError> {
        Ok(Rtnetlink { socket: RtnetlinkSocket::open()? })
    }

    /// Every interface, in the kernel's order (`ip link`).
    pub(super) fn links(&mut self) -> Result<Vec<Link>, NetError> {
        self.socket.dump(Rtm::Getlink, &every_link(), read_link)
    }

    /// Every address of both families, in the kernel's order (`ip addr`).
    pub(super) fn addresses(&mut self) -> Result<Vec<Address>, NetError> {
        self.socket.dump(Rtm::Getaddr, &every_address(), read_address)
    }

    /// Adds an address, or gives the same one a new lifetime (`ip addr replace ADDR/PREFIX dev
    /// DEVICE valid_lft SECONDS`; for IPv6 with `nodad noprefixroute preferred_lft 0`).
    pub(super) fn put(
        &mut self,
        link: &Link,
        addr: IpAddr,
        prefix: u8,
        valid_lft: Option<u32>,
    ) -> Result<(), NetError> {
        let message = new_address(link.index, addr, prefix, valid_lft);
        let action = || format!("add {addr}/{prefix} to {}", link.name);
        match self.socket.change(Rtm::Newaddr, NlmF::CREATE | NlmF::REPLACE, &message) {
            // Only a kernel that knows no replacing says so, and only if it stands there.
            Err(RequestError::Refused(Errno::EEXIST)) => Ok(()),
            result => result.map_err(|error| kernel_error(error, action, addr, link)),
        }
    }

    /// True if packets to an address of this interface are taken for this node's (`ip route get
    /// ADDR oif DEVICE`). To a new IPv6 address the kernel makes the route in the background
    /// (`addrconf_dad_work`), and says *unreachable* until then.
    pub(super) fn is_received(&mut self, link: &Link, addr: IpAddr) -> Result<bool, NetError> {
        let message = route(addr, None, Some(link.index), false);
        let is_local = |kind, body: &[u8]| {
            Ok(read_route(kind, body)?.map(|route| *route.rtm_type() == Rtn::Local))
        };
        match self.socket.ask(Rtm::Getroute, &message, is_local) {
            Ok(local) => Ok(local == Some(true)),
            // No route at all.
            Err(RequestError::Refused(_)) => Ok(false),
            Err(RequestError::Failed(error)) => Err(error),
        }
    }

    /// Adds the local route of an IPv4 address, as the kernel makes it with the address, so that
    /// it goes with the address too (`fib_add_ifaddr`, net/ipv4/fib_frontend.c; `ip route add local
    /// ADDR dev DEVICE table local proto kernel scope host src SOURCE`).
    pub(super) fn add_local_route(
        &mut self,
        link: &Link,
        addr: Ipv4Addr,
        source: Ipv4Addr,
    ) -> Result<(), NetError> {
        let message = local_route(link.index, addr, source);
        match self.socket.change(Rtm::Newroute, NlmF::CREATE | NlmF::EXCL, &message) {
            Ok(()) | Err(RequestError::Refused(Errno::EEXIST)) => Ok(()),
            Err(error) => {
                let action = || format!("add the local route to {addr} on {}", link.name);
                Err(kernel_error(error, action, addr.into(), link))
            }
        }
    }

    /// Removes an address (`ip addr del`). `Ok(false)` if it was gone already.
    pub(super) fn delete(
        &mut self,
        link: &Link,
        addr: IpAddr,
        prefix: u8,
    ) -> Result<bool, NetError> {
        let message = old_address(link.index, addr, prefix);
        let action = || format!("remove {addr}/{prefix} from {}", link.name);
        match self.socket.change(Rtm::Deladdr, NlmF::empty(), &message) {
            Ok(()) => Ok(true),
            Err(RequestError::Refused(Errno::EADDRNOTAVAIL | Errno::ENODEV | Errno::ENXIO)) => {
                Ok(false)
            }
            Err(error) => Err(kernel_error(error, action, addr, link)),
        }
    }

    /// Makes a tunnel (`ip link add DEVICE type KIND`, with `external` or without), and has the
    /// kernel load its module. `Ok(false)` if the link is there already; the module may have
    /// brought it.
    pub(super) fn make_tunnel(
        &mut self,
        device: &str,
        kind: &str,
        external: bool,
    ) -> Result<bool, NetError> {
        let message = new_tunnel(device, kind, external);
        match self.socket.change(Rtm::Newlink, NlmF::CREATE | NlmF::EXCL, &message) {
            Ok(()) => Ok(true),
            Err(RequestError::Refused(Errno::EEXIST)) => Ok(false),
            // No such kind, and no module for it.
            Err(RequestError::Refused(Errno::EOPNOTSUPP)) => Err(no_interface(device)),
            Err(RequestError::Refused(errno)) => Err(link_refusal("make", device, errno)),
            Err(RequestError::Failed(error)) => Err(error),
        }
    }

    /// Deletes a link (`ip link del`).
    pub(super) fn delete_link(&mut self, old: &Link) -> Result<(), NetError> {
        let message = link(old.index, Iff::empty(), Iff::empty(), Vec::new());
        match self.socket.change(Rtm::Dellink, NlmF::empty(), &message) {
            Ok(()) | Err(RequestError::Refused(Errno::ENODEV)) => Ok(()),
            Err(RequestError::Refused(errno)) => Err(link_refusal("delete", &old.name, errno)),
            Err(RequestError::Failed(error)) => Err(error),
        }
    }

    /// Brings a link up or down (`ip link set DEVICE up`).
    pub(super) fn set_up(&mut self, of: &Link, up: bool) -> Result<(), NetError> {
        let (flags, action) = if up { (Iff::UP, "bring up") } else { (Iff::empty(), "bring down") };
        let message = link(of.index, flags, Iff::UP, Vec::new());
        match self.socket.change(Rtm::Newlink, NlmF::empty(), &message) {
            Ok(()) => Ok(()),
            Err(RequestError::Refused(errno)) => Err(link_refusal(action, &of.name, errno)),
            Err(RequestError::Failed(error)) => Err(error),
        }
    }
}

fn link_refusal(action: &str, device: &str, errno: Errno) -> NetError {
    NetError::Refused { action: format!("{action} {device}"), errno, hint: String::new() }
}

/// There is no interface of this name, and what to do about it.
pub(super) fn no_interface(device: &str) -> NetError {
    let hint = match tunnel_module(device) {
        Some(module) => {
            format!(": cvipd needs the kernel module {module}; try `modprobe {module}`")
        }
        None => ": correct its name in cvip.conf, or create it".to_owned(),
    };
    NetError::NoInterface { device: device.to_owned(), hint }
}

/// A kernel error in words, with what to do about it.
fn kernel_error(
    error: RequestError,
    action: impl Fn() -> String,
    addr: IpAddr,
    link: &Link,
) -> NetError {
    let errno = match error {
        RequestError::Refused(errno) => errno,
        RequestError::Failed(error) => return error,
    };
    let hint = match errno {
        Errno::EACCES if addr.is_ipv6() => {
            let setting = super::sysctl::name(&format!("net/ipv6/conf/{}/disable_ipv6", link.name));
            format!(": IPv6 is disabled there; try `sysctl {setting}=0`")
        }
        Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT if addr.is_ipv6() => {
            ": this kernel was started without IPv6".to_owned()
        }
        _ => String::new(),
    };
    NetError::Refused { action: action(), errno, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        let link = Link {
            index: 2,
            name: "eth0.5".into(),
            is_up: false,
            has_carrier: false,
            is_loopback: false,
            answers_neighbours: true,
            mtu: None,
        };
        let say = |errno, to: &str| {
            let action = || format!("add {to}/128 to {}", link.name);
            kernel_error(RequestError::Refused(errno), action, to.parse().unwrap(), &link)
                .to_string()
        };
        assert_eq!(
            say(Errno::EACCES, "fd00::1"),
            "cannot add fd00::1/128 to eth0.5: Permission denied: IPv6 is disabled there; \
             try `sysctl net.ipv6.conf.eth0/5.disable_ipv6=0`"
        );
        assert!(say(Errno::EPERM, "10.0.0.1").contains("root"));
    }
}
