//! The user and process that have a UDP port: /proc/net/udp and udp6 (proc_pid_net(5)), and the
//! process that has the socket open.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The user and process that have a UDP address and port of this network namespace, for people;
/// none if it is free.
pub fn holder(address: SocketAddr) -> Option<String> {
    let tables = ["/proc/net/udp", "/proc/net/udp6"];
    let (uid, inode) = tables.iter().find_map(|table| {
        let text = fs::read_to_string(table).ok()?;
        text.lines().skip(1).filter_map(parse).find_map(|socket| socket.is_in_the_way(address))
    })?;
    let name = nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name);
    let user = match name {
        Some(name) => format!("user {name} (uid {uid})"),
        None => format!("uid {uid}"),
    };
    Some(match process(inode) {
        Some((pid, name)) => format!("{user}, process {pid} ({name})"),
        None => user,
    })
}

/// A line of the table.
struct Bound {
    address: SocketAddr,
    uid: u32,
    inode: u64,
}

impl Bound {
    /// Its owner and inode, if it keeps another from having an address.
    fn is_in_the_way(&self, of: SocketAddr) -> Option<(u32, u64)> {
        let ip = self.address.ip();
        let clashes = self.address.port() == of.port() && (ip == of.ip() || ip.is_unspecified());
        clashes.then_some((self.uid, self.inode))
    }
}

fn parse(line: &str) -> Option<Bound> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = words.get(1)?.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok();
    // Each word of an address stands as the machine has it in memory.
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?.to_ne_bytes())),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(8 * at)?.to_ne_bytes());
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    let address = SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?);
    Some(Bound { address, uid: words.get(7)?.parse().ok()?, inode: words.get(9)?.parse().ok()? })
}

/// A process that has a socket open, and its name.
fn process(inode: u64) -> Option<(u32, String)> {
    let socket = format!("socket:[{inode}]");
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Those of others cannot be looked into without root.
        let Ok(fds) = fs::read_dir(entry.path().join("fd")) else { continue };
        let has_it = |fd: fs::DirEntry| {
            fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == socket.as_str())
        };
        if fds.flatten().any(has_it) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim().to_owned()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn the_holder_of_a_port_is_named_by_user_and_process() {
        for local in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
            let socket = UdpSocket::bind(local).unwrap();
            let mut address = socket.local_addr().unwrap();
            if address.ip().is_unspecified() {
                address.set_ip("127.0.0.1".parse().unwrap());
            }
            let said = holder(address).unwrap();
            let uid = nix::unistd::geteuid();
            assert!(said.contains(&format!("uid {uid}")), "{said}");
            assert!(said.contains(&format!("process {} (", std::process::id())), "{said}");
        }
    }

    #[test]
    fn a_line_of_the_table_is_read_whatever_it_says() {
        let line = "  512: 0100007F:2291 00000000:0000 07 00000000:00000000 00:00000000 00000000 \
                    1000        0 23456 2 0000000000000000 0";
        let bound = parse(line).unwrap();
        if cfg!(target_endian = "little") {
            assert_eq!(bound.address, "127.0.0.1:8849".parse().unwrap());
        }
        assert_eq!((bound.uid, bound.inode), (1000, 23456));
        for bad in ["", "sl local_address", "1: 0100007F", "1: 01:2291 0 0 0 0 0 1 0 1", "1: é:1"]
        {
            assert!(parse(bad).is_none(), "{bad:?}");
        }
    }
}
