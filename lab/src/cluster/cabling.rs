//! Bridges, and the cables between them and the members, with the addresses at their ends.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::Host;
use super::address::Network;
use crate::netns::Namespace;

/// What every cable of a cluster carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cabling {
    pub(super) ipv6: bool,
    pub(super) interconnect: bool,
}

/// Makes a bridge for each network.
pub(super) fn make_bridges(bridge: &Namespace, cabling: Cabling) -> Result<()> {
    let networks: &[Network] = match cabling.interconnect {
        true => &[Network::Public, Network::Interconnect],
        false => &[Network::Public],
    };
    let mut script = String::new();
    for name in networks.iter().map(|network| network.bridge()) {
        writeln!(
            script,
            "link add {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set {name} up"
        )?;
    }
    batch(bridge, &script)
}

/// Puts a cable between each of these members and each bridge, and gives it its addresses.
pub(super) fn connect(bridge: &Namespace, hosts: &[&Host]) -> Result<()> {
    // Addresses are usable at once (no duplicate address detection), and nobody asks for routers.
    for host in hosts {
        for key in ["all", "default"] {
            for (name, value) in
                [("accept_dad", "0"), ("dad_transmits", "0"), ("router_solicitations", "0")]
            {
                let key = format!("net.ipv6.conf.{key}.{name}");
                // A kernel without IPv6 has none of these.
                if host.cabling().ipv6 {
                    host.sysctl(&key, value)?;
                }
            }
        }
    }
    let mut script = String::new();
    for host in hosts {
        for network in host.networks() {
            let (port, name, mac) = (host.port(*network), host.name(), host.mac_on(*network));
            let (bridge, device) = (network.bridge(), network.device());
            writeln!(
                script,
                "link add {port} type veth peer name {device} address {mac} netns {name}\n\
                 link set {port} master {bridge} up"
            )?;
        }
    }
    batch(bridge, &script)?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = hosts
            .iter()
            .map(|host| {
                let mut script = String::new();
                for network in host.networks() {
                    let (device, v4, v6) =
                        (network.device(), host.v4_on(*network), host.v6_on(*network));
                    script += &format!("addr add {v4}/24 dev {device}\nlink set {device} up\n");
                    if host.cabling().ipv6 {
                        script += &format!("addr add {v6}/64 dev {device} nodad\n");
                    }
                }
                scope.spawn(move || batch(host.namespace(), &script))
            })
            .collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// Takes a member's cables away, with both of their ends.
pub(super) fn disconnect(host: &Host) -> Result<()> {
    let mut script = String::new();
    for network in host.networks() {
        writeln!(script, "link del {}", host.port(*network))?;
    }
    batch(host.bridge(), &script)
}

/// Gives `ip` several commands at once: a process each would take most of the time that a cluster takes.
fn batch(namespace: &Namespace, script: &str) -> Result<()> {
    let mut command = namespace.command("ip")?;
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run ip (of the package iproute2)")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).context("cannot write to ip")?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "ip -batch in {}: {}",
            namespace.name(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
