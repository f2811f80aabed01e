//! Health checks of keepalived.conf.

use std::str::FromStr;

use super::statement::Statement;
use crate::checks::settings::{
    Check, Count, Dns, Exec, HostName, Http, Kind, Period, SettingError, StatusRanges, UserName,
};
use crate::migrate::ledger::{Ledger, StatementId};
use crate::migrate::pool::PoolCheck;
use crate::migrate::values;

/// Whether a keyword begins a check.
pub(super) fn is_check(keyword: &str) -> bool {
    keyword.ends_with("_CHECK") || matches!(keyword, "HTTP_GET" | "SSL_GET")
}

/// A value as cvip.conf takes it; what it became is noted.
fn value<T: FromStr<Err = SettingError>>(setting: &Statement, ledger: &mut Ledger) -> Option<T> {
    parsed(setting.id, setting.value(), ledger)
}

fn parsed<T: FromStr<Err = SettingError>>(
    id: StatementId,
    text: &str,
    ledger: &mut Ledger,
) -> Option<T> {
    match text.parse() {
        Ok(value) => {
            ledger.carried(id);
            Some(value)
        }
        Err(error) => {
            ledger.not_carried(id, error.to_string());
            None
        }
    }
}

/// A setting of a virtual or a real server that holds for its checks.
pub(super) fn default(
    setting: &Statement,
    defaults: &mut Check,
    host: &mut Option<HostName>,
    ledger: &mut Ledger,
) {
    match setting.keyword() {
        "virtualhost" => *host = value(setting, ledger).or(host.take()),
        _ => {
            timing(setting, defaults, ledger);
        }
    }
}

/// A setting of how often and how long; false if it is none.
fn timing(setting: &Statement, check: &mut Check, ledger: &mut Ledger) -> bool {
    match setting.keyword() {
        "delay_loop" => {
            if let Some(interval) = value(setting, ledger) {
                check.interval = interval;
            }
        }
        "connect_timeout" | "misc_timeout" => {
            if let Some(timeout) = value::<Period>(setting, ledger) {
                check.timeout = timeout;
                if setting.is("connect_timeout") {
                    let how = "it bounds the whole run, and not the connection alone";
                    ledger.changed(setting.id, how);
                }
            }
        }
        // It fails once as many retries as that have failed too.
        "retry" | "nb_get_retry" => {
            let count = setting.value().parse::<u32>().ok().and_then(|count| count.checked_add(1));
            match count.map(Count::new) {
                Some(Ok(count)) => {
                    check.fall = count;
                    let how = format!("fall {count}: the first failure is counted too");
                    ledger.changed(setting.id, how);
                }
                _ => ledger.not_carried(setting.id, SettingError::Count.to_string()),
            }
        }
        "delay_before_retry" => {
            let why = "a check that failed is repeated after its interval";
            ledger.not_carried(setting.id, why);
        }
        _ => return false,
    }
    true
}

/// A check; none where cvip.conf has no such check, which is then noted.
pub(super) fn read(
    own: &Statement,
    defaults: &Check,
    host: Option<&HostName>,
    ledger: &mut Ledger,
) -> Option<PoolCheck> {
    let mut check = defaults.clone();
    let why_not = match own.keyword() {
        "TCP_CHECK" => None,
        "HTTP_GET" | "SSL_GET" => {
            let mut http = Http::new(own.is("SSL_GET"));
            http.host = host.cloned();
            check.kind = Kind::Http(http);
            None
        }
        "DNS_CHECK" => {
            let mut dns = Dns::default();
            // keepalived asks for the root's SOA record.
            dns.record_type = "SOA".parse().unwrap_or(dns.record_type);
            check.kind = Kind::Dns(dns);
            None
        }
        "SMTP_CHECK" => None,
        "MISC_CHECK" => program(own, &mut check, ledger).err(),
        "UDP_CHECK" => Some(
            "cvip.conf has no check that sends UDP, but for dns: an exec check can run a program \
             that does"
                .to_owned(),
        ),
        "PING_CHECK" => Some(
            "that a machine answers is watched by heartbeats and echo requests without a check"
                .to_owned(),
        ),
        _ => {
            Some("cvip.conf has no such check: an exec check can run a program instead".to_owned())
        }
    };
    if let Some(why) = why_not {
        ledger.withdraw(own.all(), &why);
        return None;
    }
    ledger.carried(own.id);
    if own.is("SMTP_CHECK") {
        ledger.changed(own.id, "it is asked whether it takes a TCP connection, without SMTP");
        // The port of SMTP.
        check.port = Some(25);
    }
    if own.is("MISC_CHECK") {
        let how = "the program is run without a shell, as nobody unless `user` names another; it \
                   finds the server in CVIP_CHECK_ADDRESS and CVIP_CHECK_PORT";
        ledger.changed(own.id, how);
    }
    let mut urls = own.block.iter().filter(|setting| setting.is("url"));
    urls.next();
    for more in urls {
        ledger.withdraw(more.all(), "a check asks for one page: that of its first url");
    }
    let first = own.block.iter().position(|setting| setting.is("url"));
    for (index, setting) in own.block.iter().enumerate() {
        if setting.is("url") && Some(index) != first {
            continue;
        }
        if !timing(setting, &mut check, ledger) {
            of_kind(setting, &mut check, ledger);
        }
    }
    Some(PoolCheck { statements: own.all(), check })
}

