//! A [`Conf`] as the file that says it: what `parse` reads back to the same.

use std::fmt;

use super::model::{Conf, Cvip, DEFAULT_WEIGHT, Quorum, ServiceConf, SlowStart, SorryServer};
use super::words::Hundredths;
use crate::checks::settings::{Check, Http, Kind};
use crate::ipvs::SchedulerFlag;
use crate::protocol::Protocol;

/// Displays as cvip.conf: a [`Conf`] as the whole file, a [`ServiceConf`] as its element,
/// indented as it stands in a `cvip`.
///
/// A service's settings are left out where they are the default. Real servers are written
/// with their addresses, those too that directors imply.
#[derive(Clone, Copy, Debug)]
pub struct Xml<'a, T>(pub &'a T);

impl fmt::Display for Xml<'_, Conf> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "<?xml version=\"1.0\"?>\n<cvips>")?;
        value(f, 1, "routing", self.0.routing)?;
        for cvip in &self.0.cvips {
            write!(f, "{}", Xml(cvip))?;
        }
        writeln!(f, "</cvips>")
    }
}

impl fmt::Display for Xml<'_, Cvip> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cvip = self.0;
        tag(f, 1, "<cvip>")?;
        value(f, 2, "ip_addr", cvip.addr)?;
        if let Some(gateway) = cvip.gateway {
            value(f, 2, "gateway", gateway)?;
        }
        for director in &cvip.directors {
            tag(f, 2, "<director_node>")?;
            value(f, 3, "node_num", director.node)?;
            value(f, 3, "garp_interface", &director.garp_interface)?;
            if let Some(interface) = &director.sync_interface {
                value(f, 3, "sync_interface", interface)?;
            }
            tag(f, 2, "</director_node>")?;
        }
        for server in &cvip.real_servers {
            tag(f, 2, "<real_server_node>")?;
            value(f, 3, "node_num", server.node)?;
            value(f, 3, "ip_addr", server.addr)?;
            value(f, 3, "weight", server.weight)?;
            tag(f, 2, "</real_server_node>")?;
        }
        for service in &cvip.services {
            write!(f, "{}", Xml(service))?;
        }
        tag(f, 1, "</cvip>")
    }
}

impl fmt::Display for Xml<'_, ServiceConf> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = self.0;
        let ServiceConf { protocol, start, end, .. } = *service;
        let default = ServiceConf::new(protocol, start, end);
        tag(f, 2, "<service>")?;
        if protocol != Protocol::default() {
            value(f, 3, "protocol", protocol)?;
        }
        if start == end {
            value(f, 3, "port", start)?;
        } else {
            value(f, 3, "start_port", start)?;
            value(f, 3, "end_port", end)?;
        }
        unless(f, 3, "weight", service.weight, default.weight)?;
        unless(f, 3, "scheduler", &service.scheduler, &default.scheduler)?;
        if service.scheduler_flags != 0 {
            let words = SchedulerFlag::words(&service.scheduler, service.scheduler_flags);
            value(f, 3, "scheduler_flags", words.join(","))?;
        }
        if service.one_packet {
            value(f, 3, "one_packet", "yes")?;
        }
        given(f, 3, "persistence", service.persistence)?;
        given(f, 3, "persistence_netmask", service.persistence_netmask)?;
        given(f, 3, "persistence_engine", service.persistence_engine.as_ref())?;
        given(f, 3, "upper_threshold", service.upper_threshold)?;
        given(f, 3, "lower_threshold", service.lower_threshold)?;
        for (node, weight) in &service.node_weights {
            tag(f, 3, "<node>")?;
            value(f, 4, "node_num", node)?;
            value(f, 4, "weight", weight)?;
            tag(f, 3, "</node>")?;
        }
        unless(f, 3, "registration", service.registration, default.registration)?;
        unless(f, 3, "drain_timeout", service.drain_timeout, default.drain_timeout)?;
        unless(f, 3, "flap_limit", service.flap_limit, default.flap_limit)?;
        unless(f, 3, "damp_time", service.damp_time, default.damp_time)?;
        if let Some(Quorum { weight, hysteresis }) = service.quorum {
            value(f, 3, "quorum", weight)?;
            unless(f, 3, "hysteresis", hysteresis, 0)?;
        }
        if let Some(slow_start) = &service.slow_start {
            write!(f, "{}", Xml(slow_start))?;
        }
        for owner in &service.owners {
            value(f, 3, "owner", owner)?;
        }
        for sorry in &service.sorry_servers {
            write!(f, "{}", Xml(sorry))?;
        }
        if let Some(check) = &service.check {
            write!(f, "{}", Xml(check))?;
        }
        tag(f, 2, "</service>")
    }
}

