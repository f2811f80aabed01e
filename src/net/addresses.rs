//! The kernel's links and addresses: listed, added, removed (`ip addr`, `ip link`).
//!
//! Layouts are linux/if_addr.h and linux/if_link.h over rtnetlink(7).

use std::net::{IpAddr, Ipv4Addr};

use nix::errno::Errno;
use nix::libc;

use super::NetError;
use super::desired::tunnel_module;
use super::netlink::{CREATE, EXCLUSIVE, REPLACE, RequestError, RtnetlinkRequest, RtnetlinkSocket};
use crate::netlink::{Writer, table, text, u32_at};

/// A lifetime without end (`INFINITY_LIVENESS_TIME`).
const FOREVER: u32 = u32::MAX;

const AF_INET: u8 = libc::AF_INET as u8;
const AF_INET6: u8 = libc::AF_INET6 as u8;
const IFF_UP: u32 = libc::IFF_UP as u32;
const IFF_LOOPBACK: u32 = libc::IFF_LOOPBACK as u32;
const IFF_NOARP: u32 = libc::IFF_NOARP as u32;
/// `IFF_LOWER_UP` (linux/if.h): there is a carrier.
const IFF_LOWER_UP: u32 = 1 << 16;

/// Attributes of an address (linux/if_addr.h).
mod ifa {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const LOCAL: u16 = 2;
    pub(super) const CACHEINFO: u16 = 6;
    pub(super) const FLAGS: u16 = 8;
    /// `IFA_F_NODAD`: no duplicate address detection.
    pub(super) const F_NODAD: u32 = 0x02;
    /// `IFA_F_NOPREFIXROUTE`: no route to the prefix. The network's own address has made one,
    /// and to a host address on lo it would be one that says *unreachable*.
    pub(super) const F_NOPREFIXROUTE: u32 = 0x200;
}

/// Attributes and types of a route (linux/rtnetlink.h).
mod rta {
    pub(super) const DST: u16 = 1;
    pub(super) const OIF: u16 = 4;
    pub(super) const PREFSRC: u16 = 7;
    /// `RT_TABLE_LOCAL`, `RTPROT_KERNEL`, `RT_SCOPE_HOST`.
    pub(super) const TABLE_LOCAL: u8 = 255;
    pub(super) const BY_KERNEL: u8 = 2;
    pub(super) const SCOPE_HOST: u8 = 254;
    /// `RTN_LOCAL`: packets to it are for this node.
    pub(super) const LOCAL: u8 = 2;
}

/// Attributes of a link (linux/if_link.h).
mod ifla {
    pub(super) const IFNAME: u16 = 3;
    // MTU, 32 bits, is 4.
    pub(super) const EXT_MASK: u16 = 29;
    /// `IFLA_LINKINFO`, and what it contains.
    pub(super) const LINKINFO: u16 = 18;
    pub(super) const INFO_KIND: u16 = 1;
    pub(super) const INFO_DATA: u16 = 2;
    /// `IFLA_IPTUN_COLLECT_METADATA` (linux/if_tunnel.h).
    pub(super) const IPTUN_COLLECT_METADATA: u16 = 19;
    /// `RTEXT_FILTER_SKIP_STATS`: spares most of a link's bytes.
    pub(super) const SKIP_STATS: u32 = 1 << 3;
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// The kernel's number for it.
    pub(super) index: u32,
    /// Its name; what is not UTF-8 shows as U+FFFD.
    pub(super) name: String,
    /// `IFF_*`, netdevice(7).
    flags: u32,
    /// Bytes of the largest packet.
    pub(super) mtu: Option<u32>,
}

impl Link {
    /// True if it is administratively up.
    pub(super) fn is_up(&self) -> bool {
        self.flags & IFF_UP != 0
    }

    /// True if it has a carrier.
    pub(super) fn has_carrier(&self) -> bool {
        self.flags & IFF_LOWER_UP != 0
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.flags & IFF_LOOPBACK != 0
    }

    /// True if neighbours are answered on it.
    pub(super) fn answers_neighbours(&self) -> bool {
        self.flags & (IFF_LOOPBACK | IFF_NOARP) == 0
    }
}

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The node's own address.
    pub addr: IpAddr,
    /// Prefix length.
    pub prefix: u8,
    /// The address that the prefix is of: the own one, or a peer's.
    pub network: IpAddr,
    /// The interface's number.
    pub index: u32,
    /// Seconds until the kernel drops it; none: never.
    pub valid_lft: Option<u32>,
}

