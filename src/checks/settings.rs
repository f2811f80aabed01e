//! What a check is told to do: its kind, how often, how long, and how many results count.
//!
//! Every value that a person writes is judged here and nowhere else: each is a type that can be
//! made only of what makes sense, and whose error is one sentence that says what would. Nothing
//! here knows the file in which it was written, and errors do not repeat what was.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::protocol::Protocol;

mod words;

pub use words::{
    CheckProgram, Count, DnsName, HostName, Pattern, Period, RecordType, SettingError,
    StatusRanges, UrlPath, UserName,
};

/// A check of a service's real servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is asked of a real server.
    #[serde(flatten)]
    pub kind: Kind,
    /// From the start of one run to the start of the next. A run that takes longer is not
    /// doubled: the next starts when it has ended.
    #[serde(rename = "interval_ms")]
    pub interval: Period,
    /// How long a run may take, names, handshakes and answers included.
    #[serde(rename = "timeout_ms")]
    pub timeout: Period,
    /// Successes in a row that make an unhealthy real server healthy.
    pub rise: Count,
    /// Failures in a row that make a healthy real server unhealthy.
    pub fall: Count,
    /// The port to probe, from 1; none: the service's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// What a check asks of a real server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Kind {
    /// That it takes a TCP connection.
    Tcp,
    /// That it answers an HTTP or HTTPS request.
    Http(Http),
    /// That it answers a DNS query.
    Dns(Dns),
    /// That a program says so.
    Exec(Exec),
}

/// An HTTP/1.1 GET (RFC 9110, RFC 9112).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http {
    /// HTTPS.
    pub tls: bool,
    /// The name for the Host field and, with TLS, for SNI and the certificate; none: the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// Path and query.
    pub path: UrlPath,
    /// The status codes that are good.
    pub status: StatusRanges,
    /// What must stand somewhere in the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
    /// With TLS: whether the certificate must be valid for `host` by this machine's authorities.
    /// A real server has the certificate of the CVIP's name, so it is not asked by default.
    pub verify: bool,
}

/// A DNS query (RFC 1035), over the service's protocol. Good is an answer without an error and
/// with one record at least, or one that was cut short because it has more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// The name to ask for.
    pub name: DnsName,
    /// The type of the records to ask for.
    pub record_type: RecordType,
}

/// A program; it is good if it ends with status 0.
///
/// It is run without a shell, never as root, with nothing in its environment but PATH,
/// `CVIP_CHECK_ADDRESS`, `CVIP_CHECK_PORT` and `CVIP_CHECK_PROTOCOL`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The program's absolute path and its arguments.
    pub program: CheckProgram,
    /// Who runs it; none: `nobody`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<UserName>,
}

impl Check {
    /// Time between runs where a check does not say.
    pub const INTERVAL: Period = Period::from_secs(5);
    /// Time for a run where a check does not say.
    pub const TIMEOUT: Period = Period::from_secs(2);
    /// Successes in a row where a check does not say.
    pub const RISE: Count = Count::of(2);
    /// Failures in a row where a check does not say.
    pub const FALL: Count = Count::of(3);

    /// A check of this kind with every default.
    pub fn new(kind: Kind) -> Check {
        Check {
            kind,
            interval: Check::INTERVAL,
            timeout: Check::TIMEOUT,
            rise: Check::RISE,
            fall: Check::FALL,
            port: None,
        }
    }

    /// Whether the check can say anything about a service of this protocol.
    ///
    /// # Errors
    /// A check over TCP of a service that is not, unless it names a port of its own; a DNS check
    /// of a service over neither TCP nor UDP.
    pub fn suits(&self, protocol: Protocol) -> Result<(), SettingError> {
        match self.kind {
            Kind::Tcp | Kind::Http(_) if protocol != Protocol::Tcp && self.port.is_none() => {
                Err(SettingError::NeedsPort { kind: self.kind.name(), protocol })
            }
            Kind::Dns(_) if protocol == Protocol::Sctp => Err(SettingError::NoDns(protocol)),
            _ => Ok(()),
        }
    }
}

