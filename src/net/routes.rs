//! Where the kernel would send a packet: asked, not worked out, so that routing rules, tables and
//! metrics all count, and a routing table of a million routes costs nothing. No packet is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use neli::consts::rtnl::Rtm;
use nix::errno::Errno;

use super::NetError;
use super::netlink::{RequestError, RtnetlinkSocket};
pub use crate::netlink::route::Route;
use crate::netlink::route::{read_route, route as question, way_out};

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

/// Where a packet to the Internet would leave: the default route, as routing rules choose it for
/// packets from the address `from`, in the calling thread's network namespace; none if there is
/// none, or if `from` is an IPv4 address of another host. Needs no privilege.
///
/// # Errors
/// The kernel cannot be asked.
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
    let message = question(to, from, None, false);
    let route = socket.ask(Rtm::Getroute, &message, |kind, body| {
        read_route(kind, body)?.map_or(Ok(None), |route| way_out(&route))
    });
    or_no_route(to, route)
}

/// The prefix length of the route that a packet would take; none: this kernel does not say.
fn matched(
    socket: &mut RtnetlinkSocket,
    to: IpAddr,
    from: Option<IpAddr>,
) -> Result<Option<u8>, NetError> {
    let message = question(to, from, None, true);
    let prefix = socket.ask(Rtm::Getroute, &message, |kind, body| {
        Ok(read_route(kind, body)?.map(|route| *route.rtm_dst_len()))
    });
    or_no_route(to, prefix)
}

/// A kernel error that says that there is no route, or one that leads nowhere, is none; others
/// are errors.
fn or_no_route<T>(
    to: IpAddr,
    answer: Result<Option<T>, RequestError>,
) -> Result<Option<T>, NetError> {
    match answer {
        Ok(answer) => Ok(answer),
        // EINVAL is a blackhole's, of IPv4; and the word to an address that is not this host's.
        Err(RequestError::Refused(
            Errno::ENETUNREACH
            | Errno::EHOSTUNREACH
            | Errno::EACCES
            | Errno::EAGAIN
            | Errno::EINVAL,
        )) => Ok(None),
        Err(RequestError::Refused(errno)) => Err(NetError::Refused {
            action: format!("ask for the route to {to}"),
            errno,
            hint: String::new(),
        }),
        Err(RequestError::Failed(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machines_own_address_needs_no_route() {
        let mut socket = RtnetlinkSocket::open().unwrap();
        assert_eq!(ask(&mut socket, Ipv4Addr::LOCALHOST.into(), None), Ok(None));
    }
}
