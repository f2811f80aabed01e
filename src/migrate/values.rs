//! Addresses, ports and numbers as the other systems write them.

use std::ffi::OsStr;
use std::net::IpAddr;

use crate::checks::settings::CheckProgram;
use crate::ipvs::limits::SCHEDULER_MAX_LEN;
use crate::ipvsadm::names::Names;
use crate::protocol::Protocol;

/// The most addresses and servers of a configuration. A cvip.conf of the largest size has fewer.
const MOST_ENDPOINTS: usize = 16_384;

/// How many addresses and servers may still come: a short text with ranges can make many.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Budget {
        Budget(MOST_ENDPOINTS)
    }
}

impl Budget {
    /// Takes so many.
    ///
    /// # Errors
    /// There are not so many left.
    pub(super) fn take(&mut self, count: usize) -> Result<(), String> {
        self.0 = self
            .0
            .checked_sub(count)
            .ok_or_else(|| format!("the configuration has more than {MOST_ENDPOINTS} addresses"))?;
        Ok(())
    }
}

/// An address as it is written, or a host's name that is looked up.
pub(super) struct FoundAddress {
    pub(super) addr: IpAddr,
    /// It was a name.
    pub(super) by_name: bool,
}

/// An address, or the address of a host.
///
/// # Errors
/// Why it is none, and what to do.
pub(super) fn address(text: &str, names: &mut dyn Names) -> Result<FoundAddress, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if let Ok(addr) = bare.parse() {
        return Ok(FoundAddress { addr, by_name: false });
    }
    let is_name = !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        && text.bytes().any(|b| b.is_ascii_alphabetic());
    let found = is_name.then(|| names.host_address(OsStr::new(text))).flatten();
    match found {
        Some(addr) => Ok(FoundAddress { addr: addr.into(), by_name: true }),
        None if is_name => {
            Err(format!("no host `{text}` is known here: write its address in its place"))
        }
        None => Err(format!("`{text}` is no address")),
    }
}

/// A port, or the port of a service.
///
/// # Errors
/// Why it is none, and what to do.
pub(super) fn port(text: &str, protocol: Protocol, names: &mut dyn Names) -> Result<u16, String> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().map_err(|_| format!("`{text}` is no port"));
    }
    names
        .service_port(OsStr::new(text), protocol)
        .ok_or_else(|| format!("no service `{text}` is known here: write its port in its place"))
}

/// A scheduler's name.
///
/// # Errors
/// It cannot be one.
pub(super) fn scheduler(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    match !text.is_empty() && text.len() <= SCHEDULER_MAX_LEN && text.bytes().all(fits) {
        true => Ok(text.to_owned()),
        false => Err(format!("`{text}` is no scheduler: wlc is taken")),
    }
}

/// The program of a check, with its arguments in a shell's quotation marks.
///
/// # Errors
/// It is none that a check can run.
pub(super) fn program(text: &str) -> Result<CheckProgram, String> {
    let words = shlex::split(text).ok_or("a quotation mark is not closed")?;
    CheckProgram::new(words).map_err(|error| error.to_string())
}

/// An address with a port behind it, `10.0.0.1:80` or `[fd00::1]:80`; the port may lack.
pub(super) fn split_port(text: &str) -> (&str, Option<&str>) {
    if let Some((addr, port)) = text.rsplit_once("]:") {
        return (addr.strip_prefix('[').unwrap_or(addr), Some(port));
    }
    match text.split_once(':') {
        Some((addr, port)) if !port.contains(':') => (addr, Some(port)),
        _ => (text, None),
    }
}

