//! How the kernel's table and changes to it read in a log: for people, never parsed.

use std::fmt;
use std::net::SocketAddr;

use super::types::*;

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceId::Address { protocol, addr, port } => {
                write!(f, "{protocol} {}", SocketAddr::new(*addr, *port))
            }
            ServiceId::Mark { mark, family } => write!(f, "mark {mark} {family}"),
        }
    }
}

impl fmt::Display for DestinationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.addr, self.port).fmt(f)
    }
}

impl fmt::Display for Forwarding {
    /// ipvsadm's words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Forwarding::Masquerade => "Masq",
            Forwarding::LocalNode => "Local",
            Forwarding::Tunnel => "Tunnel",
            Forwarding::Route => "Route",
            Forwarding::Bypass => "Bypass",
        })
    }
}

impl fmt::Display for DaemonRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            DaemonRole::Master => "master",
            DaemonRole::Backup => "backup",
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = |f: &mut fmt::Formatter<'_>, service: &Service| {
            write!(f, "{}, scheduler {}", service.id, service.scheduler)?;
            match service.flags & service_flags::PERSISTENT {
                0 => Ok(()),
                _ => write!(f, ", persistent {} s", service.timeout),
            }
        };
        match self {
            Change::AddService(service) => {
                f.write_str("new service ")?;
                settings(f, service)
            }
            Change::EditService(service) => {
                f.write_str("service ")?;
                settings(f, service)
            }
            Change::DeleteService(id) => write!(f, "service {id} removed"),
            Change::AddDestination(id, d) => {
                write!(f, "{} joins {id}, {}, weight {}", d.id, d.forward, d.weight)
            }
            Change::EditDestination(id, d) if d.weight == 0 => {
                write!(f, "{} quiesced in {id}, {}, weight 0", d.id, d.forward)
            }
            Change::EditDestination(id, d) => {
                write!(f, "{} in {id}, {}, weight {}", d.id, d.forward, d.weight)
            }
            Change::DeleteDestination(id, at) => write!(f, "{at} removed from {id}"),
            Change::Zero(None) => f.write_str("all counters zeroed"),
            Change::Zero(Some(id)) => write!(f, "counters of {id} zeroed"),
            Change::Flush => f.write_str("table emptied"),
            Change::SetTimeouts(t) => {
                write!(f, "time-outs tcp {} s, tcpfin {} s, udp {} s", t.tcp, t.tcp_fin, t.udp)
            }
            Change::StartDaemon(daemon) => {
                write!(f, "sync daemon {} started on {}", daemon.role, daemon.interface)
            }
            Change::StopDaemon(role, _) => write!(f, "sync daemon {role} stopped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Protocol;

    #[test]
    fn a_change_reads_as_what_happened() {
        let id = ServiceId::Address {
            protocol: Protocol::Tcp,
            addr: "fd00::10".parse().unwrap(),
            port: 80,
        };
        let service = Service::new(id, "wlc").persistent(300);
        let new = Change::AddService(service).to_string();
        assert_eq!(new, "new service tcp [fd00::10]:80, scheduler wlc, persistent 300 s");
        let d = Destination::new("fd00::1".parse().unwrap(), 80, Forwarding::Route, 2);
        let joins = Change::AddDestination(id, d).to_string();
        assert_eq!(joins, "[fd00::1]:80 joins tcp [fd00::10]:80, Route, weight 2");
        let quiesced = Destination { weight: 0, ..d };
        let quiesced = Change::EditDestination(id, quiesced).to_string();
        assert_eq!(quiesced, "[fd00::1]:80 quiesced in tcp [fd00::10]:80, Route, weight 0");
    }
}
