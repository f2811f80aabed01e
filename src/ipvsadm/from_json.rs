//! A table from JSON: what `--restore-json` reads, which is what the listings write.
//!
//! The objects are those of [`super::documents`]; counters are passed over. A member that is unknown,
//! as a misspelt one is, and a value that no command could set are refused before anything is
//! changed, with the place where they stand.

use std::io::Read;
use std::net::Ipv4Addr;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::documents::{DestinationObject, ServiceObject};
use super::option_checks::scheduler_flags;
use crate::ipvs::limits::{
    ENGINE_MAX_LEN, INTERFACE_MAX_LEN, MAX_INT, MAX_SECONDS, SCHEDULER_MAX_LEN,
};
use crate::ipvs::{
    Change, Destination, Family, Forwarding, Service, ServiceId, SyncDaemon, Timeouts, Tunnel,
    service_flags,
};
use crate::json::{self, SCHEMA};
use crate::protocol::Protocol;

/// The longest document, in bytes: some two million destinations.
pub const LONGEST_DOCUMENT: u64 = 1 << 30;

/// Why a document is not taken.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// It is no JSON, or has other members than a listing.
    #[error("this is no listing in JSON: {}", json::plain(&.0.to_string()))]
    Syntax(#[from] serde_json::Error),
    /// It is of another schema.
    #[error("the document has schema {0}, and only schema {SCHEMA} is known")]
    Schema(u32),
    /// There is nothing but blanks.
    #[error("no document; nothing was changed")]
    Empty,
    /// It has neither services nor time-outs nor daemons.
    #[error("the document has no services, timeouts or daemons; nothing was changed")]
    Nothing,
    /// It goes beyond [`LONGEST_DOCUMENT`].
    #[error("the document is longer than {LONGEST_DOCUMENT} bytes")]
    TooLong,
    /// A value is not one that can be set.
    #[error("{place}: {problem}")]
    Value {
        /// Where it stands, such as `services[3].destinations[0]`.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
}

#[derive(Deserialize)]
struct OfSchema {
    schema: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RestoredDocument {
    schema: u32,
    services: Option<Vec<ServiceObject>>,
    timeouts: Option<Timeouts>,
    daemons: Option<Vec<SyncDaemon>>,
    #[serde(default)]
    one_service: bool,
    // What only a kernel says, and what is of another listing.
    #[serde(rename = "ipvs_version")]
    _ipvs_version: Option<IgnoredAny>,
    #[serde(rename = "connection_table_size")]
    _connection_table_size: Option<IgnoredAny>,
    #[serde(rename = "connections")]
    _connections: Option<IgnoredAny>,
    #[serde(rename = "status")]
    _status: Option<IgnoredAny>,
    #[serde(rename = "stats")]
    _stats: Option<IgnoredAny>,
    #[serde(rename = "rate_per_s")]
    _rate_per_s: Option<IgnoredAny>,
}

/// What a document holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The changes that make on an empty table what it lists.
    pub changes: Vec<Change>,
    /// It lists one service that was asked for, and says nothing of others.
    pub one_service: bool,
}

/// Reads a document.
///
/// # Errors
///
/// If it is no listing, or holds a value that cannot be set.
pub fn listing(input: impl Read) -> Result<Listing, JsonError> {
    let mut text = Vec::new();
    let read = input.take(LONGEST_DOCUMENT + 1).read_to_end(&mut text);
    read.map_err(serde_json::Error::io)?;
    if text.len() as u64 > LONGEST_DOCUMENT {
        return Err(JsonError::TooLong);
    }
    if text.trim_ascii().is_empty() {
        return Err(JsonError::Empty);
    }
    let document: RestoredDocument = serde_json::from_slice(&text).map_err(|error| {
        // Another schema may have other members.
        match serde_json::from_slice(&text) {
            Ok(OfSchema { schema }) if schema != SCHEMA => JsonError::Schema(schema),
            _ => error.into(),
        }
    })?;
    drop(text);
    if document.schema != SCHEMA {
        return Err(JsonError::Schema(document.schema));
    }
    let mut changes = Vec::new();
    for (index, object) in document.services.into_iter().flatten().enumerate() {
        let at = |problem| JsonError::Value { place: format!("services[{index}]"), problem };
        let id = object.id().map_err(at)?;
        changes.push(Change::AddService(object.service(id).map_err(at)?));
        for (number, destination) in object.destinations.into_iter().enumerate() {
            let at = |problem| JsonError::Value {
                place: format!("services[{index}].destinations[{number}]"),
                problem,
            };
            changes.push(Change::AddDestination(id, destination.destination().map_err(at)?));
        }
    }
    changes.extend(document.timeouts.map(Change::SetTimeouts));
    for (index, daemon) in document.daemons.into_iter().flatten().enumerate() {
        let at = |problem| JsonError::Value { place: format!("daemons[{index}]"), problem };
        check_daemon(&daemon).map_err(at)?;
        changes.push(Change::StartDaemon(daemon));
    }
    if changes.is_empty() {
        return Err(JsonError::Nothing);
    }
    Ok(Listing { changes, one_service: document.one_service })
}

impl ServiceObject {
    fn id(&self) -> Result<ServiceId, String> {
        match (self.fwmark, self.protocol, self.address, self.port) {
            (None, Some(protocol), Some(addr), Some(port)) => {
                Ok(ServiceId::Address { protocol, addr, port })
            }
            (Some(0), ..) => Err("0 is no firewall mark".to_owned()),
            (Some(mark), None, None, None) => {
                Ok(ServiceId::Mark { mark, family: self.family.unwrap_or(Family::V4) })
            }
            _ => Err("a service has protocol, address and port, or fwmark and family".to_owned()),
        }
    }

    fn service(&self, id: ServiceId) -> Result<Service, String> {
        check_name(&self.scheduler, SCHEDULER_MAX_LEN, "scheduler")?;
        let mut service = Service::new(id, &self.scheduler);
        let list = self.scheduler_flags.join(",");
        let flags =
            scheduler_flags(&list, Some(&self.scheduler)).map_err(|error| error.to_string())?;
        service.flags |= flags;
        if self.one_packet {
            if !matches!(id, ServiceId::Mark { .. }) && self.protocol != Some(Protocol::Udp) {
                return Err("one_packet is for UDP alone".to_owned());
            }
            service.flags |= service_flags::ONE_PACKET;
        }
        match self.persistence_timeout_s {
            Some(seconds @ 1..=MAX_SECONDS) => service = service.persistent(seconds),
            Some(seconds) => {
                return Err(format!("persistence_timeout_s {seconds} is not 1 to {MAX_SECONDS}"));
            }
            None if self.port == Some(0) => {
                return Err("port 0 is for a persistent service alone".to_owned());
            }
            None => {}
        }
        if let Some(text) = &self.persistence_netmask {
            let mask = match id.family() {
                Family::V4 => text.parse::<Ipv4Addr>().ok().map(u32::from),
                Family::V6 => text.parse().ok().filter(|prefix| (1..=128).contains(prefix)),
            };
            service.netmask = mask
                .ok_or_else(|| format!("`{}' is no persistence_netmask", text.escape_default()))?;
        }
        if let Some(engine) = &self.persistence_engine {
            check_name(engine, ENGINE_MAX_LEN, "persistence_engine")?;
            service.pe = Some(engine.clone());
        }
        Ok(service)
    }
}

impl DestinationObject {
    fn destination(&self) -> Result<Destination, String> {
        let forward = match self.forward {
            // The kernel alone sets the other two; a command cannot.
            Forwarding::LocalNode | Forwarding::Bypass => Forwarding::Route,
            forward => forward,
        };
        let number = |value: u32, what: &str| match value {
            0..=MAX_INT => Ok(value),
            _ => Err(format!("{what} {value} is above {MAX_INT}")),
        };
        let weight = number(self.weight, "weight")?;
        let mut destination = Destination::new(self.address, self.port, forward, weight);
        destination.upper = number(self.upper_threshold, "upper_threshold")?;
        destination.lower = number(self.lower_threshold, "lower_threshold")?;
        if let (Forwarding::Tunnel, Some(tunnel)) = (forward, &self.tunnel) {
            destination.tunnel = Tunnel {
                kind: tunnel.r#type,
                port: tunnel.port.unwrap_or(0),
                flags: tunnel.checksum as u16,
            };
        }
        Ok(destination)
    }
}

fn check_daemon(daemon: &SyncDaemon) -> Result<(), String> {
    if daemon.sync_id > 255 {
        return Err(format!("sync_id {} is above 255", daemon.sync_id));
    }
    check_name(&daemon.interface, INTERFACE_MAX_LEN, "interface")
}

/// Whether it is a name that the kernel has room for.
fn check_name(name: &str, most: usize, what: &str) -> Result<(), String> {
    match name.is_empty() || name.len() > most || name.contains('\0') {
        true => Err(format!("`{}' is no {what}: it has 1 to {most} bytes", name.escape_default())),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::documents::{Extent, TableDocument};
    use super::*;
    use crate::ipvs::{DestinationEntry, ServiceEntry, Stats, TunnelKind};

    fn changes(input: &[u8]) -> Result<Vec<Change>, JsonError> {
        listing(input).map(|listing| listing.changes)
    }

    fn id() -> ServiceId {
        let addr = "2001:db8::1".parse().unwrap();
        ServiceId::Address { protocol: Protocol::Udp, addr, port: 53 }
    }

    #[test]
    fn what_a_listing_writes_is_read_back() {
        let mut service = Service::new(id(), "sh").persistent(60);
        service.netmask = 64;
        service.pe = Some("sip".to_owned());
        service.flags |= service_flags::ONE_PACKET | service_flags::SCHED2 | service_flags::SCHED3;
        let server = "192.168.1.1".parse().unwrap();
        let mut destination = Destination::new(server, 53, Forwarding::Tunnel, 3);
        (destination.upper, destination.lower) = (100, 50);
        destination.tunnel = Tunnel { kind: TunnelKind::Gue, port: 6080, flags: 2 };
        let mark = Service::new(ServiceId::Mark { mark: 9, family: Family::V6 }, "wlc");

        let stats = Stats { connections: 7, ..Stats::default() };
        let mut text = Vec::new();
        let mut document = TableDocument::begin(&mut text, Extent::Table, None).unwrap();
        let entry = DestinationEntry { destination, active: 1, inactive: 2, persistent: 0, stats };
        let web = ServiceEntry { service: service.clone(), stats };
        document.push(&mut text, &web, &[entry]).unwrap();
        let marked = ServiceEntry { service: mark.clone(), stats };
        document.push(&mut text, &marked, &[]).unwrap();
        document.end(&mut text).unwrap();
        assert_eq!(
            changes(&text).unwrap(),
            [
                Change::AddService(service),
                Change::AddDestination(id(), destination),
                Change::AddService(mark),
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let said = |text: &str| changes(text.as_bytes()).expect_err(text).to_string();
        assert!(said("[").starts_with("this is no listing in JSON"));
        assert_eq!(
            said(r#"{"schema":2}"#),
            "the document has schema 2, and only schema 1 is known"
        );
        assert!(said(r#"{"schema":1,"connections":[]}"#).starts_with("the document has no"));
        assert!(said(r#"{"schema":1,"services":[]}"#).ends_with("nothing was changed"));
        assert_eq!(said(" \n"), "no document; nothing was changed");
        assert_eq!(
            said(r#"{"schema":1,"services":[{"fwmark":0,"scheduler":"rr"}]}"#),
            "services[0]: 0 is no firewall mark"
        );
        let server = r#"{"address":"10.0.0.1","port":80,"forward":"route","weight":4294967295}"#;
        assert_eq!(
            said(&format!(
                r#"{{"schema":1,"services":[
                    {{"fwmark":1,"scheduler":"rr","destinations":[{server}]}}]}}"#
            )),
            "services[0].destinations[0]: weight 4294967295 is above 2147483647"
        );
        let flags = r#"{"fwmark":1,"scheduler":"rr","scheduler_flags":["sh-port"]}"#;
        assert_eq!(
            said(&format!(r#"{{"schema":1,"services":[{flags}]}}"#)),
            "services[0]: incompatible scheduler flag `sh-port'"
        );
    }

    #[test]
    fn an_unknown_member_is_refused_by_its_name_at_every_level() {
        let server = r#"{"address":"10.0.0.1","port":80,"forward":"tunnel","weight":1,SERVER
            "tunnel":{"type":"gue","port":6080,TUNNEL"checksum":"none"}}"#;
        let daemon = r#"{"role":"master","interface":"lo",DAEMON"sync_id":1}"#;
        let document = format!(
            r#"{{TOP"schema":1,"services":[{{"fwmark":1,"scheduler":"rr",SERVICE
                "destinations":[{server}]}}],"timeouts":{{TIMES"tcp_s":1,"tcp_fin_s":1,"udp_s":1}},
                "daemons":[{daemon}]}}"#
        );
        let places = ["TOP", "SERVICE", "SERVER", "TUNNEL", "TIMES", "DAEMON"];
        let with = |place: &str| {
            places.iter().fold(document.clone(), |text, known| {
                text.replace(known, if *known == place { r#""wieght":5,"# } else { "" })
            })
        };
        assert!(changes(with("").as_bytes()).is_ok());
        for place in places {
            let error = changes(with(place).as_bytes()).expect_err(place).to_string();
            assert!(error.contains("unknown field `wieght`"), "{place}: {error}");
        }
        let later = r#"{"schema":2,"novelty":[]}"#;
        assert!(changes(later.as_bytes()).unwrap_err().to_string().contains("schema 2"));
    }

    #[test]
    fn what_no_command_could_set_is_refused() {
        let said = |service: &str| {
            let text = format!(r#"{{"schema":1,"services":[{{"scheduler":"rr",{service}}}]}}"#);
            changes(text.as_bytes()).expect_err(service).to_string()
        };
        let at = r#""protocol":"tcp","address":"10.0.0.1","port""#;
        for (service, problem) in [
            (
                r#""fwmark":1,"persistence_timeout_s":0"#.to_owned(),
                "persistence_timeout_s 0 is not 1 to 2678400",
            ),
            (
                r#""fwmark":1,"persistence_timeout_s":2678401"#.to_owned(),
                "persistence_timeout_s 2678401 is not 1",
            ),
            (format!("{at}:0"), "port 0 is for a persistent service alone"),
            (format!(r#"{at}:80,"one_packet":true"#), "one_packet is for UDP alone"),
        ] {
            assert!(said(&service).contains(problem), "{}", said(&service));
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "\\PC{0,80}") {
            let _ = changes(text.as_bytes());
        }
    }
}
