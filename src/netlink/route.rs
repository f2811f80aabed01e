//! rtnetlink's messages about links, addresses and routes, in neli's types: written, and read
//! into what this program knows of them.
//!
//! What the kernel says that this program does not know is skipped. Layouts are linux/if_link.h,
//! linux/if_addr.h and linux/rtnetlink.h.

use std::net::{IpAddr, Ipv4Addr};

use neli::consts::rtnl::{
    Ifa, IfaF, Iff, Ifla, IflaInfo, RtAddrFamily, RtScope, RtTable, Rta, Rtm, RtmF, Rtn, Rtprot,
};
use neli::rtnl::{
    Ifaddrmsg, IfaddrmsgBuilder, Ifinfomsg, IfinfomsgBuilder, Rtattr, Rtmsg, RtmsgBuilder,
};
use neli::types::{Buffer, RtBuffer};
use nix::libc;

use super::body::{c_string, read, routing, value};
use super::frame::{MalformedMessage, text, u32_at};

/// A lifetime without end (`INFINITY_LIFE_TIME`).
const FOREVER: u32 = u32::MAX;
/// `IFA_F_NOPREFIXROUTE`, of the 32-bit flags only: no route to the prefix. The network's own
/// address has made one, and to a host address on lo it would be one that says *unreachable*.
const NO_PREFIX_ROUTE: u32 = 0x200;
/// `IFLA_IPTUN_COLLECT_METADATA` (linux/if_tunnel.h).
const COLLECT_METADATA: u16 = 19;
/// `RTA_VIA`, and `RTM_F_FIB_MATCH`: the route that matched, and not what was made of it. neli
/// names them for glibc only.
const VIA: u16 = 18;
const FIB_MATCH: u32 = 0x2000;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name; what is not UTF-8 shows as U+FFFD.
    pub name: String,
    /// It is administratively up.
    pub is_up: bool,
    /// It has a carrier.
    pub has_carrier: bool,
    /// It is `lo`, or another loopback.
    pub is_loopback: bool,
    /// Neighbours are answered on it.
    pub answers_neighbours: bool,
    /// Bytes of the largest packet, where the kernel says.
    pub mtu: Option<u32>,
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

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The next hop; none: the addressee is a neighbour, or the interface has but one end.
    pub gateway: Option<IpAddr>,
    /// The interface's number.
    pub device: u32,
}

// ---------------------------------------------------------------------------------- requests

/// A message about a link: its flags count as far as `change` has them.
pub(crate) fn link(
    index: u32,
    flags: Iff,
    change: Iff,
    attributes: Vec<Rtattr<Ifla, Buffer>>,
) -> Ifinfomsg {
    IfinfomsgBuilder::default()
        .ifi_family(RtAddrFamily::Unspecified)
        .ifi_index(index.cast_signed())
        .ifi_flags(flags)
        .ifi_change(change)
        .rtattrs(attributes.into_iter().collect())
        .build()
        .expect("every field is given")
}

/// The question for every link, without the counters, which are most of a link's bytes.
pub(crate) fn every_link() -> Ifinfomsg {
    let mask = routing(Ifla::ExtMask, libc::RTEXT_FILTER_SKIP_STATS);
    link(0, Iff::empty(), Iff::empty(), vec![mask])
}

/// A new tunnel of this kind.
pub(crate) fn new_tunnel(device: &str, kind: &str, external: bool) -> Ifinfomsg {
    let mut info: RtBuffer<IflaInfo, Buffer> = RtBuffer::new();
    info.push(routing(IflaInfo::Kind, kind.as_bytes()));
    if external {
        info.push(routing(IflaInfo::Data, routing(COLLECT_METADATA, ())));
    }
    let attributes = vec![routing(Ifla::Ifname, c_string(device)), routing(Ifla::Linkinfo, info)];
    link(0, Iff::empty(), Iff::empty(), attributes)
}

