//! The listings of the table, column by column as ipvsadm prints them.
//!
//! Trailing blanks, columns that long IPv6 addresses push aside and IPv4 names that lose
//! their port to the column's width are the format: scripts cut these lines at fixed places.

use std::fmt::Write as _;

use super::columns::{ColumnText, Columns as _};
use super::invocation::ColumnChoice;
use super::names::{Names, push_endpoint};
use crate::ipvs::{
    DaemonRole, DestinationEntry, Family, Forwarding, Info, SchedulerFlag, Service, ServiceEntry,
    ServiceId, Stats, SyncDaemon, Timeouts, Tunnel, TunnelKind, service_flags,
};
use crate::protocol::Protocol;

/// The width of the name in front of counters, and the most of an IPv4 service's name.
const SERVICE_WIDTH: usize = 33;
/// The width of a destination's name, and the most of an IPv4 one.
const DESTINATION_WIDTH: usize = 28;

/// The first line of a listing of the whole table.
pub fn version_line(info: &Info) -> String {
    let (major, minor, patch) = info.version;
    format!(
        "IP Virtual Server version {major}.{minor}.{patch} (size={})\n",
        info.connection_table_size
    )
}

/// The two lines over the columns.
pub fn title(columns: ColumnChoice) -> String {
    let counters = |names: [&str; 5]| {
        let mut line = format!("{:<SERVICE_WIDTH$}", "Prot LocalAddress:Port");
        for name in names {
            let _ = write!(line, " {name:>8}");
        }
        line
    };
    let plain = |names: [&str; 4], widths: [usize; 4]| {
        let mut line = format!("{:<SERVICE_WIDTH$}", "Prot LocalAddress:Port");
        for (name, width) in names.into_iter().zip(widths) {
            let _ = write!(line, " {name:<width$}");
        }
        line
    };
    let (line, rest) = match columns {
        ColumnChoice::Stats => {
            (counters(["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"]), "")
        }
        ColumnChoice::Rate => (counters(["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"]), ""),
        ColumnChoice::Thresholds => {
            (plain(["Uthreshold", "Lthreshold", "ActiveConn", "InActConn"], [10, 10, 10, 10]), "")
        }
        ColumnChoice::Persistent => {
            (plain(["Weight", "PersistConn", "ActiveConn", "InActConn"], [9, 11, 10, 10]), "")
        }
        ColumnChoice::Tunnels => (
            "Prot LocalAddress:Port Scheduler Flags".to_owned(),
            "           Forward TunnelInfo    Weight ActiveConn InActConn",
        ),
        ColumnChoice::Default => (
            "Prot LocalAddress:Port Scheduler Flags".to_owned(),
            "           Forward Weight ActiveConn InActConn",
        ),
    };
    format!("{line}\n  -> RemoteAddress:Port{rest}\n")
}

/// Appends a service's line.
pub fn push_service(
    line: &mut ColumnText,
    entry: &ServiceEntry,
    columns: ColumnChoice,
    exact: bool,
    names: &mut dyn Names,
) {
    let service = &entry.service;
    let start = line.len();
    push_service_name(line, &service.id, names);
    match columns {
        ColumnChoice::Stats | ColumnChoice::Rate => {
            line.fill(start, SERVICE_WIDTH);
            push_counters(line, &entry.stats, columns, exact, false);
        }
        _ => {
            line.push(' ');
            line.push_str(&service.scheduler);
            push_flags(line, service);
        }
    }
    line.push('\n');
}

fn push_service_name(line: &mut ColumnText, id: &ServiceId, names: &mut dyn Names) {
    match *id {
        ServiceId::Mark { mark, family } => {
            line.push_str("FWM  ");
            line.number(mark.into());
            line.push_str(if family == Family::V6 { " IPv6" } else { "" });
        }
        ServiceId::Address { protocol, addr, port } => {
            let start = line.len();
            line.push_str(match protocol {
                Protocol::Tcp => "TCP  ",
                Protocol::Udp => "UDP  ",
                Protocol::Sctp => "SCTP ",
            });
            push_endpoint(line, addr, port, Some(protocol), names);
            if addr.is_ipv4() {
                line.cut(start, SERVICE_WIDTH);
            }
        }
    }
}