impl Address {
    /// True if the network on this interface, of more than one address, contains `addr`.
    pub fn reaches(&self, addr: IpAddr) -> bool {
        self.prefix < host_prefix(self.network)
            && match (self.network, addr) {
                (IpAddr::V4(a), IpAddr::V4(b)) => {
                    let differing = u32::from(a) ^ u32::from(b);
                    differing.unbounded_shr(32 - u32::from(self.prefix)) == 0
                }
                (IpAddr::V6(a), IpAddr::V6(b)) => {
                    let differing = u128::from(a) ^ u128::from(b);
                    differing.unbounded_shr(128 - u32::from(self.prefix)) == 0
                }
                _ => false,
            }
    }
}

/// The prefix length of a single address: 32 or 128.
pub fn host_prefix(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

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
        let request = RtnetlinkRequest::new(libc::RTM_GETLINK, 0, &link_header(0, 0, 0))
            .attribute(ifla::EXT_MASK, &ifla::SKIP_STATS.to_ne_bytes());
        self.socket.dump(&request, parse_link)
    }

    /// Every address of both families, in the kernel's order (`ip addr`).
    pub(super) fn addresses(&mut self) -> Result<Vec<Address>, NetError> {
        // AF_UNSPEC: both.
        let request = RtnetlinkRequest::new(libc::RTM_GETADDR, 0, &address_header(0, 0, 0));
        self.socket.dump(&request, parse_address)
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
        let request = put_request(link.index, addr, prefix, valid_lft);
        let action = || format!("add {addr}/{prefix} to {}", link.name);
        match self.socket.change(&request) {
            // Only a kernel that knows no replacing says so, and only if it stands there.
            Err(RequestError::Refused(Errno::EEXIST)) => Ok(()),
            result => result.map_err(|error| kernel_error(error, action, addr, link)),
        }
    }

    /// True if packets to an address of this interface are taken for this node's (`ip route get
    /// ADDR oif DEVICE`). To a new IPv6 address the kernel makes the route in the background
    /// (`addrconf_dad_work`), and says *unreachable* until then.
    pub(super) fn is_received(&mut self, link: &Link, addr: IpAddr) -> Result<bool, NetError> {
        // struct rtmsg: family, length of the destination, and fields that a question leaves 0.
        let header = [family(addr), host_prefix(addr), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let request = with_destination(RtnetlinkRequest::new(libc::RTM_GETROUTE, 0, &header), addr)
            .attribute(rta::OIF, &link.index.to_ne_bytes());
        let is_local = |_, body: &[u8]| {
            let kind = body.get(7).ok_or(NetError::Malformed("a route that is cut short"))?;
            Ok(Some(*kind == rta::LOCAL))
        };
        match self.socket.ask(&request, is_local) {
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
        match self.socket.change(&local_route_request(link.index, addr, source)) {
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
        let header = address_header(family(addr), prefix, link.index);
        let request = RtnetlinkRequest::new(libc::RTM_DELADDR, 0, &header);
        let request = with_address(request, addr);
        let action = || format!("remove {addr}/{prefix} from {}", link.name);
        match self.socket.change(&request) {
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
        match self.socket.change(&tunnel_request(device, kind, external)) {
            Ok(()) => Ok(true),
            Err(RequestError::Refused(Errno::EEXIST)) => Ok(false),
            // No such kind, and no module for it.
            Err(RequestError::Refused(Errno::EOPNOTSUPP)) => Err(no_interface(device)),
            Err(RequestError::Refused(errno)) => Err(link_refusal("make", device, errno)),
            Err(RequestError::Failed(error)) => Err(error),
        }
    }

    /// Deletes a link (`ip link del`).
    pub(super) fn delete_link(&mut self, link: &Link) -> Result<(), NetError> {
        let request = RtnetlinkRequest::new(libc::RTM_DELLINK, 0, &link_header(link.index, 0, 0));
        match self.socket.change(&request) {
            Ok(()) | Err(RequestError::Refused(Errno::ENODEV)) => Ok(()),
            Err(RequestError::Refused(errno)) => Err(link_refusal("delete", &link.name, errno)),
            Err(RequestError::Failed(error)) => Err(error),
        }
    }

    /// Brings a link up or down (`ip link set DEVICE up`).
    pub(super) fn set_up(&mut self, link: &Link, up: bool) -> Result<(), NetError> {
        let flags = if up { IFF_UP } else { 0 };
        let request =
            RtnetlinkRequest::new(libc::RTM_NEWLINK, 0, &link_header(link.index, flags, IFF_UP));
        match self.socket.change(&request) {
            Ok(()) => Ok(()),
            Err(RequestError::Refused(errno)) => {
                Err(link_refusal(if up { "bring up" } else { "bring down" }, &link.name, errno))
            }
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
            format!(": cvipd needs the kernel module {module}; try `modprobe {module}'")
        }
        None => ": correct its name in cvip.conf, or create it".to_owned(),
    };
    NetError::NoInterface { device: device.to_owned(), hint }
}

/// A refusal in words, with what to do about it.
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
            format!(": IPv6 is disabled there; try `sysctl {setting}=0'")
        }
        Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT if addr.is_ipv6() => {
            ": this kernel was started without IPv6".to_owned()
        }
        _ => String::new(),
    };
    NetError::Refused { action: action(), errno, hint }
}

