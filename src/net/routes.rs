//! Where the kernel would send a packet: asked, not worked out, so that routing rules, tables and
//! metrics all count, and a routing table of a million routes costs nothing. No packet is sent.
//!
//! Layouts are linux/rtnetlink.h over rtnetlink(7), RTM_GETROUTE.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::errno::Errno;
use nix::libc;

use super::NetError;
use super::netlink::{RequestError, RtnetlinkRequest, RtnetlinkSocket};
use crate::netlink::{table, u32_at};

/// Attributes and types of a route.
mod rta {
    pub(super) const DST: u16 = 1;
    pub(super) const SRC: u16 = 2;
    // OIF is 4, GATEWAY 5, VIA 18.
    /// `RTN_UNICAST`: to somebody else.
    pub(super) const UNICAST: u8 = 1;
    /// `RTM_F_FIB_MATCH`: the route that matched, and not what was made of it.
    pub(super) const FIB_MATCH: u32 = 0x2000;
}

/// Addresses far from any cluster, in blocks far from one another: one of them is routed like
/// the Internet, whatever special routes there are. The first are reserved for documentation
/// (RFC 5737, RFC 3849).
const ABROAD_V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(198, 51, 100, 1),
    Ipv4Addr::new(203, 0, 113, 1),
    Ipv4Addr::new(11, 0, 0, 1),
    Ipv4Addr::new(180, 0, 0, 1),
];
const ABROAD_V6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0x8000, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2600, 0, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2a00, 0, 0, 0, 0, 0, 0, 1),
];

/// A route of at most so many bits leads to the Internet: a default route, or one of the two
/// halves that some use in its place.
const WIDE: u8 = 8;

/// Where a packet would go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The next hop; none: the addressee is a neighbour, or the interface has but one end.
    pub gateway: Option<IpAddr>,
    /// The interface's number.
    pub device: u32,
}

/// Where a packet to `to` would leave, from the address `from` if one is given, in the calling
/// thread's network namespace; none: nowhere, or it would not leave, or `from` is an IPv4 address
/// of another host. Needs no privilege.
///
/// # Errors
/// The kernel cannot be asked.
pub fn route(to: IpAddr, from: Option<IpAddr>) -> Result<Option<Route>, NetError> {
    ask(&mut RtnetlinkSocket::open()?, to, from)
}

/// Where a packet to the Internet would leave: the default route, as routing rules choose it for
/// packets from the address `from`; see [`route`].
///
/// # Errors
/// As [`route`].
pub fn route_abroad(family_of: IpAddr, from: Option<IpAddr>) -> Result<Option<Route>, NetError> {
    let mut socket = RtnetlinkSocket::open()?;
    let abroad: Vec<IpAddr> = match family_of {
        IpAddr::V4(_) => ABROAD_V4.map(IpAddr::from).into(),
        IpAddr::V6(_) => ABROAD_V6.map(IpAddr::from).into(),
    };
    for to in abroad {
        if let Some(route) = ask(&mut socket, to, from)?
            && matched(&mut socket, to, from)?.is_none_or(|prefix| prefix <= WIDE)
        {
            return Ok(Some(route));
        }
    }
    Ok(None)
}

fn ask(
    socket: &mut RtnetlinkSocket,
    to: IpAddr,
    from: Option<IpAddr>,
) -> Result<Option<Route>, NetError> {
    match socket.ask(&request(to, from, 0), parse) {
        Ok(route) => Ok(route),
        Err(RequestError::Refused(errno)) => no_route(to, errno).map(|()| None),
        Err(RequestError::Failed(error)) => Err(error),
    }
}

/// The prefix length of the route that a packet would take; none: this kernel does not say.
fn matched(
    socket: &mut RtnetlinkSocket,
    to: IpAddr,
    from: Option<IpAddr>,
) -> Result<Option<u8>, NetError> {
    // struct rtmsg: the destination's length is its second byte.
    let prefix = |_, body: &[u8]| Ok(body.get(1).copied());
    match socket.ask(&request(to, from, rta::FIB_MATCH), prefix) {
        Ok(prefix) => Ok(prefix),
        Err(RequestError::Refused(errno)) => no_route(to, errno).map(|()| None),
        Err(RequestError::Failed(error)) => Err(error),
    }
}

/// A refusal that says that there is no route, or one that leads nowhere; others are errors.
fn no_route(to: IpAddr, errno: Errno) -> Result<(), NetError> {
    match errno {
        Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EAGAIN => Ok(()),
        // A blackhole's, of IPv4; and its word to an address that is not this host's.
        Errno::EINVAL => Ok(()),
        errno => Err(NetError::Refused {
            action: format!("ask for the route to {to}"),
            errno,
            hint: String::new(),
        }),
    }
}