fn push_flags(line: &mut ColumnText, service: &Service) {
    if let Some(flags) = scheduler_flag_names(service) {
        let _ = write!(line, " ({flags})");
    }
    if service.flags & service_flags::PERSISTENT != 0 {
        let _ = write!(line, " persistent {}", service.timeout);
        if let Some(mask) = service.partial_netmask() {
            let _ = write!(line, " mask {mask}");
        }
        if let Some(pe) = &service.pe {
            let _ = write!(line, " pe {pe}");
        }
    }
    if service.flags & service_flags::ONE_PACKET != 0 {
        line.push_str(" ops");
    }
}

/// The scheduler's flags by name, `None` without any. `sh` and `mh` have names of their own,
/// but none for the third flag.
pub(super) fn scheduler_flag_names(service: &Service) -> Option<String> {
    let mut words = SchedulerFlag::words(&service.scheduler, service.flags);
    if words.is_empty() {
        return None;
    }
    if matches!(service.scheduler.as_str(), "sh" | "mh") {
        words.retain(|word| *word != "flag-3");
    }
    Some(words.join(","))
}

/// The listing of all services' counters together.
pub fn totals_lines(stats: &Stats, exact: bool) -> ColumnText {
    let mut text = ColumnText::new();
    for (columns, name) in [(ColumnChoice::Stats, "Total"), (ColumnChoice::Rate, "Per second")] {
        let title = title(columns);
        let names = title.lines().next().and_then(|line| line.get(SERVICE_WIDTH..));
        let _ = writeln!(text, "{:<SERVICE_WIDTH$}{}", "All services", names.unwrap_or_default());
        text.word(name, SERVICE_WIDTH);
        push_counters(&mut text, stats, columns, exact, false);
        text.push('\n');
    }
    text
}

/// The lines of the kernel's status, each of a name and a value.
pub fn status_lines(lines: &[(&str, &str)]) -> ColumnText {
    let mut text = ColumnText::new();
    for (name, value) in lines {
        text.word(name, SERVICE_WIDTH);
        text.push(' ');
        text.push_str(value);
        text.push('\n');
    }
    text
}

/// Appends a destination's line; `protocol` is its service's, `None` for a firewall mark.
pub fn push_destination(
    line: &mut ColumnText,
    entry: &DestinationEntry,
    protocol: Option<Protocol>,
    columns: ColumnChoice,
    exact: bool,
    names: &mut dyn Names,
) {
    let DestinationEntry { destination, active, inactive, persistent, .. } = entry;
    line.push_str("  -> ");
    let start = line.len();
    push_endpoint(line, destination.id.addr, destination.id.port, protocol, names);
    if destination.id.addr.is_ipv4() {
        line.cut(start, DESTINATION_WIDTH);
    }
    line.fill(start, DESTINATION_WIDTH);
    let number = |line: &mut ColumnText, value: u32, width| {
        line.push(' ');
        line.number_left(value.into(), width);
    };
    match columns {
        ColumnChoice::Stats | ColumnChoice::Rate => {
            push_counters(line, &entry.stats, columns, exact, true)
        }
        ColumnChoice::Thresholds => {
            number(line, destination.upper, 10);
            number(line, destination.lower, 10);
        }
        ColumnChoice::Persistent => {
            number(line, destination.weight, 9);
            number(line, *persistent, 11);
        }
        ColumnChoice::Tunnels | ColumnChoice::Default => {
            line.push(' ');
            line.word(forwarding_name(destination.forward), 7);
            if columns == ColumnChoice::Tunnels {
                line.push(' ');
                match destination.forward {
                    Forwarding::Tunnel => line.word(&tunnel_info(destination.tunnel), 13),
                    _ => line.word("n/a", 13),
                }
            }
            number(line, destination.weight, 6);
        }
    }
    if !matches!(columns, ColumnChoice::Stats | ColumnChoice::Rate) {
        number(line, *active, 10);
        number(line, *inactive, 10);
    }
    line.push('\n');
}