fn family(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// `struct ifaddrmsg`: family, prefix length, flags, scope (0: everywhere), interface.
fn address_header(family: u8, prefix: u8, index: u32) -> [u8; 8] {
    let [a, b, c, d] = index.to_ne_bytes();
    [family, prefix, 0, 0, a, b, c, d]
}

/// `struct ifinfomsg`: family and padding, type (16 bits), interface, flags, which flags count.
fn link_header(index: u32, flags: u32, mask: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&mask.to_ne_bytes());
    header
}

fn with_address(request: RtnetlinkRequest, addr: IpAddr) -> RtnetlinkRequest {
    let both =
        |value: &[u8]| request.clone().attribute(ifa::LOCAL, value).attribute(ifa::ADDRESS, value);
    match addr {
        IpAddr::V4(addr) => both(&addr.octets()),
        IpAddr::V6(addr) => both(&addr.octets()),
    }
}

fn with_destination(request: RtnetlinkRequest, addr: IpAddr) -> RtnetlinkRequest {
    match addr {
        IpAddr::V4(addr) => request.attribute(rta::DST, &addr.octets()),
        IpAddr::V6(addr) => request.attribute(rta::DST, &addr.octets()),
    }
}

fn local_route_request(index: u32, addr: Ipv4Addr, source: Ipv4Addr) -> RtnetlinkRequest {
    // struct rtmsg: family, lengths of destination and source, type of service, table, protocol,
    // scope, type, flags.
    let (table, protocol, scope) = (rta::TABLE_LOCAL, rta::BY_KERNEL, rta::SCOPE_HOST);
    let header = [AF_INET, 32, 0, 0, table, protocol, scope, rta::LOCAL, 0, 0, 0, 0];
    let request = RtnetlinkRequest::new(libc::RTM_NEWROUTE, CREATE | EXCLUSIVE, &header);
    with_destination(request, addr.into())
        .attribute(rta::OIF, &index.to_ne_bytes())
        .attribute(rta::PREFSRC, &source.octets())
}

fn tunnel_request(device: &str, kind: &str, external: bool) -> RtnetlinkRequest {
    let nul_terminated = |text: &str| [text.as_bytes(), b"\0"].concat();
    let (mut info, mut data) = (Vec::new(), Vec::new());
    Writer::append(&mut info).bytes(ifla::INFO_KIND, kind.as_bytes());
    if external {
        Writer::append(&mut data).bytes(ifla::IPTUN_COLLECT_METADATA, &[]);
        Writer::append(&mut info).bytes(ifla::INFO_DATA, &data);
    }
    RtnetlinkRequest::new(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &link_header(0, 0, 0))
        .attribute(ifla::IFNAME, &nul_terminated(device))
        .attribute(ifla::LINKINFO, &info)
}