/// `struct rtmsg`: family, lengths of destination and source, type of service, table, protocol,
/// scope, type, flags.
fn request(to: IpAddr, from: Option<IpAddr>, flags: u32) -> RtnetlinkRequest {
    let (family, length) = match to {
        IpAddr::V4(_) => (libc::AF_INET as u8, 32),
        IpAddr::V6(_) => (libc::AF_INET6 as u8, 128),
    };
    let source = if from.is_some() { length } else { 0 };
    let [a, b, c, d] = flags.to_ne_bytes();
    let header = [family, length, source, 0, 0, 0, 0, 0, a, b, c, d];
    let with = |request: RtnetlinkRequest, kind, addr| match addr {
        IpAddr::V4(addr) => request.attribute(kind, &Ipv4Addr::octets(&addr)),
        IpAddr::V6(addr) => request.attribute(kind, &Ipv6Addr::octets(&addr)),
    };
    let request = with(RtnetlinkRequest::new(libc::RTM_GETROUTE, 0, &header), rta::DST, to);
    match from {
        Some(from) => with(request, rta::SRC, from),
        None => request,
    }
}

fn parse(kind: u16, body: &[u8]) -> Result<Option<Route>, NetError> {
    const HEADER: usize = 12;
    let cut = || NetError::Malformed("a route that is cut short");
    if kind != libc::RTM_NEWROUTE {
        return Ok(None);
    }
    let (Some(attributes), Some(kind)) = (body.get(HEADER..), body.get(7)) else {
        return Err(cut());
    };
    let attributes: [Option<&[u8]>; 19] = table(attributes)?;
    let (device, gateway, via) = (attributes[4], attributes[5], attributes[18]);
    let Some(device) = device.filter(|_| *kind == rta::UNICAST) else { return Ok(None) };
    let device = u32_at(device, 0).ok_or_else(cut)?;
    // struct rtvia: the family in 16 bits, then the address.
    let gateway = gateway.or(via.map(|via| via.get(2..).unwrap_or(&[])));
    let gateway = gateway.map(|bytes| addr(bytes).ok_or_else(cut)).transpose()?;
    Ok(Some(Route { gateway, device }))
}

fn addr(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Body, Messages};

    fn parsed(request: &RtnetlinkRequest) -> Result<Option<Route>, NetError> {
        let bytes = request.finish(0, 1);
        match Messages::new(&bytes).next().unwrap().unwrap().body {
            Body::Reply(kind, body) => parse(kind, body),
            body => panic!("{body:?}"),
        }
    }

    /// An answer of this type, and the interface it names.
    fn answer(kind: u8) -> RtnetlinkRequest {
        let header = [libc::AF_INET as u8, 32, 0, 0, 254, 0, 0, kind, 0, 0, 0, 0];
        RtnetlinkRequest::new(libc::RTM_NEWROUTE, 0, &header).attribute(4, &7u32.to_ne_bytes())
    }

    #[test]
    fn a_question_names_destination_and_source() {
        let from = Some("192.0.2.10".parse().unwrap());
        let bytes = request("198.51.100.1".parse().unwrap(), from, rta::FIB_MATCH).finish(0, 9);
        let expected = [
            &[libc::AF_INET as u8, 32, 32, 0, 0, 0, 0, 0][..], // family, lengths of both
            &0x2000u32.to_ne_bytes(),                          // RTM_F_FIB_MATCH
            &8u16.to_ne_bytes(),                               // rta_len
            &1u16.to_ne_bytes(),                               // RTA_DST
            &[198, 51, 100, 1],
            &8u16.to_ne_bytes(), // rta_len
            &2u16.to_ne_bytes(), // RTA_SRC
            &[192, 0, 2, 10],
        ]
        .concat();
        assert_eq!(bytes[16..], expected);
        let v6 = request("2001:db8::1".parse().unwrap(), None, 0).finish(0, 9);
        assert_eq!(v6[16..20], [libc::AF_INET6 as u8, 128, 0, 0]);
    }

    #[test]
    fn a_route_is_its_interface_and_its_next_hop_of_either_family() {
        let route = |gateway: Option<&str>| {
            let gateway = gateway.map(|text| text.parse().unwrap());
            Ok(Some(Route { gateway, device: 7 }))
        };
        assert_eq!(parsed(&answer(1)), route(None));
        assert_eq!(parsed(&answer(1).attribute(5, &[192, 0, 2, 1])), route(Some("192.0.2.1")));
        let via = [&10u16.to_ne_bytes()[..], &Ipv6Addr::LOCALHOST.octets()].concat();
        assert_eq!(parsed(&answer(1).attribute(18, &via)), route(Some("::1")));
    }

    #[test]
    fn what_does_not_leave_the_host_is_no_route_and_nonsense_an_error() {
        // RTN_LOCAL, RTN_UNREACHABLE.
        assert_eq!(parsed(&answer(2)), Ok(None));
        assert_eq!(parsed(&answer(7)), Ok(None));
        assert!(parsed(&answer(1).attribute(5, &[1, 2, 3])).is_err());
        assert!(parsed(&RtnetlinkRequest::new(libc::RTM_NEWROUTE, 0, &[2, 32, 0, 0])).is_err());
    }

    #[test]
    fn this_machines_own_address_needs_no_route() {
        assert_eq!(route(Ipv4Addr::LOCALHOST.into(), None), Ok(None));
    }
}
