//! Edits that change what they name and keep the rest: `--keep`.
//!
//! The kernel replaces every setting of an entry at once, so that an edit begins with the entry as
//! it is ([`ServiceEdit::applied_to`], [`ServerEdit::applied_to`]). Pure.

use super::argument_error::{ArgumentError, illegal};
use super::option_checks::{check_tunnel, scheduler_flags};
use super::options::{Topic, Topics};
use crate::ipvs::{
    Destination, DestinationId, Forwarding, Service, ServiceId, Tunnel, TunnelKind, service_flags,
};

/// The flags that `--sched-flags` sets.
const SCHED_FLAGS: u32 = service_flags::SCHED1 | service_flags::SCHED2 | service_flags::SCHED3;

/// An edit that keeps what it does not name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Of a virtual service.
    Service(ServiceEdit),
    /// Of a real server.
    Server(ServerEdit),
}

/// What is named of a virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEdit {
    /// The service.
    pub id: ServiceId,
    /// The scheduler's name.
    pub scheduler: Option<String>,
    /// The list of `--sched-flags`; which of its words fit depends on the scheduler.
    pub sched_flags: Option<String>,
    /// The persistence time-out in seconds.
    pub persistent: Option<u32>,
    /// The persistence netmask, as [`Service::netmask`] has it.
    pub netmask: Option<u32>,
    /// The persistence engine, or that there is none.
    pub pe: Option<Option<String>>,
    /// One-packet scheduling is turned on.
    pub one_packet: bool,
}

/// What is named of a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerEdit {
    /// The service.
    pub service: ServiceId,
    /// The real server.
    pub at: DestinationId,
    /// The forwarding method.
    pub forward: Option<Forwarding>,
    /// The weight.
    pub weight: Option<u32>,
    /// The upper threshold.
    pub upper: Option<u32>,
    /// The lower threshold.
    pub lower: Option<u32>,
    /// The type of tunnel.
    pub tunnel_kind: Option<TunnelKind>,
    /// The tunnel's port.
    pub tunnel_port: Option<u16>,
    /// The tunnel's checksum flags.
    pub tunnel_flags: Option<u16>,
    /// The tunnel's options that were given, beside its type.
    pub tunnel_options: Topics,
}

impl ServiceEdit {
    /// The service as it is after the edit.
    ///
    /// # Errors
    ///
    /// A flag is not one of the scheduler's.
    pub fn applied_to(&self, now: &Service) -> Result<Service, ArgumentError> {
        let mut service = now.clone();
        if let Some(scheduler) = &self.scheduler {
            service.scheduler.clone_from(scheduler);
        }
        if let Some(list) = &self.sched_flags {
            let flags = scheduler_flags(list, Some(&service.scheduler))?;
            service.flags = service.flags & !SCHED_FLAGS | flags;
        }
        if let Some(seconds) = self.persistent {
            service = service.persistent(seconds);
        }
        if let Some(netmask) = self.netmask {
            service.netmask = netmask;
        }
        if let Some(pe) = &self.pe {
            service.pe.clone_from(pe);
        }
        if self.one_packet {
            service.flags |= service_flags::ONE_PACKET;
        }
        Ok(service)
    }
}

impl ServerEdit {
    /// The real server as it is after the edit.
    ///
    /// # Errors
    ///
    /// What is named and what is kept do not go together.
    pub fn applied_to(&self, now: &Destination) -> Result<Destination, ArgumentError> {
        let forward = self.forward.unwrap_or(now.forward);
        let upper = self.upper.unwrap_or(now.upper);
        let lower = self.lower.unwrap_or(now.lower);
        if lower > upper {
            return illegal(format!(
                "The lower threshold ({lower}) would be above the upper one ({upper}): name both, \
                 -x and -y"
            ));
        }
        Ok(Destination {
            id: now.id,
            forward,
            weight: self.weight.unwrap_or(now.weight),
            upper,
            lower,
            tunnel: self.tunnel(forward, now)?,
        })
    }

