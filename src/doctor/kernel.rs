//! What cvipd sets in a node's kernel, against what is set; and what it has set.

use std::net::IpAddr;

use super::Finding;
use super::observed::{Host, Observed};
use crate::net::{DesiredSettings, Difference, Done, NetError, SettingFailure, setting_name};

/// Why commands are given although cvipd does the same.
const SOON: &str = "cvipd repairs it within a second; if it does not, its log says why; by hand:";
/// The same where none runs.
const START: &str = "start cvipd here, which sees to it, or:";

/// In what the kernel is not as the node's role needs it.
pub(super) fn differences(seen: &Observed, host: &Host) -> Vec<Finding> {
    let desired = seen.desired();
    let mut findings: Vec<Finding> = Vec::new();
    let asks_ipvs = desired.sysctls.iter().any(|desired| desired.path.starts_with("net/ipv4/vs/"));
    if asks_ipvs && !host.has_ipvs() {
        findings.push(
            Finding::fault(seen.here(), "this kernel has no IPVS, and a director needs it")
                .fix("load it, or install a kernel with CONFIG_IP_VS; then start cvipd:")
                .run("modprobe ip_vs"),
        );
    }
    for difference in &host.differences {
        findings.extend(self::difference(seen, host, &desired, difference));
    }
    findings
}

fn difference(
    seen: &Observed,
    host: &Host,
    desired: &DesiredSettings,
    difference: &Difference,
) -> Option<Finding> {
    let here = seen.here();
    let fix = if seen.runs_here() { SOON } else { START };
    Some(match difference {
        Difference::Setting { path, is, wanted, why, .. } => {
            let mut what = format!("{} is {is} and should be {wanted}: {why}", setting_name(path));
            if let Some(Done::Set { value, .. }) = set_by_cvipd(host, path)
                && value != is
            {
                what +=
                    &format!("; cvipd had set it to {value}, and another program changed it since");
            }
            Finding::fault(here, what).fix(fix).run(set(path, wanted))
        }
        Difference::Down(device) => {
            let what = format!("{device} is down: what the director sends is not decapsulated");
            Finding::fault(here, what).fix(fix).run(format!("ip link set {device} up"))
        }
        Difference::Missing { addr, prefix, device } => {
            missing(seen, host, desired, *addr, *prefix, device)
        }
        Difference::Unreached { addr, device } => {
            let prefix = prefix_of(host, *addr, device);
            let what = format!("{addr} on {device} has no local route, and receives nothing");
            let renewed = format!("ip addr del {addr}/{prefix} dev {device}");
            Finding::fault(here, what).fix(fix).run(renewed)
        }
        // Addresses that are too many are looked at one by one: see `addresses`.
        Difference::Misplaced { .. } => return None,
        Difference::Permanent { addr, device } => {
            let prefix = prefix_of(host, *addr, device);
            let what = format!(
                "{addr} stands on {device} by other means than cvipd, and would stay there when \
                 another director takes over: two would answer for it"
            );
            Finding::fault(here, what)
                .fix("take it out of the network configuration; cvipd carries it:")
                .run(format!("ip addr del {addr}/{prefix} dev {device}"))
        }
        Difference::Unmet(failure) => unmet(seen, host, failure)?,
    })
}

fn missing(
    seen: &Observed,
    host: &Host,
    desired: &DesiredSettings,
    addr: IpAddr,
    prefix: u8,
    device: &str,
) -> Finding {
    let desired = desired.addresses.iter().find(|desired| desired.addr == addr);
    let gateway = seen.conf.cvips.iter().any(|cvip| cvip.gateway == Some(addr));
    let active = seen.directed().any(|cvip| cvip.addr == addr);
    let consequence = match (gateway, active) {
        (true, _) => "what real servers answer goes nowhere",
        (false, true) => "no host answers for it, and no client reaches it",
        (false, false) => "this node drops what the director sends it",
    };
    let what = format!("{addr}/{prefix} is missing on {device}: {consequence}");
    let finding = Finding::fault(seen.here(), what);
    if desired.is_some_and(|desired| desired.valid_lft.is_some()) {
        // By hand it would stay for ever, or run out.
        return match seen.runs_here() {
            true => finding.fix(
                "cvipd carries it within a second; if it does not, its log says why \
                 (journalctl -u cvipd)",
            ),
            false => finding
                .fix("start cvipd here: it alone renews the address")
                .run("systemctl start cvipd"),
        };
    }
    let mut finding = finding.fix(if seen.runs_here() { SOON } else { START });
    // An address that neighbours could ask for comes last.
    if let Some(path) = desired.and_then(|desired| desired.only_with)
        && !matches!(host.setting(path), Some("1" | "2"))
    {
        finding = finding.run(set(path, "1"));
    }
    let disabled = format!("net/ipv6/conf/{device}/disable_ipv6");
    if addr.is_ipv6() && host.setting(&disabled) == Some("1") {
        finding = finding.run(set(&disabled, "0"));
    }
    finding.run(add(addr, prefix, device))
}

