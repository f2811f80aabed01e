//! Bridges, and the cables between them and hosts, with the addresses at their ends.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};

use crate::namespace::Namespace;
use crate::sys;

/// A cable from a bridge to a host.
#[derive(Debug)]
pub(crate) struct Cable {
    pub(crate) bridge: &'static str,
    /// The bridge's end.
    pub(crate) port: String,
    /// The host's end.
    pub(crate) device: &'static str,
    /// The host's hardware address, if not one of the kernel's choice.
    pub(crate) mac: Option<String>,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Option<Ipv6Addr>,
}

/// Makes bridges in a namespace.
pub(crate) fn make_bridges(bridges: &Namespace, names: &[&str]) -> Result<()> {
    let mut script = String::new();
    for name in names {
        writeln!(
            script,
            "link add {name} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set {name} up"
        )?;
    }
    bridges.batch("ip", &script)
}

/// Puts each host's cables between it and the bridges, and gives them their addresses.
pub(crate) fn connect(bridges: &Namespace, hosts: &[(&Namespace, Vec<Cable>)]) -> Result<()> {
    let mut script = String::new();
    for (host, cables) in hosts {
        // Addresses are usable at once (no duplicate address detection), and nobody asks for routers. A kernel without
        // IPv6 has none of these.
        if cables.iter().any(|cable| cable.v6.is_some()) {
            for key in ["all", "default"] {
                for (name, value) in
                    [("accept_dad", "0"), ("dad_transmits", "0"), ("router_solicitations", "0")]
                {
                    host.sysctl(&format!("net.ipv6.conf.{key}.{name}"), value)?;
                }
            }
        }
        for Cable { bridge, port, device, mac, .. } in cables {
            let mac = mac.iter().map(|mac| format!(" address {mac}")).collect::<String>();
            let host = host.reference();
            writeln!(
                script,
                "link add {port} type veth peer name {device}{mac} netns {host}\n\
                 link set {port} master {bridge} up"
            )?;
        }
    }
    bridges.batch("ip", &script)?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = hosts
            .iter()
            .map(|(host, cables)| {
                let mut script = String::new();
                for Cable { device, v4, v6, .. } in cables {
                    script += &format!("addr add {v4}/24 dev {device}\nlink set {device} up\n");
                    if let Some(v6) = v6 {
                        script += &format!("addr add {v6}/64 dev {device} nodad\n");
                    }
                }
                scope.spawn(move || host.batch("ip", &script))
            })
            .collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

/// Takes cables away, with both of their ends.
pub(crate) fn disconnect(bridges: &Namespace, cables: &[Cable]) -> Result<()> {
    let lines = cables.iter().map(|cable| format!("link del {}\n", cable.port));
    bridges.batch("ip", &lines.collect::<String>())
}

/// Switches a port of a bridge.
pub(crate) fn set_port(bridges: &Namespace, port: &str, up: bool) -> Result<()> {
    bridges
        .enter(|| sys::set_link(port, up))
        .with_context(|| format!("{}: cannot switch the bridge's port {port}", bridges.name()))
}