fn put_request(index: u32, addr: IpAddr, prefix: u8, valid_lft: Option<u32>) -> RtnetlinkRequest {
    let header = address_header(family(addr), prefix, index);
    let request = RtnetlinkRequest::new(libc::RTM_NEWADDR, CREATE | REPLACE, &header);
    let mut request = with_address(request, addr);
    let valid = valid_lft.unwrap_or(FOREVER);
    let mut preferred = valid;
    if addr.is_ipv6() {
        preferred = 0;
        let flags = ifa::F_NODAD | ifa::F_NOPREFIXROUTE;
        request = request.attribute(ifa::FLAGS, &flags.to_ne_bytes());
    }
    // struct ifa_cacheinfo: preferred and valid seconds, and two times that the kernel fills.
    let lifetimes = [preferred, valid, 0, 0].map(u32::to_ne_bytes);
    request.attribute(ifa::CACHEINFO, lifetimes.as_flattened())
}

fn parse_link(kind: u16, body: &[u8]) -> Result<Option<Link>, NetError> {
    const HEADER: usize = 16;
    if kind != libc::RTM_NEWLINK {
        return Ok(None);
    }
    let cut = || NetError::Malformed("a link that is cut short");
    let index = u32_at(body, 4).ok_or_else(cut)?;
    let flags = u32_at(body, 8).ok_or_else(cut)?;
    let [_, _, _, name, mtu] = table(body.get(HEADER..).ok_or_else(cut)?)?;
    let name = text(name.ok_or(NetError::Malformed("a link without a name"))?);
    let mtu = mtu.map(|value| u32_at(value, 0).ok_or_else(cut)).transpose()?;
    Ok(Some(Link { index, name, flags, mtu }))
}