/// A desired setting that cannot be met: the error says what to do.
fn unmet(seen: &Observed, host: &Host, failure: &SettingFailure) -> Option<Finding> {
    let here = seen.here();
    if failure.is_notice() {
        return Some(Finding::note(here, failure.to_string()));
    }
    let what = failure.to_string();
    Some(match &failure.error {
        NetError::NoSetting { setting, .. } if setting.starts_with("net.ipv4.vs.") => {
            // Said once, for all of them.
            if !host.has_ipvs() {
                return None;
            }
            Finding::fault(here, what).fix("load IPVS anew").run("modprobe ip_vs")
        }
        NetError::NoInterface { .. } => {
            Finding::fault(here, what).fix("fix it, then let cvipd look (systemctl reload cvipd)")
        }
        _ => Finding::fault(here, what).fix("see to it as it says, then start cvipd"),
    })
}

/// What cvipd has set here, and would undo.
pub(super) fn made(seen: &Observed, host: &Host) -> Vec<Finding> {
    let made = host.made.iter().flatten();
    made.filter(|done| is_so(host, done))
        .map(|done| {
            let what = match done {
                Done::Set { path, value, was } => {
                    format!("cvipd set {} to {value} (it was {was})", setting_name(path))
                }
                done => format!("cvipd {done}"),
            };
            Finding::note(seen.here(), what)
        })
        .collect()
}

/// False for what was undone since.
fn is_so(host: &Host, done: &Done) -> bool {
    match done {
        Done::Set { path, value, .. } => host.setting(path).is_none_or(|is| is == value),
        Done::Added { addr, device, .. } => host
            .interface(device)
            .is_some_and(|interface| interface.addresses.iter().any(|a| a.addr == *addr)),
        _ => true,
    }
}

fn set_by_cvipd<'a>(host: &'a Host, path: &str) -> Option<&'a Done> {
    let is = |done: &&Done| matches!(done, Done::Set { path: of, .. } if of == path);
    host.made.iter().flatten().find(is)
}

/// The prefix length with which an address stands on an interface.
pub(super) fn prefix_of(host: &Host, addr: IpAddr, device: &str) -> u8 {
    let standing = host.interface(device).into_iter().flat_map(|i| &i.addresses);
    let mut standing = standing.filter(|address| address.addr == addr);
    standing.next().map_or(crate::net::host_prefix(addr), |address| address.prefix)
}

/// The command that gives a setting a value.
pub(super) fn set(path: &str, value: &str) -> String {
    format!("sysctl -w {}={value}", setting_name(path))
}