    /// The tunnel after the edit. What belongs to one type means nothing to another.
    fn tunnel(&self, forward: Forwarding, now: &Destination) -> Result<Tunnel, ArgumentError> {
        let named = self.tunnel_kind.is_some() || self.tunnel_options != Topics::default();
        if forward != Forwarding::Tunnel {
            return match named {
                true => illegal("Tunnel options conflict with forward method"),
                false => Ok(Tunnel::default()),
            };
        }
        let before = match now.forward {
            Forwarding::Tunnel => now.tunnel,
            _ => Tunnel::default(),
        };
        let kind = self.tunnel_kind.unwrap_or(before.kind);
        let kept = if kind == before.kind { before } else { Tunnel::default() };
        let port = self.tunnel_port.unwrap_or(kept.port);
        let mut options = self.tunnel_options;
        if kind == TunnelKind::Gue && port != 0 {
            options.insert(Topic::TunPort);
        }
        check_tunnel(options, kind)?;
        Ok(Tunnel { kind, port, flags: self.tunnel_flags.unwrap_or(kept.flags) })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::super::args::{OptionValue, parse};
    use super::super::invocation::Invocation;
    use super::super::names::Numbers;
    use super::*;
    use crate::ipvs::Change;

    fn read(line: &str) -> Result<Invocation, ArgumentError> {
        let words: Vec<&OsStr> = line.split_whitespace().map(OsStr::new).collect();
        let program = OsStr::new("ipvsadm");
        parse(OptionValue { program, posix: false, restoring: false }, &words, &mut Numbers)
    }

    fn server(line: &str) -> Destination {
        match read(&format!("-a -t 10.0.0.1:80 {line}")) {
            Ok(Invocation::Change(Change::AddDestination(_, destination))) => destination,
            other => panic!("{line}: {other:?}"),
        }
    }

    /// The real server of `now` after `edit`, or what is wrong.
    fn edited(now: &str, edit: &str) -> Result<Destination, String> {
        let now = server(now);
        match read(&format!("-e --keep -t 10.0.0.1:80 -r {} {edit}", now.id)) {
            Ok(Invocation::Edit(Edit::Server(edit))) => {
                edit.applied_to(&now).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
            other => panic!("{edit}: {other:?}"),
        }
    }

    fn service(line: &str) -> Service {
        match read(&format!("-A {line}")) {
            Ok(Invocation::Change(Change::AddService(service))) => service,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn edited_service(at: &str, now: &str, edit: &str) -> Result<Service, String> {
        match read(&format!("-E {at} --keep {edit}")) {
            Ok(Invocation::Edit(Edit::Service(edit))) => {
                edit.applied_to(&service(&format!("{at} {now}"))).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
            other => panic!("{edit}: {other:?}"),
        }
    }

    #[test]
    fn an_edit_of_a_server_changes_what_it_names() {
        const NOW: &str = "-r 10.0.1.1:8080 -m -w 5 -x 100 -y 50";
        for (edit, after) in [
            ("", NOW),
            ("-w 0", "-r 10.0.1.1:8080 -m -w 0 -x 100 -y 50"),
            ("-x 200", "-r 10.0.1.1:8080 -m -w 5 -x 200 -y 50"),
            ("-y 0 -x 0", "-r 10.0.1.1:8080 -m -w 5"),
        ] {
            assert_eq!(edited(NOW, edit), Ok(server(after)), "{edit}");
        }
        let route = "-r 10.0.1.1:80 -g -w 3";
        assert_eq!(edited(route, "-m"), Ok(server("-r 10.0.1.1:80 -m -w 3")));
    }

    #[test]
    fn a_tunnel_keeps_what_its_type_has_and_loses_what_another_had() {
        const GUE: &str = "-r 10.0.1.1:80 -i -w 5 --tun-type gue --tun-port 6080 --tun-csum";
        for (edit, after) in [
            ("-w 1", "-r 10.0.1.1:80 -i --tun-type gue --tun-port 6080 --tun-csum"),
            ("--tun-port 7", "-r 10.0.1.1:80 -i -w 5 --tun-type gue --tun-port 7 --tun-csum"),
            (
                "--tun-remcsum",
                "-r 10.0.1.1:80 -i -w 5 --tun-type gue --tun-port 6080 --tun-remcsum",
            ),
            ("--tun-type gre", "-r 10.0.1.1:80 -i -w 5 --tun-type gre"),
            ("--tun-type ipip", "-r 10.0.1.1:80 -i -w 5"),
            ("-g", "-r 10.0.1.1:80 -g -w 5"),
        ] {
            assert_eq!(edited(GUE, edit), Ok(server(after)), "{edit}");
        }
        assert_eq!(edited("-r 10.0.1.1:80 -g", "-i"), Ok(server("-r 10.0.1.1:80 -i")));
    }

    #[test]
    fn what_does_not_go_together_with_what_is_kept_is_refused() {
        for (now, edit, why) in [
            ("-r 10.0.1.1 -m -x 9 -y 5", "-x 3", "The lower threshold (5) would be above the"),
            ("-r 10.0.1.1 -m", "--tun-csum", "Tunnel options conflict with forward method"),
            ("-r 10.0.1.1 -i", "--tun-csum", "Illegal 'tun-csum' option with the 'ipip' tunnel"),
            ("-r 10.0.1.1 -i", "--tun-type gue", "You need to supply the 'tun-port' option for"),
            ("-r 10.0.1.1:81 -m", "-g", "Only masquerading (-m) can reach a port that is not"),
            (
                "-r 10.0.1.1 -i --tun-type gre",
                "--tun-csum --tun-nocsum",
                "The option 'tun-csum' conflicts with the 'tun-nocsum' option",
            ),
        ] {
            let refused = edited(now, edit).expect_err(edit);
            assert!(refused.starts_with(why), "{edit}: {refused}");
        }
        let refused = read("-e --keep -t 10.0.0.1:80 -r fd00::1 -m").expect_err("mixed families");
        assert!(refused.to_string().starts_with("Different address family"), "{refused}");
    }

    #[test]
    fn an_edit_of_a_service_changes_what_it_names() {
        let at = "-t 10.0.0.1:80";
        let now = "-s sh -p 60 -M 255.255.255.0 -b sh-port,flag-3";
        for (edit, after) in [
            ("", now),
            ("-p 90", "-s sh -p 90 -M 255.255.255.0 -b sh-port,flag-3"),
            ("-p", "-s sh -p 360 -M 255.255.255.0 -b sh-port,flag-3"),
            ("-M 255.0.0.0", "-s sh -p 60 -M 255.0.0.0 -b sh-port,flag-3"),
            ("-b sh-fallback", "-s sh -p 60 -M 255.255.255.0 -b sh-fallback"),
            ("-b ,", "-s sh -p 60 -M 255.255.255.0"),
            ("-s rr -b ,", "-s rr -p 60 -M 255.255.255.0"),
            ("-s mh -b mh-port", "-s mh -p 60 -M 255.255.255.0 -b mh-port"),
        ] {
            let after = Ok(service(&format!("{at} {after}")));
            assert_eq!(edited_service(at, now, edit), after, "{edit}");
        }
        let refused = edited_service(at, now, "-b mh-port");
        assert_eq!(refused, Err("incompatible scheduler flag `mh-port'".to_owned()));
        let refused = edited_service(at, now, "-b nonesuch");
        assert_eq!(refused, Err("invalid scheduler flag `nonesuch'".to_owned()));
        let refused = edited_service(at, now, "-o").expect_err("TCP");
        assert!(refused.starts_with("One-Packet Scheduling is only for UDP"), "{refused}");
    }

    #[test]
    fn an_edit_knows_marks_ipv6_and_engines() {
        let sip = "-p 60 --pe sip -o";
        let at = "-u [fd00::1]:5060";
        let after = |words: &str| Ok(service(&format!("{at} {words}")));
        assert_eq!(edited_service(at, "-p 60", "--pe sip -o"), after(sip));
        assert_eq!(edited_service(at, sip, "-M 64"), after("-p 60 --pe sip -o -M 64"));
        assert_eq!(edited_service("-f 7 -6", "-s rr", "-p 9"), Ok(service("-f 7 -6 -s rr -p 9")));
        let words = ["-E", "--keep", "-t", "10.0.0.1:0", "--pe", ""].map(OsStr::new);
        let setting =
            OptionValue { program: OsStr::new("ipvsadm"), posix: false, restoring: false };
        let Ok(Invocation::Edit(Edit::Service(edit))) = parse(setting, &words, &mut Numbers) else {
            panic!("no edit");
        };
        let now = service("-t 10.0.0.1:0 -p 60 --pe sip");
        assert_eq!(edit.applied_to(&now), Ok(service("-t 10.0.0.1:0 -p 60")));
    }

    #[test]
    fn a_netmask_that_an_ipv6_service_overrides_is_refused() {
        for line in ["-E --keep -M 64 -t [fd00::1]:80", "-E --keep -f 7 -M 64 -6"] {
            let refused = read(line).expect_err(line).to_string();
            assert!(refused.starts_with("The option 'netmask' must follow an IPv6"), "{refused}");
        }
        assert!(read("-E -M 64 -t [fd00::1]:80").is_ok(), "as ever without --keep");
    }

    #[test]
    fn keep_goes_with_edits_alone() {
        for (line, command) in [
            ("-A --keep -t 10.0.0.1:80", "add-service"),
            ("-a --keep -t 10.0.0.1:80 -r 10.0.1.1", "add-server"),
            ("-d --keep -t 10.0.0.1:80 -r 10.0.1.1", "delete-server"),
        ] {
            let refused = read(line).expect_err(line).to_string();
            assert_eq!(refused, format!("Illegal 'keep' option with the '{command}' command"));
        }
    }
}