/// The word of a forwarding method.
pub fn forwarding_name(forward: Forwarding) -> &'static str {
    match forward {
        Forwarding::Masquerade => "Masq",
        Forwarding::LocalNode => "Local",
        Forwarding::Tunnel => "Tunnel",
        Forwarding::Route => "Route",
        Forwarding::Bypass => "Bypass",
    }
}

fn tunnel_info(tunnel: Tunnel) -> String {
    let checksum = match tunnel.flags {
        0 => "-c",
        1 => "+c",
        _ => "r+c",
    };
    match tunnel.kind {
        TunnelKind::Ipip => "ipip".to_owned(),
        TunnelKind::Gue => format!("gue:{}:{checksum}", tunnel.port),
        TunnelKind::Gre => format!("gre:{checksum}"),
    }
}

/// Appends the five counters of a line. A destination's rates of connections and packets are
/// never abbreviated.
fn push_counters(
    line: &mut ColumnText,
    stats: &Stats,
    columns: ColumnChoice,
    exact: bool,
    destination: bool,
) {
    let (whole, short) = if columns == ColumnChoice::Rate {
        ([stats.cps, stats.in_pps, stats.out_pps], [stats.in_bps, stats.out_bps])
    } else {
        let whole = [stats.connections, stats.in_packets, stats.out_packets];
        (whole, [stats.in_bytes, stats.out_bytes])
    };
    for value in whole {
        push_counter(line, value, exact || (destination && columns == ColumnChoice::Rate));
    }
    for value in short {
        push_counter(line, value, exact);
    }
}

/// Appends a counter, nine columns wide: in full below 100 million, then in thousands, millions,
/// billions or trillions, never rounded up. In full at any size with `exact`.
fn push_counter(line: &mut ColumnText, value: u64, exact: bool) {
    if exact {
        line.push(' ');
        line.number_right(value, 8);
        return;
    }
    let (divisor, unit) = match value {
        0..100_000_000 => return line.number_right(value, 9),
        100_000_000..1_000_000_000 => (1_000, 'K'),
        1_000_000_000..100_000_000_000 => (1_000_000, 'M'),
        100_000_000_000..100_000_000_000_000 => (1_000_000_000, 'G'),
        100_000_000_000_000.. => (1_000_000_000_000, 'T'),
    };
    line.number_right(value / divisor, 8);
    line.push(unit);
}

/// The line of the time-outs.
pub fn timeouts_line(timeouts: &Timeouts) -> String {
    let Timeouts { tcp, tcp_fin, udp } = timeouts;
    format!("Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}\n")
}

