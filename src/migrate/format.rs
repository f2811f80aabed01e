//! The formats that can be read, and how each is recognised.

use serde::Serialize;

named! {
    /// A format of configurations.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
    #[serde(rename_all = "lowercase")]
    #[non_exhaustive]
    pub(crate) enum SourceFormat {
        /// keepalived.conf.
        Keepalived = "keepalived",
        /// ldirectord.cf.
        Ldirectord = "ldirectord",
        /// Rules of ipvsadm, as `ipvsadm -S` prints them and `ipvsadm -R` reads them.
        Ipvsadm = "ipvsadm",
    }
}

/// Keywords with which a statement of keepalived.conf begins at the outermost level.
const OF_KEEPALIVED: [&str; 12] = [
    "global_defs",
    "vrrp_script",
    "vrrp_instance",
    "vrrp_sync_group",
    "vrrp_track_process",
    "vrrp_track_file",
    "virtual_server",
    "virtual_server_group",
    "static_ipaddress",
    "static_routes",
    "static_rules",
    "ssl",
];

impl SourceFormat {
    /// The format of a text, by its first line that can stand in one format only.
    pub(crate) fn of(text: &str) -> Option<SourceFormat> {
        text.lines().find_map(|line| {
            let line = line.trim();
            if line.starts_with(['#', '!']) {
                return None;
            }
            let key = line.split('=').next().unwrap_or_default().trim_end();
            if line.contains('=') && (key == "virtual" || key == "virtual6") {
                return Some(SourceFormat::Ldirectord);
            }
            let first = line.split(|c: char| c.is_whitespace() || c == '{').next()?;
            if OF_KEEPALIVED.iter().any(|keyword| keyword.eq_ignore_ascii_case(first)) {
                return Some(SourceFormat::Keepalived);
            }
            let program = first.rsplit('/').next().unwrap_or_default();
            let command = ["-A", "--add-service", "-a", "--add-server", "-C", "--clear"];
            let is_command = command.contains(&first) || first.starts_with("-A");
            (program == "ipvsadm" || is_command).then_some(SourceFormat::Ipvsadm)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_recognised_by_its_own_words() {
        for (text, format) in [
            ("! mine\nvirtual_server 10.0.0.1 80 {", Some(SourceFormat::Keepalived)),
            ("global_defs{\n}", Some(SourceFormat::Keepalived)),
            ("checktimeout=3\nvirtual=10.0.0.1:80\n", Some(SourceFormat::Ldirectord)),
            ("# virtual=10.0.0.1:80\nvirtual6 = [fd00::1]:80\n", Some(SourceFormat::Ldirectord)),
            ("-A -t 10.0.0.1:80 -s rr\n", Some(SourceFormat::Ipvsadm)),
            ("#!/bin/sh\n/sbin/ipvsadm -A -t 10.0.0.1:80\n", Some(SourceFormat::Ipvsadm)),
            ("<cvips/>", None),
            ("", None),
        ] {
            assert_eq!(SourceFormat::of(text), format, "{text}");
        }
    }
}