fn parse_address(kind: u16, body: &[u8]) -> Result<Option<Address>, NetError> {
    const HEADER: usize = 8;
    if kind != libc::RTM_NEWADDR {
        return Ok(None);
    }
    let cut = || NetError::Malformed("an address that is cut short");
    let [family, prefix, ..] = *body else { return Err(cut()) };
    let index = u32_at(body, 4).ok_or_else(cut)?;
    let read = |value: &[u8]| match family {
        AF_INET => <[u8; 4]>::try_from(value).map(IpAddr::from).map_err(|_| cut()),
        _ => <[u8; 16]>::try_from(value).map(IpAddr::from).map_err(|_| cut()),
    };
    if family != AF_INET && family != AF_INET6 {
        return Ok(None);
    }
    let [_, address, local, _, _, _, lifetimes] = table(body.get(HEADER..).ok_or_else(cut)?)?;
    let (local, address) = (local.map(read).transpose()?, address.map(read).transpose()?);
    let valid_lft = lifetimes.map(|value| u32_at(value, 4).ok_or_else(cut)).transpose()?;
    let valid_lft = valid_lft.filter(|seconds| *seconds != FOREVER);
    // IPv4 always has LOCAL; IPv6 has it with a peer only.
    let addr = local
        .or(address)
        .ok_or(NetError::Malformed("an interface's address without an address"))?;
    let network = address.unwrap_or(addr);
    if prefix > host_prefix(addr) {
        return Err(NetError::Malformed("an impossible prefix length"));
    }
    Ok(Some(Address { addr, prefix, network, index, valid_lft }))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;
    use crate::netlink::{Body, Messages};

    /// The type and the body of the only message.
    fn reply(bytes: &[u8]) -> (u16, &[u8]) {
        match Messages::new(bytes).next().unwrap().unwrap().body {
            Body::Reply(kind, body) => (kind, body),
            body => panic!("{body:?}"),
        }
    }

    fn parsed(bytes: &[u8]) -> Result<Option<Address>, NetError> {
        let (kind, body) = reply(bytes);
        parse_address(kind, body)
    }

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_ipv6_address_is_added_without_detection_and_never_preferred() {
        let expected = [
            &(16 + 8 + 20 + 20 + 8 + 20u32).to_ne_bytes()[..], // nlmsg_len
            &20u16.to_ne_bytes(),                              // RTM_NEWADDR
            &(1u16 | 0x400 | 0x100).to_ne_bytes(),             // REQUEST, CREATE, REPLACE
            &9u32.to_ne_bytes(),                               // nlmsg_seq
            &0u32.to_ne_bytes(),                               // nlmsg_pid
            &[10, 128, 0, 0],                                  // AF_INET6, prefix, flags, scope
            &3u32.to_ne_bytes(),                               // ifa_index
            &20u16.to_ne_bytes(),                              // nla_len
            &2u16.to_ne_bytes(),                               // IFA_LOCAL
            &"fd00::64".parse::<Ipv6Addr>().unwrap().octets(), //
            &20u16.to_ne_bytes(),                              // nla_len
            &1u16.to_ne_bytes(),                               // IFA_ADDRESS
            &"fd00::64".parse::<Ipv6Addr>().unwrap().octets(), //
            &8u16.to_ne_bytes(),                               // nla_len
            &8u16.to_ne_bytes(),                               // IFA_FLAGS
            &0x202u32.to_ne_bytes(),                           // IFA_F_NODAD, IFA_F_NOPREFIXROUTE
            &20u16.to_ne_bytes(),                              // nla_len
            &6u16.to_ne_bytes(),                               // IFA_CACHEINFO
            &0u32.to_ne_bytes(),                               // ifa_prefered
            &10u32.to_ne_bytes(),                              // ifa_valid
            &[0; 8],                                           // cstamp, tstamp
        ]
        .concat();
        let bytes = put_request(3, addr("fd00::64"), 128, Some(10)).finish(0, 9);
        assert_eq!(bytes, expected);
        let address = Address {
            addr: addr("fd00::64"),
            prefix: 128,
            network: addr("fd00::64"),
            index: 3,
            valid_lft: Some(10),
        };
        assert_eq!(parsed(&bytes), Ok(Some(address)));
    }

    #[test]
    fn an_ipv4_address_without_a_lifetime_stays_for_ever() {
        let bytes = put_request(1, addr("10.0.0.100"), 32, None).finish(0, 1);
        let address = parsed(&bytes).unwrap().unwrap();
        assert_eq!((address.addr, address.prefix), (addr("10.0.0.100"), 32));
        assert_eq!(address.valid_lft, None);
        assert!(!bytes.windows(4).any(|part| part == [8, 0, 8, 0]), "no IFA_FLAGS");
    }

    #[test]
    fn the_own_address_of_a_link_with_a_peer_is_the_local_one() {
        let request = RtnetlinkRequest::new(libc::RTM_NEWADDR, 0, &address_header(AF_INET, 24, 5))
            .attribute(ifa::ADDRESS, &[10, 9, 0, 1])
            .attribute(ifa::LOCAL, &[10, 1, 0, 1]);
        let address = parsed(&request.finish(0, 1)).unwrap().unwrap();
        assert_eq!(address.addr, addr("10.1.0.1"));
        assert!(address.reaches(addr("10.9.0.200")));
        assert!(!address.reaches(addr("10.1.0.200")));
    }

    #[test]
    fn a_host_address_reaches_nobody_and_a_default_prefix_everybody_of_its_family() {
        let reaches = |network: &str, prefix, other: &str| {
            let network = addr(network);
            Address { addr: network, prefix, network, index: 1, valid_lft: None }
                .reaches(addr(other))
        };
        assert!(!reaches("10.0.0.1", 32, "10.0.0.1"));
        assert!(reaches("10.0.0.1", 31, "10.0.0.0"));
        assert!(!reaches("10.0.0.1", 31, "10.0.0.2"));
        assert!(reaches("10.0.0.1", 0, "192.0.2.1"));
        assert!(!reaches("10.0.0.1", 0, "fd00::1"));
        assert!(reaches("fd00::1", 64, "fd00::ffff"));
        assert!(!reaches("fd00::1", 64, "fd00:0:0:1::1"));
        assert!(!reaches("fd00::1", 128, "fd00::1"));
    }

    #[test]
    fn an_address_of_the_wrong_length_is_an_error_and_of_another_family_nothing() {
        let with = |family, prefix, value: &[u8]| {
            let header = address_header(family, prefix, 1);
            let request = RtnetlinkRequest::new(libc::RTM_NEWADDR, 0, &header);
            parsed(&request.attribute(ifa::LOCAL, value).finish(0, 1))
        };
        assert!(with(AF_INET, 24, &[1; 16]).is_err());
        assert!(with(AF_INET6, 64, &[1; 4]).is_err());
        assert!(with(AF_INET, 33, &[1; 4]).is_err());
        assert_eq!(with(17, 24, &[1; 4]), Ok(None));
    }

    #[test]
    fn a_link_is_its_number_its_name_and_its_flags() {
        let header = link_header(7, IFF_UP | IFF_NOARP, 0);
        let request = RtnetlinkRequest::new(libc::RTM_NEWLINK, 0, &header);
        let named = request.clone().attribute(ifla::IFNAME, b"tunl0\0");
        let bytes = named.clone().attribute(4, &1480u32.to_ne_bytes()).finish(0, 1);
        let (kind, body) = reply(&bytes);
        let link = parse_link(kind, body).unwrap().unwrap();
        assert_eq!((link.index, link.name.as_str(), link.mtu), (7, "tunl0", Some(1480)));
        assert!(link.is_up() && !link.has_carrier());
        assert!(!link.answers_neighbours() && !link.is_loopback());

        let bytes = named.attribute(4, &[0; 2]).finish(0, 1);
        let (kind, body) = reply(&bytes);
        assert!(parse_link(kind, body).is_err());

        let nameless = request.finish(0, 1);
        let (kind, body) = reply(&nameless);
        assert!(parse_link(kind, body).is_err());
    }

    #[test]
    fn a_local_route_is_added_as_the_kernel_makes_it() {
        let (addr, source) = ([10, 0, 0, 100].into(), [10, 0, 0, 1].into());
        let bytes = local_route_request(2, addr, source).finish(0, 1);
        let expected = [
            &[AF_INET, 32, 0, 0, 255, 2, 254, 2][..], // local table, kernel, host, local
            &0u32.to_ne_bytes(),                      // rtm_flags
            &8u16.to_ne_bytes(),                      // rta_len
            &1u16.to_ne_bytes(),                      // RTA_DST
            &[10, 0, 0, 100],
            &8u16.to_ne_bytes(), // rta_len
            &4u16.to_ne_bytes(), // RTA_OIF
            &2u32.to_ne_bytes(),
            &8u16.to_ne_bytes(), // rta_len
            &7u16.to_ne_bytes(), // RTA_PREFSRC
            &[10, 0, 0, 1],
        ]
        .concat();
        assert_eq!(bytes[16..], expected);
    }

    #[test]
    fn a_tunnel_is_asked_for_by_name_and_kind_and_metadata() {
        let bytes = tunnel_request("cvip4in6", "ip6tnl", true).finish(0, 1);
        let expected = [
            &13u16.to_ne_bytes()[..], // nla_len
            &3u16.to_ne_bytes(),      // IFLA_IFNAME
            b"cvip4in6\0\0\0\0",
            &24u16.to_ne_bytes(), // nla_len
            &18u16.to_ne_bytes(), // IFLA_LINKINFO
            &10u16.to_ne_bytes(), // nla_len
            &1u16.to_ne_bytes(),  // IFLA_INFO_KIND
            b"ip6tnl\0\0",
            &8u16.to_ne_bytes(),  // nla_len
            &2u16.to_ne_bytes(),  // IFLA_INFO_DATA
            &4u16.to_ne_bytes(),  // nla_len
            &19u16.to_ne_bytes(), // IFLA_IPTUN_COLLECT_METADATA, a flag
        ]
        .concat();
        assert_eq!(bytes[6..8], (1u16 | 0x400 | 0x200).to_ne_bytes()); // REQUEST, CREATE, EXCL
        assert_eq!(bytes[16..32], [0; 16]); // a new link has no number yet
        assert_eq!(bytes[32..], expected);
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let link = Link { index: 2, name: "eth0.5".into(), flags: 0, mtu: None };
        let say = |errno, to: &str| {
            let action = || format!("add {to}/128 to {}", link.name);
            kernel_error(RequestError::Refused(errno), action, addr(to), &link).to_string()
        };
        assert_eq!(
            say(Errno::EACCES, "fd00::1"),
            "cannot add fd00::1/128 to eth0.5: Permission denied: IPv6 is disabled there; \
             try `sysctl net.ipv6.conf.eth0/5.disable_ipv6=0'"
        );
        assert!(say(Errno::EPERM, "10.0.0.1").contains("root"));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_received_is_read_or_refused(
            kind in proptest::sample::select(vec![libc::RTM_NEWADDR, libc::RTM_NEWLINK]),
            family in proptest::sample::select(vec![AF_INET, AF_INET6, 0]),
            mut body in proptest::collection::vec(0u8..24, 0..120),
        ) {
            if let Some(first) = body.first_mut() {
                *first = family;
            }
            let _ = parse_link(kind, &body);
            if let Ok(Some(address)) = parse_address(kind, &body) {
                proptest::prop_assert!(address.prefix <= host_prefix(address.addr));
                address.reaches(address.addr);
            }
        }
    }
}