/// A message about an address of the interface with this number.
pub(crate) fn address(
    family: RtAddrFamily,
    prefix: u8,
    index: u32,
    attributes: Vec<Rtattr<Ifa, Buffer>>,
) -> Ifaddrmsg {
    IfaddrmsgBuilder::default()
        .ifa_family(family)
        .ifa_prefixlen(prefix)
        .ifa_scope(RtScope::Universe)
        .ifa_index(index)
        .rtattrs(attributes.into_iter().collect())
        .build()
        .expect("every field is given")
}

/// The question for every address of both families.
pub(crate) fn every_address() -> Ifaddrmsg {
    address(RtAddrFamily::Unspecified, 0, 0, Vec::new())
}

/// An address that is to go.
pub(crate) fn old_address(index: u32, addr: IpAddr, prefix: u8) -> Ifaddrmsg {
    address(family(addr), prefix, index, own_address(addr))
}

/// An address that is to come, or to get this lifetime in seconds. An IPv6 address comes without
/// duplicate address detection, and is never preferred.
pub(crate) fn new_address(
    index: u32,
    addr: IpAddr,
    prefix: u8,
    valid_lft: Option<u32>,
) -> Ifaddrmsg {
    let mut attributes = own_address(addr);
    let valid = valid_lft.unwrap_or(FOREVER);
    let mut preferred = valid;
    if addr.is_ipv6() {
        preferred = 0;
        let flags = u32::from(IfaF::NODAD.bits()) | NO_PREFIX_ROUTE;
        attributes.push(routing(Ifa::Flags, flags));
    }
    // struct ifa_cacheinfo: preferred and valid seconds, and two times that the kernel fills.
    attributes.push(routing(Ifa::Cacheinfo, vec![preferred, valid, 0, 0]));
    address(family(addr), prefix, index, attributes)
}

fn own_address(addr: IpAddr) -> Vec<Rtattr<Ifa, Buffer>> {
    [Ifa::Local, Ifa::Address].map(|kind| routing(kind, octets(addr))).into()
}

/// The question for the route to `to`, from an address or out of an interface if one is given;
/// with `matched` for the route as it stands in the table.
pub(crate) fn route(to: IpAddr, from: Option<IpAddr>, device: Option<u32>, matched: bool) -> Rtmsg {
    let flags = if matched { FIB_MATCH } else { 0 };
    let from = from.map(|from| routing(Rta::Src, octets(from)));
    let source_length = if from.is_some() { host_prefix(to) } else { 0 };
    let place = (RtTable::Unspec, Rtprot::Unspec, RtScope::Universe, Rtn::Unspec);
    let device = device.map(|index| routing(Rta::Oif, index));
    route_message(to, source_length, place, flags, from.into_iter().chain(device))
}

/// The local route to an IPv4 address, as the kernel makes it with the address.
pub(crate) fn local_route(index: u32, addr: Ipv4Addr, source: Ipv4Addr) -> Rtmsg {
    let place = (RtTable::Local, Rtprot::Kernel, RtScope::Host, Rtn::Local);
    let attributes = [routing(Rta::Oif, index), routing(Rta::Prefsrc, source.octets())];
    route_message(addr.into(), 0, place, 0, attributes)
}

fn route_message(
    to: IpAddr,
    source_length: u8,
    (table, protocol, scope, kind): (RtTable, Rtprot, RtScope, Rtn),
    flags: u32,
    attributes: impl IntoIterator<Item = Rtattr<Rta, Buffer>>,
) -> Rtmsg {
    RtmsgBuilder::default()
        .rtm_family(family(to))
        .rtm_dst_len(host_prefix(to))
        .rtm_src_len(source_length)
        .rtm_tos(0)
        .rtm_table(table)
        .rtm_protocol(protocol)
        .rtm_scope(scope)
        .rtm_type(kind)
        .rtm_flags(RtmF::from_bits_retain(flags))
        .rtattrs([routing(Rta::Dst, octets(to))].into_iter().chain(attributes).collect())
        .build()
        .expect("every field is given")
}