impl Kind {
    /// The words for kinds, in the order in which messages list them.
    pub const NAMES: [&'static str; 5] = ["tcp", "http", "https", "dns", "exec"];

    /// The kind with every default, by its word.
    ///
    /// None for a word that is no kind, and for `exec`, which has no default program.
    pub fn by_name(word: &str) -> Option<Kind> {
        Some(match word {
            "tcp" => Kind::Tcp,
            "http" => Kind::Http(Http::new(false)),
            "https" => Kind::Http(Http::new(true)),
            "dns" => Kind::Dns(Dns::default()),
            _ => return None,
        })
    }

    /// The kind's word.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Tcp => "tcp",
            Kind::Http(Http { tls: false, .. }) => "http",
            Kind::Http(Http { tls: true, .. }) => "https",
            Kind::Dns(_) => "dns",
            Kind::Exec(_) => "exec",
        }
    }
}

impl Http {
    /// `GET /` with every default.
    pub fn new(tls: bool) -> Http {
        Http {
            tls,
            host: None,
            path: UrlPath::default(),
            status: StatusRanges::default(),
            pattern: None,
            verify: false,
        }
    }
}

impl Default for Dns {
    /// The name servers of the root: every resolver knows them, and an authoritative server that
    /// does not has to be asked for a name of its own.
    fn default() -> Dns {
        Dns { name: DnsName::default(), record_type: RecordType::Ns }
    }
}

impl Exec {
    /// A program to be run as `nobody`.
    pub fn new(program: CheckProgram) -> Exec {
        Exec { program, user: None }
    }
}

/// As a table shows it: `tcp`, `http /health`, `dns NS .`, `exec check-it`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Kind::Tcp => Ok(()),
            Kind::Http(http) => write!(f, " {}", http.path),
            Kind::Dns(dns) => write!(f, " {} {}", dns.record_type, dns.name),
            Kind::Exec(exec) => {
                let path = Path::new(exec.program.path());
                write!(f, " {}", path.file_name().unwrap_or(path.as_os_str()).display())
            }
        }
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.as_millis())
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
        let millis = u64::deserialize(deserializer)?;
        Period::new(Duration::from_millis(millis)).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(path: &str) -> Kind {
        Kind::Exec(Exec::new(CheckProgram::new(vec![path.to_owned()]).unwrap()))
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let check = Check::new(Kind::by_name("https").unwrap());
        assert_eq!((check.interval.as_millis(), check.timeout.as_millis()), (5000, 2000));
        assert_eq!((check.rise.get(), check.fall.get(), check.port), (2, 3, None));
        let Kind::Http(http) = check.kind else { panic!("not http") };
        assert!(http.tls && !http.verify && http.host.is_none() && http.pattern.is_none());
        assert_eq!((http.path.as_str(), http.status.to_string().as_str()), ("/", "200-399"));
        assert_eq!(Kind::by_name("dns").unwrap().to_string(), "dns NS .");
    }

    #[test]
    fn a_kind_is_known_by_its_word_and_says_it() {
        for name in Kind::NAMES {
            let kind = Kind::by_name(name).unwrap_or_else(|| exec("/usr/lib/checks/it"));
            assert_eq!(kind.name(), name);
        }
        assert_eq!(exec("/usr/lib/checks/it").to_string(), "exec it");
        assert_eq!(Kind::by_name("ping"), None);
    }

    #[test]
    fn a_check_over_tcp_tells_nothing_of_another_protocol_unless_it_has_its_own_port() {
        use Protocol::{Sctp, Tcp, Udp};
        for (name, suited) in [
            ("tcp", &[Tcp][..]),
            ("http", &[Tcp]),
            ("https", &[Tcp]),
            ("dns", &[Tcp, Udp]),
            ("exec", &[Tcp, Udp, Sctp]),
        ] {
            let mut check = Check::new(Kind::by_name(name).unwrap_or_else(|| exec("/it")));
            for protocol in Protocol::ALL {
                let suits = check.suits(protocol).is_ok();
                assert_eq!(suits, suited.contains(&protocol), "{name} {protocol}");
            }
            check.port = Some(8080);
            assert_eq!(check.suits(Udp), Ok(()));
        }
    }

    #[test]
    fn as_json_a_check_has_its_kind_beside_its_counts_and_durations_in_milliseconds() {
        let mut check = Check::new(Kind::by_name("http").unwrap());
        check.interval = "0.25".parse().unwrap();
        let json = serde_json::to_value(&check).unwrap();
        let expected = serde_json::json!({
            "kind": "http", "tls": false, "path": "/", "status": "200-399", "verify": false,
            "interval_ms": 250, "timeout_ms": 2000, "rise": 2, "fall": 3,
        });
        assert_eq!(json, expected);
    }
}