/// The command that adds an address as cvipd does.
pub(super) fn add(addr: IpAddr, prefix: u8, device: &str) -> String {
    let more = if addr.is_ipv6() { " nodad noprefixroute preferred_lft 0" } else { "" };
    format!("ip addr add {addr}/{prefix} dev {device}{more}")
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::conf::Routing;
    use crate::net::{DesiredSysctl, NeededOn};

    const ARP_IGNORE: &str = "net/ipv4/conf/all/arp_ignore";

    fn found(node: u32, directors: u32, difference: Difference, running: bool) -> Vec<String> {
        let mut seen = seen(conf(Routing::Dr, &["192.0.2.10", "2001:db8::10"], directors), node);
        if !running {
            seen.alive.remove(&node);
        }
        let mut host = host(node);
        host.differences = vec![difference];
        lines(&differences(&seen, &host))
    }

    fn arp_ignore(is: &str) -> Difference {
        Difference::Setting {
            path: ARP_IGNORE.to_owned(),
            is: is.to_owned(),
            wanted: "1",
            why: "without it, x",
            needed_on: NeededOn::RealServers,
        }
    }

    fn gone(text: &str, device: &str) -> Difference {
        let addr = addr(text);
        Difference::Missing { addr, prefix: crate::net::host_prefix(addr), device: device.into() }
    }

    #[test]
    fn a_setting_is_fixed_by_sysctl_and_somebodys_change_is_told() {
        let setting = "fault: node 3: net.ipv4.conf.all.arp_ignore is 0 and should be 1: without \
                       it, x";
        let run = "    run: sysctl -w net.ipv4.conf.all.arp_ignore=1";
        assert_eq!(
            found(3, 1, arp_ignore("0"), true),
            [format!(
                "{setting}\n    fix: cvipd repairs it within a second; if it does not, its log says why; by hand:\n{run}"
            )]
        );
        assert_eq!(
            found(3, 1, arp_ignore("0"), false),
            [format!("{setting}\n    fix: start cvipd here, which sees to it, or:\n{run}")]
        );
        let seen = seen(conf(Routing::Dr, &["192.0.2.10"], 1), 3);
        let mut host = host(3);
        host.differences = vec![arp_ignore("0")];
        host.made = Some(vec![Done::Set {
            path: ARP_IGNORE.to_owned(),
            value: "1".to_owned(),
            was: "2".to_owned(),
        }]);
        let findings = lines(&differences(&seen, &host));
        assert!(findings[0].contains("cvipd had set it to 1, and another program changed it"));
    }

    #[test]
    fn a_missing_cvip_says_who_loses_what_and_hides_before_it_is_added() {
        let lines = found(3, 1, gone("192.0.2.10", "lo"), true);
        assert!(lines[0].contains("192.0.2.10/32 is missing on lo: this node drops what"));
        assert!(lines[0].ends_with("    run: ip addr add 192.0.2.10/32 dev lo"), "{lines:?}");
        assert!(!lines[0].contains("sysctl"), "{lines:?}");
        let lines = found(1, 1, gone("2001:db8::10", "eth0"), true);
        assert!(lines[0].contains("no client reaches it"), "{lines:?}");
        let command = "run: ip addr add 2001:db8::10/128 dev eth0 nodad noprefixroute \
                       preferred_lft 0";
        assert!(lines[0].contains(command), "{lines:?}");

        let seen = seen(conf(Routing::Dr, &["192.0.2.10", "2001:db8::10"], 1), 3);
        let mut host = host(3);
        host.set(ARP_IGNORE, "0");
        host.set("net/ipv6/conf/lo/disable_ipv6", "1");
        host.differences = vec![gone("192.0.2.10", "lo"), gone("2001:db8::10", "lo")];
        let findings = differences(&seen, &host);
        assert_eq!(
            findings[0].commands,
            ["sysctl -w net.ipv4.conf.all.arp_ignore=1", "ip addr add 192.0.2.10/32 dev lo"]
        );
        assert_eq!(findings[1].commands[0], "sysctl -w net.ipv6.conf.lo.disable_ipv6=0");
    }

    #[test]
    fn an_address_with_a_lifetime_is_cvipds_alone_to_add() {
        for (running, fix) in [(true, "its log says why"), (false, "run: systemctl start cvipd")] {
            let lines = found(1, 2, gone("192.0.2.10", "eth0"), running);
            assert!(lines[0].contains(fix) && !lines[0].contains("ip addr add"), "{lines:?}");
        }
    }

    #[test]
    fn ipvs_that_is_not_there_is_said_once_and_one_that_is_old_is_a_note() {
        let failure = |outdated| {
            let desired = DesiredSysctl {
                path: "net/ipv4/vs/conn_reuse_mode".to_owned(),
                value: "1",
                or: &[],
                why: "without it, x",
                needed_on: NeededOn::Directors,
            };
            let setting = "net.ipv4.vs.conn_reuse_mode".to_owned();
            let error = NetError::NoSetting { setting, hint: ": it is too old", outdated };
            Difference::Unmet(SettingFailure { error, consequence: Some(desired.why) })
        };
        let seen = seen(conf(Routing::Dr, &["192.0.2.10"], 1), 1);
        let mut host = host(1);
        host.differences = vec![failure(true)];
        let old = lines(&differences(&seen, &host));
        assert!(old[0].starts_with("note: node 1: no setting"), "{old:?}");
        host.settings.clear();
        host.differences = vec![failure(false), failure(false)];
        let none = lines(&differences(&seen, &host));
        assert_eq!(none.len(), 1);
        assert!(none[0].ends_with("run: modprobe ip_vs"), "{none:?}");
    }

    #[test]
    fn what_cvipd_made_is_noted_unless_another_program_undid_it() {
        let seen = seen(conf(Routing::Dr, &["192.0.2.10"], 1), 3);
        let mut host = host(3);
        host.carry("192.0.2.10", "lo");
        let added = |text: &str| Done::Added { addr: addr(text), prefix: 32, device: "lo".into() };
        let set = |path: &str| Done::Set {
            path: path.to_owned(),
            value: "1".to_owned(),
            was: "0".to_owned(),
        };
        host.made = Some(vec![
            added("192.0.2.10"),
            added("192.0.2.11"),
            set(ARP_IGNORE),
            set("net/ipv4/conf/eth0/arp_ignore"),
        ]);
        assert_eq!(
            lines(&made(&seen, &host)),
            [
                "note: node 3: cvipd added 192.0.2.10/32 to lo",
                "note: node 3: cvipd set net.ipv4.conf.all.arp_ignore to 1 (it was 0)",
            ]
        );
        host.made = None;
        assert!(made(&seen, &host).is_empty());
    }
}
