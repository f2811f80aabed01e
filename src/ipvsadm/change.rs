//! A change to the table as the command that would make it.

use super::columns::ColumnText;
use super::names::Numbers;
use super::save::{Detail, push_destination, push_service, push_service_option};
use crate::ipvs::{Change, DestinationId, ServiceId, SyncDaemon};
use std::net::SocketAddr;

/// The ipvsadm command, without the program's name and in numbers, that makes a change.
pub fn change_line(change: &Change) -> String {
    let named = service_option;
    let server = |at: &DestinationId| SocketAddr::new(at.addr, at.port);
    let service_line =
        |service| text(&|text| push_service(text, service, Detail::Full, &mut Numbers));
    let destination_line =
        |id, d| text(&|text| push_destination(text, id, d, Detail::Full, &mut Numbers));
    let line = match change {
        Change::AddService(service) => service_line(service),
        Change::EditService(service) => edit(&service_line(service), "-A", "-E"),
        Change::DeleteService(id) => format!("-D {}", named(id)),
        Change::AddDestination(id, d) => destination_line(id, d),
        Change::EditDestination(id, d) => edit(&destination_line(id, d), "-a", "-e"),
        Change::DeleteDestination(id, at) => format!("-d {} -r {}", named(id), server(at)),
        Change::Zero(None) => "-Z".to_owned(),
        Change::Zero(Some(id)) => format!("-Z {}", named(id)),
        Change::Flush => "-C".to_owned(),
        Change::SetTimeouts(t) => format!("--set {} {} {}", t.tcp, t.tcp_fin, t.udp),
        Change::StartDaemon(daemon) => start_daemon(daemon),
        Change::StopDaemon(role, id) => format!("--stop-daemon {role} --syncid {id}"),
    };
    line.trim_end().to_owned()
}

/// The option that names a service, with its value: `-t 10.0.0.1:80`.
pub(super) fn service_option(id: &ServiceId) -> String {
    text(&|text| push_service_option(text, id, &mut Numbers))
}

fn text(push: &dyn Fn(&mut ColumnText)) -> String {
    let mut text = ColumnText::new();
    push(&mut text);
    text.to_text()
}

fn start_daemon(daemon: &SyncDaemon) -> String {
    let mut line = format!(
        "--start-daemon {} --mcast-interface {} --syncid {}",
        daemon.role, daemon.interface, daemon.sync_id
    );
    let settings = [
        ("sync-maxlen", daemon.max_len.map(|bytes| bytes.to_string())),
        ("mcast-group", daemon.group.map(|group| group.to_string())),
        ("mcast-port", daemon.port.map(|port| port.to_string())),
        ("mcast-ttl", daemon.ttl.map(|ttl| ttl.to_string())),
    ];
    for (option, value) in settings {
        if let Some(value) = value {
            line.push_str(&format!(" --{option} {value}"));
        }
    }
    line
}

/// The line with another command.
fn edit(line: &str, add: &str, edit: &str) -> String {
    format!("{edit}{}", line.strip_prefix(add).unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvs::{Destination, Forwarding, Service};
    use crate::protocol::Protocol;

    #[test]
    fn each_change_of_a_service_is_the_command_that_makes_it() {
        let addr = "fd00::10".parse().unwrap();
        let id = ServiceId::Address { protocol: Protocol::Tcp, addr, port: 80 };
        let d = Destination::new("fd00::1".parse().unwrap(), 80, Forwarding::Route, 2);
        for (change, line) in [
            (Change::AddService(Service::new(id, "wlc")), "-A -t [fd00::10]:80 -s wlc"),
            (Change::EditService(Service::new(id, "rr")), "-E -t [fd00::10]:80 -s rr"),
            (Change::AddDestination(id, d), "-a -t [fd00::10]:80 -r [fd00::1]:80 -g -w 2"),
            (Change::EditDestination(id, d), "-e -t [fd00::10]:80 -r [fd00::1]:80 -g -w 2"),
            (Change::DeleteDestination(id, d.id), "-d -t [fd00::10]:80 -r [fd00::1]:80"),
            (Change::DeleteService(id), "-D -t [fd00::10]:80"),
        ] {
            assert_eq!(change_line(&change), line);
        }
    }
}
