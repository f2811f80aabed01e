//! How the kernel's table and changes to it read in a log: for people, never parsed.

use std::fmt;
use std::net::SocketAddr;

use super::scheduler_flags::SchedulerFlag;
use super::types::*;

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

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = |f: &mut fmt::Formatter<'_>, service: &Service| {
            write!(f, "{}, scheduler {}", service.id, service.scheduler)?;
            let words = SchedulerFlag::words(&service.scheduler, service.flags);
            if !words.is_empty() {
                write!(f, " ({})", words.join(", "))?;
            }
            if service.flags & service_flags::PERSISTENT != 0 {
                write!(f, ", persistent {} s", service.timeout)?;
                if let Some(mask) = service.partial_netmask() {
                    write!(f, " by netmask {mask}")?;
                }
                if let Some(pe) = &service.pe {
                    write!(f, " by {pe}")?;
                }
            }
            match service.flags & service_flags::ONE_PACKET {
                0 => Ok(()),
                _ => f.write_str(", each packet by itself"),
            }
        };
        let thresholds = |f: &mut fmt::Formatter<'_>, d: &Destination| match (d.upper, d.lower) {
            (0, _) => Ok(()),
            (upper, 0) => write!(f, ", full at {upper} connections"),
            (upper, lower) => write!(f, ", full at {upper} connections until below {lower}"),
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
                write!(f, "{} joins {id}, {}, weight {}", d.id, d.forward, d.weight)?;
                thresholds(f, d)
            }
            Change::EditDestination(id, d) if d.weight == 0 => {
                write!(f, "{} quiesced in {id}, {}, weight 0", d.id, d.forward)
            }
            Change::EditDestination(id, d) => {
                write!(f, "{} in {id}, {}, weight {}", d.id, d.forward, d.weight)?;
                thresholds(f, d)
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
        let mut sip = Service::new(id, "mh").persistent(60);
        sip.flags |= service_flags::SCHED2 | service_flags::ONE_PACKET;
        (sip.netmask, sip.pe) = (64, Some("sip".to_owned()));
        assert_eq!(
            Change::EditService(sip).to_string(),
            "service tcp [fd00::10]:80, scheduler mh (mh-port), persistent 60 s by netmask 64 by \
             sip, each packet by itself"
        );
        let d = Destination::new("fd00::1".parse().unwrap(), 80, Forwarding::Route, 2);
        let joins = Change::AddDestination(id, d).to_string();
        assert_eq!(joins, "[fd00::1]:80 joins tcp [fd00::10]:80, Route, weight 2");
        let full = Destination { upper: 100, lower: 80, ..d };
        assert_eq!(
            Change::EditDestination(id, full).to_string(),
            "[fd00::1]:80 in tcp [fd00::10]:80, Route, weight 2, full at 100 connections until \
             below 80"
        );
        let quiesced = Destination { weight: 0, ..d };
        let quiesced = Change::EditDestination(id, quiesced).to_string();
        assert_eq!(quiesced, "[fd00::1]:80 quiesced in tcp [fd00::10]:80, Route, weight 0");
    }
}
