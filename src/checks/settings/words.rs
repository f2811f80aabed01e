//! The values that a check is made of, each with its grammar.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::protocol::Protocol;

/// Why a value cannot be; in one sentence, without the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// No duration.
    #[error(
        "a duration is seconds with at most three decimals, such as 5 or 0.25, or milliseconds, such as 250ms"
    )]
    NoPeriod,
    /// A duration that is too short or too long.
    #[error("a duration is {} ms to {} s", Period::LEAST.as_millis(), Period::MOST.as_secs())]
    Period,
    /// No count.
    #[error("a count is a whole number from 1 to {}", Count::MOST)]
    Count,
    /// No host name.
    #[error(
        "a host is a name of letters, digits, `-` and `_` in labels between dots, or an IP address without a port"
    )]
    Host,
    /// No path.
    #[error(
        "a path begins with `/`, has neither blanks nor `#` and no letters beyond ASCII (write them as %XX), and {} bytes at most",
        UrlPath::MOST
    )]
    UrlPath,
    /// No status codes.
    #[error(
        "a status is a code from 100 to 999, a range such as 200-399, or several between commas"
    )]
    Status,
    /// No regular expression.
    #[error("not a regular expression: {0}")]
    Pattern(String),
    /// No domain name.
    #[error(
        "a domain name is `.`, or labels of at most 63 letters, digits, `-`, `_` or `*` between dots, 253 bytes at most"
    )]
    DnsName,
    /// No type of DNS records.
    #[error("a record type is one of {}", RecordType::list())]
    RecordType,
    /// No program.
    #[error(
        "a program is given by its absolute path, such as /usr/local/lib/check-it, then its arguments"
    )]
    Program,
    /// No user.
    #[error("a user is given by name, without blanks, `:` or `/`")]
    User,
    /// A program that would run as root.
    #[error(
        "a check's program does not run as root: name a user that has only what the program needs"
    )]
    Root,
    /// A check over another protocol than the service's.
    #[error(
        "a {kind} check connects over tcp and this service is {protocol}: give the check the tcp port that tells of it"
    )]
    NeedsPort {
        /// The check's kind.
        kind: &'static str,
        /// The service's protocol.
        protocol: Protocol,
    },
    /// A DNS check of a service that cannot be DNS.
    #[error("a dns check asks over tcp or udp, and this service is {0}")]
    NoDns(Protocol),
}

/// A duration of [`Period::LEAST`] to [`Period::MOST`], in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(Duration);

impl Period {
    /// The shortest.
    pub const LEAST: Duration = Duration::from_millis(10);
    /// The longest.
    pub const MOST: Duration = Duration::from_secs(3600);

    pub(super) const fn from_secs(seconds: u64) -> Period {
        Period(Duration::from_secs(seconds))
    }

    /// A duration, cut to milliseconds.
    ///
    /// # Errors
    /// Below [`Period::LEAST`] or above [`Period::MOST`].
    pub fn new(duration: Duration) -> Result<Period, SettingError> {
        if !(Period::LEAST..=Period::MOST).contains(&duration) {
            return Err(SettingError::Period);
        }
        Ok(Period(Duration::new(duration.as_secs(), duration.subsec_millis() * 1_000_000)))
    }

    /// As a duration.
    pub fn get(self) -> Duration {
        self.0
    }

    /// In milliseconds.
    pub fn as_millis(self) -> u64 {
        self.0.as_secs() * 1000 + u64::from(self.0.subsec_millis())
    }
}

