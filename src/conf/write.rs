//! A [`Conf`] as the file that says it: what `parse` reads back to the same.

use std::fmt;

use super::model::{Conf, Cvip, ServiceConf};
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
        let ServiceConf { protocol, start, end, .. } = *self.0;
        let ServiceConf { weight, scheduler, registration, drain_timeout, .. } = self.0;
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
        if *weight != default.weight {
            value(f, 3, "weight", weight)?;
        }
        if *scheduler != default.scheduler {
            value(f, 3, "scheduler", scheduler)?;
        }
        if let Some(seconds) = self.0.persistence {
            value(f, 3, "persistence", seconds)?;
        }
        if *registration != default.registration {
            value(f, 3, "registration", registration)?;
        }
        if *drain_timeout != default.drain_timeout {
            value(f, 3, "drain_timeout", drain_timeout)?;
        }
        for owner in &self.0.owners {
            value(f, 3, "owner", owner)?;
        }
        tag(f, 2, "</service>")
    }
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
    let text = value.to_string().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    tag(f, depth, &format!("<{name}>{text}</{name}>"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::{Owner, Registration};

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
        odd.registration = Registration::Static;
        odd.drain_timeout = 5;
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
                "<owner>a&amp;b</owner>",
                "<owner>*</owner>",
                "</service>",
            ]
        );
    }
}
