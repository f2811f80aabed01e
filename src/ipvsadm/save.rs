//! A table as the commands that make it: what `-S` prints and `-R` reads.
//!
//! Kept as they are in the original: thresholds, time-outs and daemons are not saved, and
//! scheduler flags that have no name in their scheduler come out as an empty list. `--full`
//! loses nothing of these; see [`Detail`].

use std::fmt::Write as _;

use super::columns::{ColumnText, Columns as _};
use super::listing::scheduler_flag_names;
use super::names::{Names, push_endpoint};
use crate::ipvs::{
    Destination, Family, Forwarding, SchedulerFlag, Service, ServiceId, TunnelKind, service_flags,
};
use crate::protocol::Protocol;

/// Appends the option and its value that name a service: `-t 10.0.0.1:80`.
pub(super) fn push_service_option(text: &mut ColumnText, id: &ServiceId, names: &mut dyn Names) {
    match *id {
        ServiceId::Mark { mark, family } => {
            text.push_str("-f ");
            text.number(mark.into());
            text.push_str(if family == Family::V6 { " -6" } else { "" });
        }
        ServiceId::Address { protocol, addr, port } => {
            text.push_str(match protocol {
                Protocol::Tcp => "-t ",
                Protocol::Udp => "-u ",
                Protocol::Sctp => "--sctp-service ",
            });
            push_endpoint(text, addr, port, Some(protocol), names);
        }
    }
}

/// How much of a table is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// What the original saves.
    Original,
    /// Everything that a command can set.
    Full,
}

/// Appends the line that adds a service.
pub fn push_service(
    line: &mut ColumnText,
    service: &Service,
    detail: Detail,
    names: &mut dyn Names,
) {
    line.push_str("-A ");
    push_service_option(line, &service.id, names);
    line.push_str(" -s ");
    line.push_str(&service.scheduler);
    // Writing to a text cannot fail.
    if service.flags & service_flags::PERSISTENT != 0 {
        let _ = write!(line, " -p {}", service.timeout);
        if let Some(mask) = service.partial_netmask() {
            let _ = write!(line, " -M {mask}");
        }
    }
    if let Some(pe) = &service.pe {
        let _ = write!(line, " --pe {pe}");
    }
    if service.flags & service_flags::ONE_PACKET != 0 {
        line.push_str(" -o");
    }
    let flags = match detail {
        Detail::Original => scheduler_flag_names(service),
        Detail::Full => {
            let words = SchedulerFlag::words(&service.scheduler, service.flags);
            Some(words.join(",")).filter(|flags| !flags.is_empty())
        }
    };
    if let Some(flags) = flags {
        let _ = write!(line, " -b {flags}");
    }
    line.push('\n');
}

/// Appends the line that adds a destination to a service.
pub fn push_destination(
    line: &mut ColumnText,
    id: &ServiceId,
    destination: &Destination,
    detail: Detail,
    names: &mut dyn Names,
) {
    line.push_str("-a ");
    push_service_option(line, id, names);
    line.push_str(" -r ");
    push_endpoint(line, destination.id.addr, destination.id.port, id.protocol(), names);
    line.push_str(match destination.forward {
        Forwarding::Masquerade => " -m -w ",
        Forwarding::Tunnel => " -i -w ",
        // The kernel alone sets these two; a rule cannot.
        Forwarding::Route | Forwarding::LocalNode | Forwarding::Bypass => " -g -w ",
    });
    line.number(destination.weight.into());
    if detail == Detail::Full {
        for (option, threshold) in [("-x", destination.upper), ("-y", destination.lower)] {
            if threshold != 0 {
                let _ = write!(line, " {option} {threshold}");
            }
        }
    }
    if destination.forward == Forwarding::Tunnel {
        let tunnel = destination.tunnel;
        let _ = write!(line, " --tun-type {}", tunnel.kind);
        if tunnel.kind == TunnelKind::Gue {
            let _ = write!(line, " --tun-port {}", tunnel.port);
        }
        if tunnel.kind != TunnelKind::Ipip {
            line.push_str(match tunnel.flags {
                0 => " --tun-nocsum",
                1 => " --tun-csum",
                _ => " --tun-remcsum",
            });
        }
    }
    line.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::names::Numbers;
    use super::*;

    fn service_line(service: &Service, detail: Detail) -> String {
        let mut line = ColumnText::new();
        push_service(&mut line, service, detail, &mut Numbers);
        line.to_text()
    }

    fn destination_line(destination: &Destination, detail: Detail) -> String {
        let mut line = ColumnText::new();
        push_destination(&mut line, &id(), destination, detail, &mut Numbers);
        line.to_text()
    }

    fn id() -> ServiceId {
        ServiceId::Address { protocol: Protocol::Udp, addr: "10.0.0.1".parse().unwrap(), port: 53 }
    }

    #[test]
    fn a_service_is_saved_with_what_it_has() {
        let mut service = Service::new(id(), "sh").persistent(120);
        service.netmask = 0xffff_ff00;
        service.pe = Some("sip".to_owned());
        service.flags |= service_flags::ONE_PACKET | service_flags::SCHED1;
        assert_eq!(
            service_line(&service, Detail::Original),
            "-A -u 10.0.0.1:53 -s sh -p 120 -M 255.255.255.0 --pe sip -o -b sh-fallback\n"
        );
    }

    #[test]
    fn a_tunnelled_destination_is_saved_with_its_tunnel() {
        let addr = "192.168.1.10".parse().unwrap();
        let mut destination = Destination::new(addr, 53, Forwarding::Tunnel, 5);
        destination.tunnel.kind = TunnelKind::Gue;
        destination.tunnel.port = 6080;
        destination.tunnel.flags = 1;
        assert_eq!(
            destination_line(&destination, Detail::Original),
            "-a -u 10.0.0.1:53 -r 192.168.1.10:53 -i -w 5 --tun-type gue --tun-port 6080 \
             --tun-csum\n"
        );
    }

    #[test]
    fn what_the_original_loses_is_saved_in_full() {
        let mut service = Service::new(id(), "sh");
        service.flags |= service_flags::SCHED1 | service_flags::SCHED3;
        assert_eq!(
            service_line(&service, Detail::Full),
            "-A -u 10.0.0.1:53 -s sh -b sh-fallback,flag-3\n"
        );
        let addr = "192.168.1.10".parse().unwrap();
        let mut destination = Destination::new(addr, 53, Forwarding::Route, 5);
        (destination.upper, destination.lower) = (100, 50);
        let line = |detail| destination_line(&destination, detail);
        assert_eq!(
            line(Detail::Full),
            "-a -u 10.0.0.1:53 -r 192.168.1.10:53 -g -w 5 -x 100 -y 50\n"
        );
        assert_eq!(line(Detail::Original), "-a -u 10.0.0.1:53 -r 192.168.1.10:53 -g -w 5\n");
    }
}