/// The addresses from one to another, both included, of one family.
///
/// # Errors
/// They are in the wrong order, of different families, or too many.
pub(super) fn range(
    first: IpAddr,
    last: IpAddr,
    budget: &mut Budget,
) -> Result<Vec<IpAddr>, String> {
    let count = match (first, last) {
        (IpAddr::V4(a), IpAddr::V4(b)) => b.to_bits().checked_sub(a.to_bits()).map(u128::from),
        (IpAddr::V6(a), IpAddr::V6(b)) => b.to_bits().checked_sub(a.to_bits()),
        _ => None,
    };
    let count = count.ok_or_else(|| format!("{first} to {last} is no range of addresses"))?;
    budget.take(usize::try_from(count).unwrap_or(usize::MAX).saturating_add(1))?;
    Ok((0..=count)
        .map(|step| match first {
            // The steps are few: they fit, and the last one is an address.
            IpAddr::V4(a) => IpAddr::V4((a.to_bits() + u32::try_from(step).unwrap_or(0)).into()),
            IpAddr::V6(a) => IpAddr::V6((a.to_bits() + step).into()),
        })
        .collect())
}

/// How many leading bits a netmask has: a dotted mask, or a number of bits. A mask of all bits
/// is none, since every client is then one of its own.
///
/// # Errors
/// It is no netmask of that family.
pub(super) fn prefix(text: &str, is_ipv4: bool) -> Result<Option<u8>, String> {
    let most: u8 = if is_ipv4 { 32 } else { 128 };
    let bits = match text.parse::<u8>() {
        Ok(bits) => bits,
        Err(_) => {
            let mask = text.parse::<std::net::Ipv4Addr>().ok().map(std::net::Ipv4Addr::to_bits);
            let mask = mask.filter(|mask| is_ipv4 && mask.leading_ones() == mask.count_ones());
            mask.map(|mask| mask.leading_ones() as u8)
                .ok_or_else(|| format!("`{text}` is no netmask of leading bits"))?
        }
    };
    match bits {
        0 => Err("a netmask of no bits makes all clients one".to_owned()),
        bits if bits > most => Err(format!("`{text}` has more bits than an address")),
        bits => Ok((bits < most).then_some(bits)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvsadm::names::Numbers;

    #[test]
    fn addresses_come_with_and_without_ports() {
        assert_eq!(split_port("10.0.0.1:80"), ("10.0.0.1", Some("80")));
        assert_eq!(split_port("[fd00::1]:80"), ("fd00::1", Some("80")));
        assert_eq!(split_port("fd00::1"), ("fd00::1", None));
        assert_eq!(split_port("10.0.0.1"), ("10.0.0.1", None));
        assert!(address("[fd00::1]", &mut Numbers).is_ok_and(|found| !found.by_name));
        let why = address("web1", &mut Numbers).err().unwrap();
        assert!(why.contains("write its address"), "{why}");
        assert!(address("$VIP", &mut Numbers).is_err());
        assert!(port("http", Protocol::Tcp, &mut Numbers).is_err_and(|why| why.contains("http")));
        assert!(port("65536", Protocol::Tcp, &mut Numbers).is_err());
    }

    #[test]
    fn a_range_has_both_ends_and_a_bound() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let range = |first, last| super::range(first, last, &mut Budget::default());
        let three = range(ip("10.0.0.254"), ip("10.0.1.0")).unwrap();
        assert_eq!(three, [ip("10.0.0.254"), ip("10.0.0.255"), ip("10.0.1.0")]);
        assert_eq!(range(ip("fd00::1"), ip("fd00::1")).unwrap(), [ip("fd00::1")]);
        assert!(range(ip("10.0.0.2"), ip("10.0.0.1")).is_err());
        assert!(range(ip("10.0.0.2"), ip("fd00::3")).is_err());
        assert!(range(ip("0.0.0.0"), ip("255.255.255.255")).is_err());
        assert!(range(ip("::"), ip("ffff::")).is_err());
        assert_eq!(range(ip("255.255.255.255"), ip("255.255.255.255")).unwrap().len(), 1);
    }

    #[test]
    fn a_netmask_is_leading_bits() {
        assert_eq!(prefix("255.255.255.0", true), Ok(Some(24)));
        assert_eq!(prefix("255.255.255.255", true), Ok(None));
        assert_eq!(prefix("64", false), Ok(Some(64)));
        for wrong in ["255.0.255.0", "0", "0.0.0.0", "33", "many"] {
            assert!(prefix(wrong, true).is_err(), "{wrong}");
        }
        assert!(prefix("255.255.255.0", false).is_err());
    }
}