/// The program of a `MISC_CHECK`.
fn program(own: &Statement, check: &mut Check, ledger: &mut Ledger) -> Result<(), String> {
    let path = own.block.iter().find(|setting| setting.is("misc_path"));
    let path = path.ok_or("it names no program")?;
    let program = values::program(&path.values().join(" "))?;
    check.kind = Kind::Exec(Exec::new(program));
    ledger.carried(path.id);
    Ok(())
}

/// A setting that a kind of checks has of its own.
fn of_kind(setting: &Statement, check: &mut Check, ledger: &mut Ledger) {
    let id = setting.id;
    match (setting.keyword(), &mut check.kind) {
        ("connect_port", _) => match setting.value().parse::<u16>() {
            Ok(port) if port > 0 => {
                check.port = Some(port);
                ledger.carried(id);
            }
            _ => ledger.not_carried(id, "it is no port"),
        },
        ("host", _) => {
            let inner = "connect_port";
            ledger.changed(id, "a server is asked at its own address");
            for own in setting.block.iter().filter(|own| own.is(inner)) {
                of_kind(own, check, ledger);
            }
            for own in setting.block.iter().filter(|own| !own.is(inner)) {
                timing(own, check, ledger);
            }
        }
        ("virtualhost", Kind::Http(http)) => {
            http.host = value(setting, ledger).or(http.host.take())
        }
        ("url", Kind::Http(http)) => url(setting, http, ledger),
        ("status_code", Kind::Http(http)) => status(setting, http, ledger),
        ("enable_sni", Kind::Http(_)) => {
            ledger.changed(id, "SNI is sent wherever the check has a host");
        }
        ("http_protocol", Kind::Http(_)) => ledger.changed(id, "checks speak HTTP/1.1"),
        ("type", Kind::Dns(dns)) => {
            dns.record_type = value(setting, ledger).unwrap_or(dns.record_type);
        }
        ("name", Kind::Dns(dns)) => {
            if let Some(name) = value(setting, ledger) {
                dns.name = name;
            }
        }
        ("misc_path", Kind::Exec(_)) => {}
        ("user", Kind::Exec(exec)) => exec.user = value::<UserName>(setting, ledger),
        _ => {}
    }
}

/// The page that is asked for.
fn url(own: &Statement, http: &mut Http, ledger: &mut Ledger) {
    ledger.carried(own.id);
    for setting in &own.block {
        match setting.keyword() {
            "path" => {
                if let Some(path) = value(setting, ledger) {
                    http.path = path;
                }
            }
            "status_code" => status(setting, http, ledger),
            "virtualhost" => http.host = value(setting, ledger).or(http.host.take()),
            "regex" => {
                http.pattern = parsed(setting.id, &setting.values().join(" "), ledger);
                if http.pattern.is_some() {
                    ledger.changed(
                        setting.id,
                        "its syntax is that of Rust's regex, without look-around",
                    );
                }
            }
            _ => {}
        }
    }
}

fn status(setting: &Statement, http: &mut Http, ledger: &mut Ledger) {
    if let Some(status) = parsed::<StatusRanges>(setting.id, &setting.values().join(","), ledger) {
        http.status = status;
    }
}