impl fmt::Display for Xml<'_, SlowStart> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SlowStart { window, aggression, min_weight_percent } = *self.0;
        let default = SlowStart::new(window);
        tag(f, 3, "<slow_start>")?;
        value(f, 4, "window", window)?;
        if aggression != default.aggression {
            value(f, 4, "aggression", Hundredths(aggression))?;
        }
        unless(f, 4, "min_weight_percent", min_weight_percent, default.min_weight_percent)?;
        tag(f, 3, "</slow_start>")
    }
}

impl fmt::Display for Xml<'_, SorryServer> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SorryServer { addr, port, weight } = *self.0;
        tag(f, 3, "<sorry_server>")?;
        value(f, 4, "ip_addr", addr)?;
        if let Some(port) = port {
            value(f, 4, "port", port)?;
        }
        if weight != DEFAULT_WEIGHT {
            value(f, 4, "weight", weight)?;
        }
        tag(f, 3, "</sorry_server>")
    }
}

impl fmt::Display for Xml<'_, Check> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let check = self.0;
        tag(f, 3, "<check>")?;
        value(f, 4, "type", check.kind.name())?;
        unless(f, 4, "interval", check.interval, Check::INTERVAL)?;
        unless(f, 4, "timeout", check.timeout, Check::TIMEOUT)?;
        unless(f, 4, "rise", check.rise, Check::RISE)?;
        unless(f, 4, "fall", check.fall, Check::FALL)?;
        given(f, 4, "port", check.port)?;
        match &check.kind {
            Kind::Tcp => {}
            Kind::Http(http) => {
                let default = Http::new(http.tls);
                given(f, 4, "host", http.host.as_ref())?;
                unless(f, 4, "path", &http.path, &default.path)?;
                unless(f, 4, "status", &http.status, &default.status)?;
                given(f, 4, "pattern", http.pattern.as_ref())?;
                if http.verify {
                    value(f, 4, "verify", "yes")?;
                }
            }
            Kind::Dns(dns) => {
                value(f, 4, "name", &dns.name)?;
                value(f, 4, "record", dns.record_type)?;
            }
            Kind::Exec(exec) => {
                let words = std::iter::once(exec.program.path())
                    .chain(exec.program.arguments().iter().map(String::as_str));
                // A program's words have no zero byte, which alone cannot be quoted.
                value(f, 4, "command", shlex::try_join(words).map_err(|_| fmt::Error)?)?;
                given(f, 4, "user", exec.user.as_ref())?;
            }
        }
        tag(f, 3, "</check>")
    }
}

/// A child, unless it says what is so without it.
fn unless<T: fmt::Display + PartialEq>(
    f: &mut fmt::Formatter<'_>,
    depth: usize,
    name: &str,
    child: T,
    default: T,
) -> fmt::Result {
    if child == default { Ok(()) } else { value(f, depth, name, child) }
}

/// A child that may be absent.
fn given(
    f: &mut fmt::Formatter<'_>,
    depth: usize,
    name: &str,
    child: Option<impl fmt::Display>,
) -> fmt::Result {
    child.map_or(Ok(()), |child| value(f, depth, name, child))
}

fn tag(f: &mut fmt::Formatter<'_>, depth: usize, tag: &str) -> fmt::Result {
    writeln!(f, "{:indent$}{tag}", "", indent = 4 * depth)
}

fn value(
    f: &mut fmt::Formatter<'_>,
    depth: usize,
    name: &str,
    value: impl fmt::Display,
) -> fmt::Result {
    let mut text = String::new();
    for c in value.to_string().chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            // XML would read it as a line's end.
            '\r' => text.push_str("&#13;"),
            c => text.push(c),
        }
    }
    tag(f, depth, &format!("<{name}>{text}</{name}>"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::{Owner, RegistrationMode};

    #[test]
    fn a_service_is_written_without_its_defaults() {
        let http = ServiceConf::new(Protocol::Tcp, 80, 80);
        assert_eq!(
            Xml(&http).to_string(),
            "        <service>\n            <port>80</port>\n        </service>\n"
        );
        let mut odd = ServiceConf::new(Protocol::Udp, 177, 178);
        odd.weight = 0;
        odd.scheduler = "sh".to_owned();
        odd.persistence = Some(300);
        odd.registration = RegistrationMode::Static;
        odd.drain_timeout = 5;
        odd.quorum = Some(Quorum { weight: 4, hysteresis: 1 });
        odd.owners = vec![Owner::User("a&b".to_owned()), Owner::Anyone];
        let text = Xml(&odd).to_string();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "<service>",
                "<protocol>udp</protocol>",
                "<start_port>177</start_port>",
                "<end_port>178</end_port>",
                "<weight>0</weight>",
                "<scheduler>sh</scheduler>",
                "<persistence>300</persistence>",
                "<registration>static</registration>",
                "<drain_timeout>5</drain_timeout>",
                "<quorum>4</quorum>",
                "<hysteresis>1</hysteresis>",
                "<owner>a&amp;b</owner>",
                "<owner>*</owner>",
                "</service>",
            ]
        );
    }
}