/// `5`, `5s`, `0.25` (s) or `250ms`.
impl FromStr for Period {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Period, SettingError> {
        let digits = |text: &str| text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
        let number = |text: &str| match digits(text) {
            true => text.parse::<u64>().map_err(|_| SettingError::NoPeriod),
            false => Err(SettingError::NoPeriod),
        };
        if let Some(text) = text.strip_suffix("ms") {
            return Period::new(Duration::from_millis(number(text)?));
        }
        let text = text.strip_suffix('s').unwrap_or(text);
        let (seconds, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let millis = match decimals.len() {
            1 => number(decimals)? * 100,
            2 => number(decimals)? * 10,
            3 => number(decimals)?,
            _ => return Err(SettingError::NoPeriod),
        };
        Period::new(Duration::from_millis(number(seconds)? * 1000 + millis))
    }
}

/// In seconds, as [`Period::from_str`] takes it: `5`, `0.25`.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0.as_secs(), self.0.subsec_millis());
        f.pad(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// How many results in a row: 1 to [`Count::MOST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32")]
pub struct Count(u32);

impl TryFrom<u32> for Count {
    type Error = SettingError;

    fn try_from(count: u32) -> Result<Count, SettingError> {
        Count::new(count)
    }
}

impl Count {
    /// The highest.
    pub const MOST: u32 = 100;

    pub(super) const fn of(count: u32) -> Count {
        assert!(count >= 1 && count <= Count::MOST);
        Count(count)
    }

    /// A count.
    ///
    /// # Errors
    /// 0, or above [`Count::MOST`].
    pub fn new(count: u32) -> Result<Count, SettingError> {
        match count {
            1..=Count::MOST => Ok(Count(count)),
            _ => Err(SettingError::Count),
        }
    }

    /// As a number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl FromStr for Count {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Count, SettingError> {
        match text.bytes().all(|b| b.is_ascii_digit()) {
            true => Count::new(text.parse().map_err(|_| SettingError::Count)?),
            false => Err(SettingError::Count),
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is text: as text, and shown as it.
macro_rules! texts {
    ($($name:ident)+) => {$(
        impl $name {
            /// As text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    )+};
}

texts! { HostName UrlPath Pattern DnsName UserName }

/// The longest name in DNS, in letters (RFC 1035, 2.3.4, without the lengths of its labels).
const NAME_MOST: usize = 253;
/// The longest label (RFC 1035, 2.3.4).
const LABEL_MOST: usize = 63;

/// A host's name or address, IPv6 without brackets: for a Host field, SNI and a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct HostName(String);

impl FromStr for HostName {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<HostName, SettingError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(HostName(address.to_string()));
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let label = |label: &str| {
            (1..=LABEL_MOST).contains(&label.len())
                && label.bytes().all(fits)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // A name that ends in a number was meant to be an IPv4 address.
        let ends_in_number =
            text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if text.len() > NAME_MOST || ends_in_number || !text.split('.').all(label) {
            return Err(SettingError::Host);
        }
        Ok(HostName(text.to_ascii_lowercase()))
    }
}

/// The path and query of a request (RFC 9112, 3.2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct UrlPath(String);

impl UrlPath {
    /// The longest, in bytes.
    pub const MOST: usize = 2048;
}

/// `/`.
impl Default for UrlPath {
    fn default() -> UrlPath {
        UrlPath("/".to_owned())
    }
}

impl FromStr for UrlPath {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<UrlPath, SettingError> {
        let fits = |b: u8| b.is_ascii_graphic() && b != b'#';
        if !text.starts_with('/') || text.len() > UrlPath::MOST || !text.bytes().all(fits) {
            return Err(SettingError::UrlPath);
        }
        Ok(UrlPath(text.to_owned()))
    }
}

/// HTTP status codes: inclusive ranges, disjoint, in order, not empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StatusRanges(Vec<(u16, u16)>);

impl StatusRanges {
    /// True if the code is one of them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&status))
    }
}

/// 200 to 399.
impl Default for StatusRanges {
    fn default() -> StatusRanges {
        StatusRanges(vec![(200, 399)])
    }
}

/// `200`, `200-399`, `200,301-302`.
impl FromStr for StatusRanges {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<StatusRanges, SettingError> {
        // Three digits: what RFC 9110 calls a status code.
        let code = |text: &str| match text.trim().as_bytes() {
            [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
                let digit = |byte: &u8| u16::from(byte - b'0');
                Ok(digit(a) * 100 + digit(b) * 10 + digit(c))
            }
            _ => Err(SettingError::Status),
        };
        let mut ranges = Vec::new();
        for part in text.split(',') {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            let (low, high) = (code(low)?, code(high)?);
            if low > high {
                return Err(SettingError::Status);
            }
            ranges.push((low, high));
        }
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges {
            match merged.last_mut() {
                Some(last) if low <= last.1 + 1 => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        Ok(StatusRanges(merged))
    }
}

/// As [`StatusRanges::from_str`] takes it.
impl fmt::Display for StatusRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (low, high)) in self.0.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { "," })?;
            match low == high {
                true => write!(f, "{low}")?,
                false => write!(f, "{low}-{high}")?,
            }
        }
        Ok(())
    }
}

impl Serialize for StatusRanges {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A regular expression that is sought in bytes; two are equal if their texts are.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// The most memory that an expression's program may take, in bytes.
    const PROGRAM_MOST: usize = 1 << 20;

    /// True if it matches anywhere in the bytes.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.0.is_match(bytes)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

/// In the syntax of the `regex` crate.
impl FromStr for Pattern {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Pattern, SettingError> {
        RegexBuilder::new(text).size_limit(Pattern::PROGRAM_MOST).build().map(Pattern).map_err(
            |error| {
                let reason = match error {
                    regex::Error::CompiledTooBig(_) => "it is too large".to_owned(),
                    // A syntax error is shown over several lines; the last says what it is.
                    error => {
                        let text = error.to_string();
                        let last = text.lines().last().unwrap_or_default();
                        last.strip_prefix("error: ").unwrap_or(last).to_owned()
                    }
                };
                SettingError::Pattern(reason)
            },
        )
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A domain name, without the dot at its end; `.` is the root.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct DnsName(String);

impl DnsName {
    /// Its labels, each 1 to 63 bytes; none for the root.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.split('.').filter(|label| !label.is_empty())
    }
}

/// `.`.
impl Default for DnsName {
    fn default() -> DnsName {
        DnsName(".".to_owned())
    }
}

impl FromStr for DnsName {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<DnsName, SettingError> {
        if text == "." {
            return Ok(DnsName::default());
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_*".contains(&b);
        let label =
            |label: &str| (1..=LABEL_MOST).contains(&label.len()) && label.bytes().all(fits);
        if text.len() > NAME_MOST || !text.split('.').all(label) {
            return Err(SettingError::DnsName);
        }
        Ok(DnsName(text.to_ascii_lowercase()))
    }
}

named! {
    /// A type of DNS records (RFC 1035, 3.2.2; RFC 3596; RFC 2782).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    #[serde(rename_all = "UPPERCASE")]
    pub enum RecordType {
        /// An IPv4 address.
        A = "A",
        /// A name server.
        Ns = "NS",
        /// Another name of the same.
        Cname = "CNAME",
        /// The start of a zone.
        Soa = "SOA",
        /// A name of an address.
        Ptr = "PTR",
        /// A mail server.
        Mx = "MX",
        /// Text.
        Txt = "TXT",
        /// An IPv6 address.
        Aaaa = "AAAA",
        /// A service's place.
        Srv = "SRV",
    }
}

impl RecordType {
    /// The number on the wire.
    pub fn number(self) -> u16 {
        match self {
            RecordType::A => 1,
            RecordType::Ns => 2,
            RecordType::Cname => 5,
            RecordType::Soa => 6,
            RecordType::Ptr => 12,
            RecordType::Mx => 15,
            RecordType::Txt => 16,
            RecordType::Aaaa => 28,
            RecordType::Srv => 33,
        }
    }

    pub(super) fn list() -> String {
        RecordType::ALL.map(RecordType::name).join(", ")
    }
}

impl FromStr for RecordType {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<RecordType, SettingError> {
        RecordType::ALL
            .into_iter()
            .find(|known| known.name().eq_ignore_ascii_case(text))
            .ok_or(SettingError::RecordType)
    }
}

/// A program's absolute path and its arguments.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct CheckProgram(Vec<String>);

impl TryFrom<Vec<String>> for CheckProgram {
    type Error = SettingError;

    fn try_from(words: Vec<String>) -> Result<CheckProgram, SettingError> {
        CheckProgram::new(words)
    }
}

impl CheckProgram {
    /// The path, then the arguments as they are to be passed.
    ///
    /// # Errors
    /// No path, one that is not absolute, or a zero byte anywhere.
    pub fn new(words: Vec<String>) -> Result<CheckProgram, SettingError> {
        let absolute = words.first().is_some_and(|path| path.starts_with('/'));
        if !absolute || words.iter().any(|word| word.contains('\0')) {
            return Err(SettingError::Program);
        }
        Ok(CheckProgram(words))
    }

    /// The path.
    pub fn path(&self) -> &str {
        &self.0[0]
    }

    /// The arguments.
    pub fn arguments(&self) -> &[String] {
        &self.0[1..]
    }
}

/// A user's name, never root's. Whether there is such a user is seen when a program is to run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct UserName(String);

impl FromStr for UserName {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<UserName, SettingError> {
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == ':' || c == '/';
        if text == "root" {
            return Err(SettingError::Root);
        }
        if text.is_empty() || text.contains(odd) {
            return Err(SettingError::User);
        }
        Ok(UserName(text.to_owned()))
    }
}

/// Types that are read from JSON as a person writes them.
macro_rules! read_as_written {
    ($($name:ident)+) => {
        $(impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        })+
    };
}

read_as_written!(HostName UrlPath StatusRanges Pattern DnsName UserName);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wrong<T: FromStr<Err = SettingError> + fmt::Debug>(texts: &[&str], error: &SettingError) {
        for text in texts {
            assert_eq!(text.parse::<T>().as_ref().err(), Some(error), "{text:?}");
        }
    }

    #[test]
    fn a_duration_is_seconds_or_milliseconds_within_its_bounds() {
        let millis = |text: &str| text.parse::<Period>().map(Period::as_millis);
        for (text, expected) in [
            ("5", 5000),
            ("5s", 5000),
            ("0.25", 250),
            ("0.5s", 500),
            ("1.005", 1005),
            ("250ms", 250),
            ("0.01", 10),
            ("3600", 3_600_000),
        ] {
            assert_eq!(millis(text), Ok(expected), "{text}");
        }
        let none =
            ["", "s", "ms", ".5", "5.", "1.0001", "-1", "+1", "1e3", "5 s", "0x10", "٣", "1.5ms"];
        wrong::<Period>(&none, &SettingError::NoPeriod);
        wrong::<Period>(&["99999999999999999999"], &SettingError::NoPeriod);
        wrong::<Period>(&["0", "0.009", "9ms", "3600.001", "3601"], &SettingError::Period);
        assert_eq!(Period::new(Duration::from_micros(10_999)).unwrap().as_millis(), 10);
    }

    #[test]
    fn a_count_is_from_1_to_100() {
        assert_eq!("100".parse(), Count::new(100));
        wrong::<Count>(&["", "0", "101", "-1", "+1", "1.0", "99999999999"], &SettingError::Count);
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_never_more() {
        let host = |text: &str| text.parse::<HostName>().map(|host| host.0);
        assert_eq!(host("WWW.Example.org"), Ok("www.example.org".to_owned()));
        assert_eq!(host("2001:DB8:0::1"), Ok("2001:db8::1".to_owned()));
        assert_eq!(host("my_host-1"), Ok("my_host-1".to_owned()));
        let long = "a".repeat(64);
        let longer = ["a"; 128].join(".");
        let none = [
            "",
            ".",
            "a..b",
            "a.",
            "-a",
            "a-",
            "a b",
            "a:80",
            "[::1]",
            "10.0.0.256",
            "1.2.3",
            "a/b",
            "a\r\nX: y",
            "ü.de",
            &long,
            &longer,
        ];
        wrong::<HostName>(&none, &SettingError::Host);
    }

    #[test]
    fn a_path_cannot_end_the_line_of_the_request() {
        assert_eq!("/health?full=1".parse::<UrlPath>().unwrap().as_str(), "/health?full=1");
        let long = format!("/{}", "a".repeat(UrlPath::MOST));
        let none = ["", "health", "/a b", "/a\r\n", "/a#b", "/ä", &long];
        wrong::<UrlPath>(&none, &SettingError::UrlPath);
    }

    #[test]
    fn status_codes_are_ranges_and_shown_merged() {
        let ranges: StatusRanges = "404, 301-302,200-299,300".parse().unwrap();
        assert_eq!(ranges.to_string(), "200-302,404");
        for (status, good) in [(199, false), (200, true), (302, true), (303, false), (404, true)] {
            assert_eq!(ranges.contains(status), good, "{status}");
        }
        let none =
            ["", "20", "2000", "099", "300-200", "200-", "-200", "2xx", "200,,201", "200;201"];
        wrong::<StatusRanges>(&none, &SettingError::Status);
    }

    #[test]
    fn a_pattern_that_is_no_expression_says_why_in_one_line() {
        let pattern: Pattern = "status: *ok".parse().unwrap();
        assert!(pattern.is_in(b"\xff\nstatus:   ok\n") && !pattern.is_in(b"status: down"));
        for (text, reason) in [("a(b", "unclosed group"), ("(?:a{1000}){1000}", "it is too large")]
        {
            let error = text.parse::<Pattern>().unwrap_err();
            assert_eq!(error, SettingError::Pattern(reason.to_owned()));
        }
    }

    #[test]
    fn a_domain_name_has_labels_of_their_lengths() {
        let labels = |text: &str| -> Vec<String> {
            text.parse::<DnsName>().unwrap().labels().map(str::to_owned).collect()
        };
        assert!(labels(".").is_empty());
        assert_eq!(labels("_dns.Example.org."), ["_dns", "example", "org"]);
        assert_eq!(labels("1.0.0.127.in-addr.arpa").len(), 6);
        let (long, longer) = ("a".repeat(64), ["a"; 128].join("."));
        let none = ["", "..", ".a", "a..b", "a b", "a\\b", "ä", &long, &longer];
        wrong::<DnsName>(&none, &SettingError::DnsName);
    }

    #[test]
    fn a_record_type_is_known_by_its_name_in_any_case() {
        for known in RecordType::ALL {
            assert_eq!(known.name().to_lowercase().parse(), Ok(known));
        }
        wrong::<RecordType>(&["", "ANY", "AXFR", "1"], &SettingError::RecordType);
        let error = SettingError::RecordType.to_string();
        assert_eq!(error, "a record type is one of A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV");
    }

    #[test]
    fn a_program_is_absolute_and_its_user_is_never_root() {
        let program =
            |words: &[&str]| CheckProgram::new(words.iter().map(|w| (*w).to_owned()).collect());
        let check = program(&["/bin/check", "-a", "b c"]).unwrap();
        assert_eq!(
            (check.path(), check.arguments().join("|")),
            ("/bin/check", "-a|b c".to_owned())
        );
        for none in [&[][..], &["check"], &["./check"], &["/check", "a\0b"], &[""]] {
            assert_eq!(program(none), Err(SettingError::Program), "{none:?}");
        }
        assert_eq!("www-data".parse::<UserName>().unwrap().as_str(), "www-data");
        wrong::<UserName>(&["root"], &SettingError::Root);
        wrong::<UserName>(&["", "a b", "a:b", "a/b", "a\n"], &SettingError::User);
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_as_the_same(
            millis in 10u64..=3_600_000,
            ranges in proptest::collection::vec((100u16..1000, 100u16..1000), 1..6),
        ) {
            let period = Period::new(Duration::from_millis(millis)).unwrap();
            prop_assert_eq!(period.to_string().parse(), Ok(period));
            prop_assert_eq!(format!("{millis}ms").parse(), Ok(period));
            let text: Vec<String> =
                ranges.iter().map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))).collect();
            let parsed: StatusRanges = text.join(",").parse().unwrap();
            for status in 0..=1000 {
                let inside = ranges.iter().any(|(a, b)| (*a.min(b)..=*a.max(b)).contains(&status));
                prop_assert_eq!(parsed.contains(status), inside);
            }
            prop_assert_eq!(parsed.to_string().parse(), Ok(parsed));
        }

        #[test]
        fn no_text_makes_a_value_panic(text in ".*") {
            let _ = text.parse::<Period>();
            let _ = text.parse::<Count>();
            let _ = text.parse::<HostName>();
            let _ = text.parse::<UrlPath>();
            let _ = text.parse::<StatusRanges>();
            let _ = text.parse::<Pattern>();
            let _ = text.parse::<DnsName>();
            let _ = text.parse::<RecordType>();
            let _ = text.parse::<UserName>();
        }
    }
}