fn family(addr: IpAddr) -> RtAddrFamily {
    if addr.is_ipv4() { RtAddrFamily::Inet } else { RtAddrFamily::Inet6 }
}

fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

// ----------------------------------------------------------------------------------- replies

/// The link that a message of type `kind` shows.
pub(crate) fn read_link(kind: u16, body: &[u8]) -> Result<Option<Link>, MalformedMessage> {
    if Rtm::from(kind) != Rtm::Newlink {
        return Ok(None);
    }
    let message: Ifinfomsg = read(body)?;
    let name = value(message.rtattrs(), Ifla::Ifname);
    let flags = *message.ifi_flags();
    Ok(Some(Link {
        index: message.ifi_index().cast_unsigned(),
        name: text(name.ok_or(MalformedMessage("a link without a name"))?),
        is_up: flags.contains(Iff::UP),
        has_carrier: flags.contains(Iff::LOWERUP),
        is_loopback: flags.contains(Iff::LOOPBACK),
        answers_neighbours: !flags.intersects(Iff::LOOPBACK | Iff::NOARP),
        mtu: value(message.rtattrs(), Ifla::Mtu).map(|mtu| word(mtu, 0)).transpose()?,
    }))
}

/// The address that a message of type `kind` shows.
pub(crate) fn read_address(kind: u16, body: &[u8]) -> Result<Option<Address>, MalformedMessage> {
    if Rtm::from(kind) != Rtm::Newaddr {
        return Ok(None);
    }
    let message: Ifaddrmsg = read(body)?;
    let family = *message.ifa_family();
    if ![RtAddrFamily::Inet, RtAddrFamily::Inet6].contains(&family) {
        return Ok(None);
    }
    let addr = |kind| value(message.rtattrs(), kind).map(|v| addr_of(family, v)).transpose();
    let (local, address) = (addr(Ifa::Local)?, addr(Ifa::Address)?);
    let lifetimes = value(message.rtattrs(), Ifa::Cacheinfo);
    let valid_lft = lifetimes.map(|lifetimes| word(lifetimes, 4)).transpose()?;
    // IPv4 always has LOCAL; IPv6 has it with a peer only.
    let addr = local.or(address);
    let addr = addr.ok_or(MalformedMessage("an interface's address without an address"))?;
    let prefix = *message.ifa_prefixlen();
    if prefix > host_prefix(addr) {
        return Err(MalformedMessage("an impossible prefix length"));
    }
    Ok(Some(Address {
        addr,
        prefix,
        network: address.unwrap_or(addr),
        index: *message.ifa_index(),
        valid_lft: valid_lft.filter(|seconds| *seconds != FOREVER),
    }))
}

/// The route that a message of type `kind` shows, with its type and the prefix length of its
/// destination.
pub(crate) fn read_route(kind: u16, body: &[u8]) -> Result<Option<Rtmsg>, MalformedMessage> {
    if Rtm::from(kind) != Rtm::Newroute { Ok(None) } else { read(body).map(Some) }
}

/// Where a route leads that leaves this host.
pub(crate) fn way_out(route: &Rtmsg) -> Result<Option<Route>, MalformedMessage> {
    let device = value(route.rtattrs(), Rta::Oif);
    let Some(device) = device.filter(|_| *route.rtm_type() == Rtn::Unicast) else {
        return Ok(None);
    };
    // struct rtvia: the family in 16 bits, then the address.
    let via = value(route.rtattrs(), Rta::from(VIA)).map(|via| via.get(2..).unwrap_or(&[]));
    let gateway = value(route.rtattrs(), Rta::Gateway).or(via).map(|octets| {
        let family = if octets.len() == 4 { RtAddrFamily::Inet } else { RtAddrFamily::Inet6 };
        addr_of(family, octets)
    });
    Ok(Some(Route { gateway: gateway.transpose()?, device: word(device, 0)? }))
}

