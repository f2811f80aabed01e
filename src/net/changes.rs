//! Wakes when a link, an address or a local route of this network namespace changes.
//!
//! rtnetlink(7) sends a notification for each change, this program's own included. A notification
//! only says that something changed: what is true is read anew, so that one that was lost, doubled
//! or late does no harm. Routes that are not local are filtered out in the kernel: a router that
//! speaks BGP changes thousands of them.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use neli::consts::rtnl::Rtm;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use socket2::{SockFilter, Socket};

use super::NetError;
use super::filter::{FilterInstruction, only_local_routes};

/// Links, and the addresses and routes of both families.
const GROUPS: u32 = (libc::RTMGRP_LINK
    | libc::RTMGRP_IPV4_IFADDR
    | libc::RTMGRP_IPV4_ROUTE
    | libc::RTMGRP_IPV6_IFADDR
    | libc::RTMGRP_IPV6_ROUTE) as u32;

/// The most notifications that one call reads; the rest waits for the next.
const AT_ONCE: usize = 4096;

/// A subscription to the changes of one network namespace.
#[derive(Debug)]
pub struct ChangeWatch {
    socket: Socket,
}

impl ChangeWatch {
    /// Subscribes to changes in the calling thread's network namespace. Needs no privilege.
    ///
    /// # Errors
    /// The system refuses the socket.
    pub fn open() -> Result<ChangeWatch, NetError> {
        let failed = |errno| NetError::Socket { kind: "netlink", errno };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkRoute;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).map_err(failed)?;
        let socket = Socket::from(fd);
        // Before it is bound: nothing else ever arrives.
        let program = only_local_routes(Rtm::Newroute.into(), Rtm::Delroute.into());
        let filter =
            |i: &FilterInstruction| SockFilter::new(i.code, i.if_true, i.if_false, i.value);
        let program: Vec<SockFilter> = program.iter().map(filter).collect();
        socket
            .attach_filter(&program)
            .map_err(|error| failed(Errno::from_raw(error.raw_os_error().unwrap_or(0))))?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS)).map_err(failed)?;
        Ok(ChangeWatch { socket })
    }

    /// True if something changed since this was last asked, or may have.
    pub fn changed(&self) -> bool {
        // What a notification says is not read: its first byte is enough to take it.
        let mut byte = [0; 1];
        let mut changed = false;
        for _ in 0..AT_ONCE {
            match recv(self.socket.as_raw_fd(), &mut byte, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                // ENOBUFS: some were lost.
                Ok(_) | Err(_) => changed = true,
            }
        }
        changed
    }
}

impl AsFd for ChangeWatch {
    /// Readable when something changed.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_without_changes_is_not_woken_for_what_was_before() {
        // Another program may change the machine's network while this test runs: asked twice at
        // once, it has changed again next to never.
        let watch = ChangeWatch::open().unwrap();
        let quiet = (0..10).any(|_| !watch.changed());
        assert!(quiet);
    }
}
