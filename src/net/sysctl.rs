//! Kernel settings, read and written below `/proc/sys`.
//!
//! `/proc/sys/net` is the network namespace's of the thread that opens the file, so it is
//! opened anew for each access. A path here is relative (`net/ipv4/ip_forward`): unlike the
//! dotted name it is unambiguous for interfaces with a dot in theirs.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use nix::errno::Errno;

use super::NetError;

const ROOT: &str = "/proc/sys";
/// No setting that this program knows is longer.
const VALUE_CAP: u64 = 4096;

/// A setting's name as sysctl(8) writes it: dots between the parts, slashes for dots in them.
pub fn name(path: &str) -> String {
    path.chars()
        .map(|c| match c {
            '/' => '.',
            '.' => '/',
            c => c,
        })
        .collect()
}

/// True for a path that leads to a network setting and nowhere else.
pub(super) fn is_network_setting(path: &str) -> bool {
    path.starts_with("net/") && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// A setting's value without the blanks around it, by its path below `/proc/sys`, in the calling
/// thread's network namespace.
///
/// # Errors
/// There is no such setting, or it cannot be read.
pub fn read(path: &str) -> Result<String, NetError> {
    let failed = |error| failure("read", path, &error);
    let file = fs::File::open(Path::new(ROOT).join(path)).map_err(failed)?;
    let mut value = String::new();
    file.take(VALUE_CAP).read_to_string(&mut value).map_err(failed)?;
    Ok(value.trim().to_owned())
}

/// Gives a setting a value.
pub(super) fn write(path: &str, value: &str) -> Result<(), NetError> {
    let failed = |error| failure("set", path, &error);
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).open(Path::new(ROOT).join(path)).map_err(failed)?;
    // In one piece: the kernel takes each write for the whole value.
    file.write_all(format!("{value}\n").as_bytes()).map_err(failed)
}

fn failure(action: &'static str, path: &str, error: &std::io::Error) -> NetError {
    let setting = name(path);
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => absent(path),
        Some(errno) => NetError::Setting { action, setting, errno },
        None if error.kind() == ErrorKind::InvalidData => {
            NetError::OddSetting { setting, value: "no text".to_owned() }
        }
        None => NetError::Setting { action, setting, errno: Errno::EIO },
    }
}

/// Why there is no such setting, as far as the settings beside it tell.
fn absent(path: &str) -> NetError {
    let beside = |other: &str| Path::new(ROOT).join(other).exists();
    let of_ipvs = path.starts_with("net/ipv4/vs/");
    let outdated = of_ipvs && beside("net/ipv4/vs");
    let hint = match path {
        _ if outdated => ": it is too old to have it",
        _ if of_ipvs => ": try `modprobe ip_vs`",
        _ if path.starts_with("net/ipv6/") && !beside("net/ipv6") => {
            ": it was started without IPv6"
        }
        _ => ": is the interface there?",
    };
    NetError::NoSetting { setting: name(path), hint, outdated }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_in_an_interfaces_name_is_a_slash_in_the_settings() {
        assert_eq!(name("net/ipv4/conf/eth0.5/rp_filter"), "net.ipv4.conf.eth0/5.rp_filter");
    }

    #[test]
    fn only_paths_below_net_are_network_settings() {
        assert!(is_network_setting("net/ipv4/conf/eth0.5/rp_filter"));
        for path in ["", "kernel/hostname", "/net/x", "net/../kernel/x", "net//x", "net/.", "net/"]
        {
            assert!(!is_network_setting(path), "{path}");
        }
    }

    #[test]
    fn a_setting_that_is_not_there_says_why() {
        let error = read("net/ipv4/conf/nosuch7/rp_filter").unwrap_err();
        assert_eq!(
            error.to_string(),
            "no setting net.ipv4.conf.nosuch7.rp_filter in this kernel: is the interface there?"
        );
        assert!(matches!(error, NetError::NoSetting { outdated: false, .. }));
    }
}