fn word(value: &[u8], at: usize) -> Result<u32, MalformedMessage> {
    u32_at(value, at).ok_or(MalformedMessage("a truncated number"))
}

fn addr_of(family: RtAddrFamily, octets: &[u8]) -> Result<IpAddr, MalformedMessage> {
    let addr = match family {
        RtAddrFamily::Inet => <[u8; 4]>::try_from(octets).map(IpAddr::from),
        _ => <[u8; 16]>::try_from(octets).map(IpAddr::from),
    };
    addr.map_err(|_| MalformedMessage("an address of the wrong length"))
}

// -------------------------------------------------------------------------------------- noise

/// Reads a message as all that it could be; gives the number of things that could be read.
#[cfg(feature = "internal")]
pub(crate) fn read_anything(kind: u16, body: &[u8]) -> usize {
    let route = read_route(kind, body).ok().flatten();
    if let Ok(Some(address)) = read_address(kind, body) {
        assert!(address.prefix <= host_prefix(address.addr));
        std::hint::black_box(address.reaches(address.addr));
        return 1;
    }
    usize::from(matches!(read_link(kind, body), Ok(Some(_))))
        + usize::from(route.is_some_and(|route| way_out(&route).is_ok()))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::super::body::to_vec;

    use super::*;

    const NEWADDR: u16 = 20;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_ipv6_address_is_added_without_detection_and_never_preferred() {
        let expected = [
            &[10, 128, 0, 0][..], // AF_INET6, prefix, flags, scope
            &3u32.to_ne_bytes(),  // ifa_index
            &20u16.to_ne_bytes(), // nla_len
            &2u16.to_ne_bytes(),  // IFA_LOCAL
            &"fd00::64".parse::<Ipv6Addr>().unwrap().octets(), //
            &20u16.to_ne_bytes(), // nla_len
            &1u16.to_ne_bytes(),  // IFA_ADDRESS
            &"fd00::64".parse::<Ipv6Addr>().unwrap().octets(), //
            &8u16.to_ne_bytes(),  // nla_len
            &8u16.to_ne_bytes(),  // IFA_FLAGS
            &0x202u32.to_ne_bytes(), // IFA_F_NODAD, IFA_F_NOPREFIXROUTE
            &20u16.to_ne_bytes(), // nla_len
            &6u16.to_ne_bytes(),  // IFA_CACHEINFO
            &0u32.to_ne_bytes(),  // ifa_prefered
            &10u32.to_ne_bytes(), // ifa_valid
            &[0; 8],              // cstamp, tstamp
        ]
        .concat();
        let bytes = to_vec(&new_address(3, addr("fd00::64"), 128, Some(10)));
        assert_eq!(bytes, expected);
        let address = Address {
            addr: addr("fd00::64"),
            prefix: 128,
            network: addr("fd00::64"),
            index: 3,
            valid_lft: Some(10),
        };
        assert_eq!(read_address(NEWADDR, &bytes), Ok(Some(address)));
    }

    #[test]
    fn an_ipv4_address_without_a_lifetime_stays_for_ever() {
        let bytes = to_vec(&new_address(1, addr("10.0.0.100"), 32, None));
        let address = read_address(NEWADDR, &bytes).unwrap().unwrap();
        assert_eq!((address.addr, address.prefix), (addr("10.0.0.100"), 32));
        assert_eq!(address.valid_lft, None);
        assert!(!bytes.windows(4).any(|part| part == [8, 0, 8, 0]), "no IFA_FLAGS");
    }

    #[test]
    fn the_own_address_of_a_link_with_a_peer_is_the_local_one() {
        let peer = routing(Ifa::Address, [10, 9, 0, 1]);
        let own = routing(Ifa::Local, [10, 1, 0, 1]);
        let message = super::address(RtAddrFamily::Inet, 24, 5, vec![peer, own]);
        let address = read_address(NEWADDR, &to_vec(&message)).unwrap().unwrap();
        assert_eq!(address.addr, addr("10.1.0.1"));
        assert!(address.reaches(addr("10.9.0.200")));
        assert!(!address.reaches(addr("10.1.0.200")));
    }

    #[test]
    fn a_host_address_reaches_no_other_and_a_default_prefix_all_of_its_family() {
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
        let with = |family: u8, prefix, value: &[u8]| {
            let own = vec![routing(Ifa::Local, value)];
            read_address(NEWADDR, &to_vec(&super::address(family.into(), prefix, 1, own)))
        };
        assert!(with(2, 24, &[1; 16]).is_err());
        assert!(with(10, 64, &[1; 4]).is_err());
        assert!(with(2, 33, &[1; 4]).is_err());
        assert_eq!(with(17, 24, &[1; 4]), Ok(None));
    }

    #[test]
    fn a_link_is_its_number_its_name_and_its_flags() {
        let shown = |attributes| {
            let message = link(7, Iff::UP | Iff::NOARP, Iff::empty(), attributes);
            read_link(16, &to_vec(&message))
        };
        let name = || routing(Ifla::Ifname, "tunl0");
        let link = shown(vec![name(), routing(Ifla::Mtu, 1480)]).unwrap().unwrap();
        assert_eq!((link.index, link.name.as_str(), link.mtu), (7, "tunl0", Some(1480)));
        assert!(link.is_up && !link.has_carrier);
        assert!(!link.answers_neighbours && !link.is_loopback);
        assert!(shown(vec![name(), routing(Ifla::Mtu, [0; 2])]).is_err());
        assert!(shown(Vec::new()).is_err());
    }

    #[test]
    fn an_attribute_that_comes_twice_or_is_empty_or_has_no_nul_is_read() {
        let names = |names: [&[u8]; 2]| {
            let names = names.map(|name| routing(Ifla::Ifname, name)).into();
            let message = link(1, Iff::empty(), Iff::empty(), names);
            read_link(16, &to_vec(&message)).unwrap().unwrap().name
        };
        assert_eq!(names([b"lo\0", b"eth0\0"]), "eth0");
        assert_eq!(names([b"lo\0", b"eth1"]), "eth1");
        assert_eq!(names([b"lo\0", b""]), "");
    }

    #[test]
    fn a_tunnel_is_asked_for_by_name_and_kind_and_metadata() {
        let bytes = to_vec(&new_tunnel("cvip4in6", "ip6tnl", true));
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
        assert_eq!(bytes[..16], [0; 16]); // a new link has no number yet
        assert_eq!(bytes[16..], expected);
    }

    #[test]
    fn a_question_for_a_route_names_destination_and_source() {
        let from = Some(addr("192.0.2.10"));
        let bytes = to_vec(&route(addr("198.51.100.1"), from, None, true));
        let expected = [
            &[2, 32, 32, 0, 0, 0, 0, 0][..], // AF_INET, lengths of both
            &0x2000u32.to_ne_bytes(),        // RTM_F_FIB_MATCH
            &8u16.to_ne_bytes(),             // rta_len
            &1u16.to_ne_bytes(),             // RTA_DST
            &[198, 51, 100, 1],
            &8u16.to_ne_bytes(), // rta_len
            &2u16.to_ne_bytes(), // RTA_SRC
            &[192, 0, 2, 10],
        ]
        .concat();
        assert_eq!(bytes, expected);
        let bytes = to_vec(&route(addr("2001:db8::1"), None, Some(3), false));
        assert_eq!(bytes[..12], [10, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        // RTA_OIF
        let device = [&8u16.to_ne_bytes()[..], &4u16.to_ne_bytes(), &3u32.to_ne_bytes()].concat();
        assert_eq!(bytes[32..], device);
    }

    #[test]
    fn a_local_route_is_added_as_the_kernel_makes_it() {
        let (addr, source) = ([10, 0, 0, 100].into(), [10, 0, 0, 1].into());
        let expected = [
            &[2, 32, 0, 0, 255, 2, 254, 2][..], // AF_INET, local table, kernel, host, local
            &0u32.to_ne_bytes(),                // rtm_flags
            &8u16.to_ne_bytes(),                // rta_len
            &1u16.to_ne_bytes(),                // RTA_DST
            &[10, 0, 0, 100],
            &8u16.to_ne_bytes(), // rta_len
            &4u16.to_ne_bytes(), // RTA_OIF
            &2u32.to_ne_bytes(),
            &8u16.to_ne_bytes(), // rta_len
            &7u16.to_ne_bytes(), // RTA_PREFSRC
            &[10, 0, 0, 1],
        ]
        .concat();
        assert_eq!(to_vec(&local_route(2, addr, source)), expected);
    }

    /// An answer of this type, with these attributes behind the interface that it names.
    fn answer(kind: u8, attributes: &[(u16, &[u8])]) -> Result<Option<Route>, MalformedMessage> {
        let mut bytes = vec![2, 32, 0, 0, 254, 0, 0, kind, 0, 0, 0, 0];
        let device = (4, &7u32.to_ne_bytes()[..]);
        for (kind, value) in [device].iter().chain(attributes) {
            bytes.extend(to_vec(&routing(*kind, *value)));
        }
        read_route(24, &bytes)?.map_or(Ok(None), |route| way_out(&route))
    }

    #[test]
    fn a_route_is_its_interface_and_its_next_hop_of_either_family() {
        let route =
            |gateway: Option<&str>| Ok(Some(Route { gateway: gateway.map(addr), device: 7 }));
        assert_eq!(answer(1, &[]), route(None));
        assert_eq!(answer(1, &[(5, &[192, 0, 2, 1])]), route(Some("192.0.2.1")));
        let via = [&10u16.to_ne_bytes()[..], &Ipv6Addr::LOCALHOST.octets()].concat();
        assert_eq!(answer(1, &[(18, &via)]), route(Some("::1")));
    }

    #[test]
    fn what_does_not_leave_the_host_is_no_route_and_nonsense_an_error() {
        // RTN_LOCAL, RTN_UNREACHABLE.
        assert_eq!(answer(2, &[]), Ok(None));
        assert_eq!(answer(7, &[]), Ok(None));
        assert!(answer(1, &[(5, &[1, 2, 3])]).is_err());
        assert!(read_route(24, &[2, 32, 0, 0]).is_err());
    }

    /// A body of each kind, for mutations to begin with.
    fn samples() -> Vec<Vec<u8>> {
        let (v4, v6) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([1; 16]));
        let name = routing(Ifla::Ifname, "eth0");
        vec![
            to_vec(&link(2, Iff::UP, Iff::empty(), vec![name, routing(Ifla::Mtu, 1500)])),
            to_vec(&new_tunnel("cvip4in6", "ip6tnl", true)),
            to_vec(&new_address(2, v4, 24, Some(10))),
            to_vec(&new_address(2, v6, 64, None)),
            to_vec(&route(v4, Some(v4), Some(2), false)),
            to_vec(&route(v6, None, Some(2), true)),
        ]
    }

    #[test]
    fn a_body_of_each_kind_can_be_read() {
        for body in samples() {
            assert!([16, 20, 24].iter().any(|kind| read_anything(*kind, &body) > 0), "{body:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_received_is_read_or_refused(
            kind in proptest::sample::select(vec![16u16, 20, 24]),
            family in proptest::sample::select(vec![2u8, 10, 0]),
            mut body in proptest::collection::vec(0u8..24, 0..120),
        ) {
            if let Some(first) = body.first_mut() {
                *first = family;
            }
            read_anything(kind, &body);
        }

        #[test]
        fn an_attribute_that_lies_about_its_length_is_read_or_refused(
            kind in proptest::sample::select(vec![16u16, 20, 24]),
            at in 0usize..120,
            value in proptest::prelude::any::<u8>(),
        ) {
            for mut body in samples() {
                let at = at % body.len();
                body[at] = value;
                read_anything(kind, &body);
            }
        }
    }
}