/// The lines of the daemons, the master first.
pub fn daemon_lines(daemons: &[SyncDaemon]) -> String {
    let mut lines = String::new();
    for (role, word) in [(DaemonRole::Master, "master"), (DaemonRole::Backup, "backup")] {
        for daemon in daemons.iter().filter(|daemon| daemon.role == role) {
            let _ = write!(
                lines,
                "{word} sync daemon (mcast={}, syncid={}",
                daemon.interface, daemon.sync_id
            );
            if let Some(max_len) = daemon.max_len {
                let _ = write!(lines, ", maxlen={max_len}");
            }
            if let Some(group) = daemon.group {
                let _ = write!(lines, ", group={group}");
            }
            if let Some(port) = daemon.port {
                let _ = write!(lines, ", port={port}");
            }
            if let Some(ttl) = daemon.ttl {
                let _ = write!(lines, ", ttl={ttl}");
            }
            lines.push_str(")\n");
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::names::{Numbers, tests::FixedNames};
    use super::*;
    use crate::ipvs::Destination;

    fn counter(value: u64, exact: bool) -> String {
        let mut line = ColumnText::new();
        push_counter(&mut line, value, exact);
        line.to_text()
    }

    fn service_line(entry: &ServiceEntry, names: &mut dyn Names) -> String {
        let mut line = ColumnText::new();
        push_service(&mut line, entry, ColumnChoice::Default, false, names);
        line.to_text()
    }

    fn service(addr: &str, port: u16) -> ServiceEntry {
        let id = ServiceId::Address { protocol: Protocol::Tcp, addr: addr.parse().unwrap(), port };
        ServiceEntry { service: Service::new(id, "wlc"), stats: Stats::default() }
    }

    #[test]
    fn counters_keep_nine_columns_as_long_as_they_can() {
        assert_eq!(counter(99_999_999, false), " 99999999");
        assert_eq!(counter(100_000_000, false), "  100000K");
        assert_eq!(counter(999_999_999, false), "  999999K");
        assert_eq!(counter(99_999_999_999, false), "   99999M");
        assert_eq!(counter(99_999_999_999_999, false), "   99999G");
        assert_eq!(counter(u64::MAX, false), "18446744T");
        assert_eq!(counter(u64::MAX, true), " 18446744073709551615");
    }

    #[test]
    fn an_ipv4_name_is_cut_where_the_column_ends_and_an_ipv6_name_is_not() {
        let mut names = FixedNames::default();
        let line = service_line(&service("10.0.0.2", 80), &mut names);
        assert_eq!(line, "TCP  a-rather-long-host-name-for- wlc\n");
        let addr = "2001:db8:1111:2222:3333:4444:5555:6666";
        let line = service_line(&service(addr, 80), &mut Numbers);
        assert_eq!(line, format!("TCP  [{addr}]:80 wlc\n"));
    }

    #[test]
    fn the_third_flag_of_sh_has_no_name() {
        let mut entry = service("10.0.0.1", 80);
        entry.service.scheduler = "sh".to_owned();
        entry.service.flags = service_flags::SCHED3;
        let line = service_line(&entry, &mut Numbers);
        assert_eq!(line, "TCP  10.0.0.1:80 sh ()\n");
        entry.service.flags |= service_flags::SCHED1 | service_flags::SCHED2;
        let line = service_line(&entry, &mut Numbers);
        assert_eq!(line, "TCP  10.0.0.1:80 sh (sh-fallback,sh-port)\n");
    }

    #[test]
    fn an_engine_is_shown_with_persistence_only() {
        let mut entry = service("10.0.0.1", 80);
        entry.service.pe = Some("sip".to_owned());
        assert_eq!(service_line(&entry, &mut Numbers), "TCP  10.0.0.1:80 wlc\n");
        entry.service = entry.service.persistent(60);
        assert_eq!(
            service_line(&entry, &mut Numbers),
            "TCP  10.0.0.1:80 wlc persistent 60 pe sip\n"
        );
    }

    #[test]
    fn a_destinations_line_ends_with_blanks() {
        let addr = "192.168.1.12".parse().unwrap();
        let mut entry = DestinationEntry {
            destination: Destination::new(addr, 443, Forwarding::Tunnel, 7),
            active: 0,
            inactive: 0,
            persistent: 0,
            stats: Stats::default(),
        };
        entry.destination.tunnel = Tunnel { kind: TunnelKind::Gue, port: 65535, flags: 2 };
        let line = |columns| {
            let mut line = ColumnText::new();
            let tcp = Some(Protocol::Tcp);
            push_destination(&mut line, &entry, tcp, columns, false, &mut Numbers);
            line.to_text()
        };
        assert_eq!(
            line(ColumnChoice::Default),
            "  -> 192.168.1.12:443             Tunnel  7      0          0         \n"
        );
        assert_eq!(
            line(ColumnChoice::Tunnels),
            "  -> 192.168.1.12:443             Tunnel  gue:65535:r+c 7      0          0         \n"
        );
    }
}
