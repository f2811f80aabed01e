//! The C library's resolver: the one place of this module that needs `unsafe`.
//!
//! The standard library looks hosts up but cannot say a host's or a port's name, and its
//! look-up sorts the addresses, where ipvsadm takes the first that gethostbyname(3) gives.
//! Three of these four functions answer in static memory; one lock serialises them, and
//! nothing else in this library calls them.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr, OsString, c_char, c_int};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::libc;
use nix::sys::socket::{SockaddrLike, SockaddrStorage};

unsafe extern "C" {
    /// gethostbyname(3), which the libc crate leaves out.
    fn gethostbyname(name: *const c_char) -> *mut libc::hostent;
}

/// Held around every call that answers in static memory, until the answer is copied.
static STATIC_ANSWERS: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    // The lock guards no data that a panic could have left half-written.
    STATIC_ANSWERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first IPv4 address of a host.
pub(super) fn host_address(name: &OsStr) -> Option<Ipv4Addr> {
    let name = CString::new(name.as_bytes()).ok()?;
    let _alone = alone();
    // SAFETY: `name` is a NUL-terminated string that outlives the call. The answer is NULL or
    // a hostent in static memory that stays valid until the next call, which `_alone` keeps
    // off until this function returns. Its address list is NULL-terminated; every entry has
    // `h_length` bytes, which is checked before four of them are read, at any alignment.
    unsafe {
        let host = gethostbyname(name.as_ptr()).as_ref()?;
        if host.h_addrtype != libc::AF_INET || host.h_length != 4 || host.h_addr_list.is_null() {
            return None;
        }
        let first = *host.h_addr_list;
        if first.is_null() {
            return None;
        }
        Some(Ipv4Addr::from(first.cast::<[u8; 4]>().read_unaligned()))
    }
}

/// The port of a service, host order.
pub(super) fn service_port(name: &OsStr, protocol: &str) -> Option<u16> {
    let (name, protocol) = (CString::new(name.as_bytes()).ok()?, CString::new(protocol).ok()?);
    let _alone = alone();
    // SAFETY: both strings are NUL-terminated and outlive the call; the answer is NULL or a
    // servent in static memory, read before `_alone` lets anybody else call.
    let port = unsafe { libc::getservbyname(name.as_ptr(), protocol.as_ptr()).as_ref()?.s_port };
    Some(from_network(port))
}

/// The name of a port (host order).
pub(super) fn service_name(port: u16, protocol: &str) -> Option<OsString> {
    let protocol = CString::new(protocol).ok()?;
    let _alone = alone();
    // SAFETY: `protocol` is NUL-terminated and outlives the call; the answer is NULL or a
    // servent in static memory whose `s_name` is a NUL-terminated string, copied before
    // `_alone` lets anybody else call.
    unsafe {
        let service = libc::getservbyport(c_int::from(port.to_be()), protocol.as_ptr()).as_ref()?;
        Some(owned(CStr::from_ptr(service.s_name)))
    }
}

/// The name of an address.
pub(super) fn host_name(addr: IpAddr) -> Option<OsString> {
    let socket = SockaddrStorage::from(SocketAddr::new(addr, 0));
    let mut name = [0u8; libc::NI_MAXHOST as usize];
    // SAFETY: `socket` gives a pointer to itself and its length, `name` is as long as its length
    // says, and no service is asked for (NULL, 0).
    let status = unsafe {
        libc::getnameinfo(
            socket.as_ptr(),
            socket.len(),
            name.as_mut_ptr().cast(),
            name.len() as libc::socklen_t,
            std::ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    if status != 0 {
        return None;
    }
    Some(owned(CStr::from_bytes_until_nul(&name).ok()?))
}

/// A name as it is: it need be no UTF-8.
fn owned(name: &CStr) -> OsString {
    OsStr::from_bytes(name.to_bytes()).to_owned()
}

/// `s_port` is an int that holds a port in network order.
fn from_network(port: c_int) -> u16 {
    u16::from_be(port as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_network_order_is_read_as_it_was_meant() {
        assert_eq!(from_network(c_int::from(8080u16.to_be())), 8080);
    }

    #[test]
    fn a_numeric_host_needs_no_name_service() {
        assert_eq!(host_address("10.1.2.3".as_ref()), Some(Ipv4Addr::new(10, 1, 2, 3)));
        assert_eq!(host_address("nul\0inside".as_ref()), None);
    }

    #[test]
    fn what_hosts_5_names_is_found_by_its_address() {
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        for addr in ["127.0.0.1", "::1"] {
            let named = hosts.lines().find(|line| line.split_whitespace().next() == Some(addr));
            if let Some(name) = named.and_then(|line| line.split_whitespace().nth(1)) {
                let addr: IpAddr = addr.parse().unwrap();
                assert_eq!(host_name(addr), Some(OsString::from(name)), "{addr}");
            }
        }
    }

    #[test]
    fn what_has_no_name_has_none() {
        assert_eq!(service_port("no-such-service-anywhere".as_ref(), "tcp"), None);
        assert_eq!(service_name(80, "no-such-protocol"), None);
    }
}
