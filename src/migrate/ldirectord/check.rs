//! Health checks of ldirectord.cf: what is said of all services, and of each.

use std::str::FromStr;

use super::line::{LdirectordLine, unquoted};
use crate::checks::settings::{
    Check, Count, Dns, DnsName, Exec, HostName, Http, Kind, Period, RecordType, SettingError,
};
use crate::migrate::ledger::{Ledger, StatementId};
use crate::migrate::pool::{PoolCheck, PoolTarget, ServerPool};
use crate::migrate::values;
use crate::protocol::Protocol;

/// A value and its statement.
#[derive(Clone, Debug)]
struct Setting {
    at: StatementId,
    value: String,
    /// It stands for all services.
    is_global: bool,
}

/// What is said of the checks of a service, or of all services: one value for a key.
#[derive(Clone, Debug, Default)]
pub(super) struct CheckSettings {
    settings: Vec<(String, Setting)>,
}

/// The keys that say how servers are checked.
const KEYS: [&str; 13] = [
    "checktype",
    "service",
    "request",
    "receive",
    "virtualhost",
    "httpmethod",
    "checkport",
    "checktimeout",
    "negotiatetimeout",
    "checkinterval",
    "checkintervalreal",
    "failurecount",
    "checkcommand",
];

impl CheckSettings {
    /// Takes a line, if it says how servers are checked.
    pub(super) fn take(
        &mut self,
        line: &LdirectordLine,
        is_global: bool,
        ledger: &mut Ledger,
    ) -> bool {
        if !KEYS.contains(&line.key.as_str()) {
            return false;
        }
        let value = unquoted(&line.value).to_owned();
        let setting = Setting { at: line.id, value, is_global };
        let old = self.settings.iter().find(|(key, _)| *key == line.key);
        if let Some((_, old)) = old.filter(|(_, old)| old.is_global == is_global) {
            ledger.not_carried(old.at, "a later line of the same key takes its place");
        }
        self.settings.retain(|(key, _)| *key != line.key);
        self.settings.push((line.key.clone(), setting));
        true
    }

    /// What a service begins with.
    pub(super) fn for_a_service(&self) -> CheckSettings {
        self.clone()
    }

    /// Notes what became of the settings of all services.
    pub(super) fn settle_globals(self, pools: &[ServerPool], ledger: &mut Ledger) {
        let has_check = pools.iter().flat_map(|pool| &pool.servers).any(|s| s.check.is_some());
        for (_, Setting { at, .. }) in self.settings {
            let why = match has_check {
                true => "every service has a setting of its own in its place, or no use for it",
                false => "no service that is carried has a check",
            };
            ledger.withdraw_unjudged([at], why);
        }
    }

    fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.iter().find(|(own, _)| own == key).map(|(_, setting)| setting)
    }

    /// Gives the servers of a service its check.
    pub(super) fn into_pool(self, pool: &mut ServerPool, target: &PoolTarget, ledger: &mut Ledger) {
        let own: Vec<StatementId> = self
            .settings
            .iter()
            .filter(|(_, setting)| !setting.is_global)
            .map(|(_, setting)| setting.at)
            .collect();
        match self.check(pool.protocol, target.start, ledger) {
            Ok(check) => {
                let unused = "this kind of check has no use for it";
                ledger.withdraw_unjudged(own.iter().copied(), unused);
                pool.check_settings = own;
                for server in &mut pool.servers {
                    server.check = Some(PoolCheck { statements: Vec::new(), check: check.clone() });
                }
            }
            Err(why) => ledger.withdraw_unjudged(own, &why),
        }
    }

    /// The check, or why there is none.
    fn check(&self, protocol: Protocol, port: u16, ledger: &mut Ledger) -> Result<Check, String> {
        let kind = self.kind(protocol, port, ledger)?;
        let mut check = Check::new(kind);
        if let Some(interval) = self.value("checkinterval", ledger) {
            check.interval = interval;
        }
        let negotiates = self.get("checktype").is_none_or(|kind| kind.value != "connect");
        let key = if negotiates && self.get("negotiatetimeout").is_some() {
            "negotiatetimeout"
        } else {
            "checktimeout"
        };
        if let Some(timeout) = self.value::<Period>(key, ledger) {
            check.timeout = timeout;
        }
        if let Some(count) = self.value::<Count>("failurecount", ledger) {
            check.fall = count;
        }
        if let Some(setting) = self.get("checkport") {
            match setting.value.parse::<u16>() {
                Ok(own) if own > 0 => {
                    check.port = (own != port).then_some(own);
                    ledger.carried(setting.at);
                }
                _ => ledger.not_carried(setting.at, "it is no port"),
            }
        }
        Ok(check)
    }

    /// A value as cvip.conf takes it; what it became is noted.
    fn value<T: FromStr<Err = SettingError>>(&self, key: &str, ledger: &mut Ledger) -> Option<T> {
        let setting = self.get(key)?;
        match setting.value.parse() {
            Ok(value) => {
                // What all services have in common may be carried for another one only in part.
                if ledger.is_unjudged(setting.at) {
                    ledger.carried(setting.at);
                }
                Some(value)
            }
            Err(error) => {
                ledger.not_carried(setting.at, error.to_string());
                None
            }
        }
    }

    fn kind(&self, protocol: Protocol, port: u16, ledger: &mut Ledger) -> Result<Kind, String> {
        let kind = self.get("checktype");
        let word = kind.map_or("negotiate", |setting| setting.value.as_str());
        let carried = |ledger: &mut Ledger, how: Option<&str>| {
            if let Some(setting) = kind {
                match how {
                    None => ledger.carried(setting.at),
                    Some(how) => ledger.changed(setting.at, how),
                }
            }
        };
        match word {
            "connect" => {
                carried(ledger, None);
                if let Some(service) = self.get("service") {
                    ledger.changed(service.at, "it is asked whether it takes a TCP connection");
                }
                Ok(Kind::Tcp)
            }
            "negotiate" => {
                carried(ledger, None);
                Ok(self.negotiated(protocol, port, ledger))
            }
            "off" => {
                carried(ledger, None);
                Err("checktype=off: the service has no check".to_owned())
            }
            "on" => {
                carried(ledger, None);
                Err("checktype=on: the service has no check, and its servers are always in"
                    .to_owned())
            }
            "ping" => Err("that a machine answers is watched by heartbeats and echo requests \
                           without a check"
                .to_owned()),
            "external" => {
                let command =
                    self.get("checkcommand").ok_or("checktype=external names no program")?;
                let program = values::program(&command.value)?;
                ledger.changed(
                    command.at,
                    "it is run as nobody and without arguments of ldirectord's: the server is in \
                     CVIP_CHECK_ADDRESS and CVIP_CHECK_PORT",
                );
                carried(ledger, None);
                Ok(Kind::Exec(Exec::new(program)))
            }
            number if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => {
                carried(ledger, Some("every run asks the service, none is a connection alone"));
                Ok(self.negotiated(protocol, port, ledger))
            }
            _ => {
                Err("cvip.conf has no such check: an exec check can run a program instead"
                    .to_owned())
            }
        }
    }

    /// What `checktype=negotiate` asks a service.
    fn negotiated(&self, protocol: Protocol, port: u16, ledger: &mut Ledger) -> Kind {
        let service = self.get("service");
        let word = service.map(|setting| setting.value.as_str());
        let by_port = match port {
            80 => "http",
            443 => "https",
            53 => "dns",
            _ => "",
        };
        match word.unwrap_or(by_port) {
            word @ ("http" | "https") => {
                if let Some(service) = service {
                    ledger.carried(service.at);
                }
                Kind::Http(self.http(word == "https", ledger))
            }
            "dns" => {
                if let Some(service) = service {
                    ledger.carried(service.at);
                }
                let mut dns = Dns { record_type: RecordType::A, ..Dns::default() };
                match self.value::<DnsName>("request", ledger) {
                    Some(name) => dns.name = name,
                    None => dns.record_type = RecordType::Ns,
                }
                if let Some(receive) = self.get("receive") {
                    ledger.not_carried(receive.at, "any record is good: it is not compared");
                }
                Kind::Dns(dns)
            }
            _ => {
                if let Some(service) = service {
                    let how = match protocol {
                        Protocol::Tcp => {
                            "it is asked whether it takes a TCP connection, without the protocol of \
                             this service: an exec check can run a program that speaks it"
                        }
                        _ => "it has no check over TCP",
                    };
                    ledger.changed(service.at, how);
                }
                for key in ["request", "receive"] {
                    if let Some(setting) = self.get(key) {
                        let why = "what this service is asked needs its protocol: an exec check can \
                                   run a program that speaks it";
                        ledger.not_carried(setting.at, why);
                    }
                }
                Kind::Tcp
            }
        }
    }

    fn http(&self, tls: bool, ledger: &mut Ledger) -> Http {
        let mut http = Http::new(tls);
        if let Some(request) = self.get("request") {
            let after = request.value.split_once("://").map(|(_, after)| after);
            let path = match after {
                Some(after) => after.find('/').map_or("/", |at| &after[at..]),
                None => request.value.as_str(),
            };
            let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
            match path.parse() {
                Ok(path) => {
                    http.path = path;
                    match after {
                        None => ledger.carried(request.at),
                        Some(_) => ledger.changed(request.at, "its path is asked of each server"),
                    }
                }
                Err(error) => ledger.not_carried(request.at, SettingError::to_string(&error)),
            }
        }
        http.pattern = self.value("receive", ledger);
        if let (Some(_), Some(receive)) = (&http.pattern, self.get("receive")) {
            ledger.changed(receive.at, "its syntax is that of Rust's regex, without look-around");
        }
        http.host = self.value::<HostName>("virtualhost", ledger);
        if let Some(method) = self.get("httpmethod") {
            match method.value.eq_ignore_ascii_case("get") {
                true => ledger.carried(method.at),
                false => ledger.changed(method.at, "the page is asked for with GET"),
            }
        }
        http
    }
}
