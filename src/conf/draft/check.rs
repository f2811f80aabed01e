//! A `check` element. What its values may be is judged by their own types, in
//! [`checks::settings`](crate::checks::settings); here, which of them belong to which type.

use std::str::FromStr;

use roxmltree::Node;

use super::reader::DraftReader;
use crate::checks::settings::{
    Check, CheckProgram, Count, Dns, DnsName, Exec, HostName, Http, Kind, Pattern, Period,
    RecordType, SettingError, StatusRanges, UrlPath, UserName,
};
use crate::conf::grammar::CHECK;
use crate::conf::report::{At, Span};
use crate::conf::words::{alternatives, quoted};

/// The children that belong to some types only.
const BELONGING: [(&str, &[&str]); 9] = [
    ("host", &["http", "https"]),
    ("path", &["http", "https"]),
    ("status", &["http", "https"]),
    ("pattern", &["http", "https"]),
    ("verify", &["https"]),
    ("name", &["dns"]),
    ("record", &["dns"]),
    ("command", &["exec"]),
    ("user", &["exec"]),
];

/// A check and the place of its type.
pub(in crate::conf) type DraftCheck = At<Check>;

/// What the children said, those that were right.
#[derive(Default)]
struct GivenCheck {
    /// One of [`Kind::NAMES`].
    kind: Option<At<&'static str>>,
    interval: Option<Period>,
    timeout: Option<Period>,
    rise: Option<Count>,
    fall: Option<Count>,
    port: Option<u16>,
    host: Option<HostName>,
    path: Option<UrlPath>,
    status: Option<StatusRanges>,
    pattern: Option<Pattern>,
    verify: bool,
    name: Option<DnsName>,
    record: Option<RecordType>,
    program: Option<CheckProgram>,
    user: Option<UserName>,
    /// Every child that is there, right or wrong, with its tag.
    children: Vec<(&'static str, Span)>,
}

impl DraftReader<'_, '_> {
    pub(super) fn check(&mut self, node: Node<'_, '_>) -> Option<DraftCheck> {
        let mut given = GivenCheck::default();
        self.walk(node, &CHECK, |reader, name, node| {
            given.children.push((name, reader.tag(node)));
            match name {
                "type" => {
                    let messages = ("type of check", "it is one of");
                    given.kind = reader.word(node, &Kind::NAMES, |word| word, messages);
                }
                "interval" => given.interval = reader.setting(node),
                "timeout" => given.timeout = reader.setting(node),
                "rise" => given.rise = reader.setting(node),
                "fall" => given.fall = reader.setting(node),
                "port" => given.port = reader.port(node).value.map(|port| port.value),
                "host" => given.host = reader.setting(node),
                "path" => given.path = reader.setting(node),
                "status" => given.status = reader.setting(node),
                "pattern" => given.pattern = reader.setting(node),
                "verify" => given.verify = reader.yes(node).is_some(),
                "name" => given.name = reader.setting(node),
                "record" => given.record = reader.setting(node),
                "command" => given.program = reader.command(node),
                _ => given.user = reader.setting(node),
            }
        });
        let At { value: kind, span } = given.kind.clone()?;
        self.strangers(&given.children, kind);
        if kind == "exec" && !given.children.iter().any(|(name, _)| *name == "command") {
            self.error(&span, "a check of type exec without `command`")
                .help("give the program's absolute path, and its arguments if it has any");
        }
        Some(At { value: given.check(kind)?, span })
    }

    /// Children that say nothing to a check of this type.
    fn strangers(&mut self, children: &[(&'static str, Span)], kind: &str) {
        for (name, tag) in children {
            let Some((_, kinds)) = BELONGING.iter().find(|(known, _)| known == name) else {
                continue;
            };
            if !kinds.contains(&kind) {
                let message = format!("`{name}` in a check of type {kind}");
                self.error(tag, message).help(format!(
                    "it belongs to the type {}: remove it, or change `type`",
                    alternatives(kinds)
                ));
            }
        }
    }

    /// A value whose type knows what it may be.
    fn setting<T: FromStr<Err = SettingError>>(&mut self, node: Node<'_, '_>) -> Option<T> {
        let name = node.tag_name().name();
        let setting = self.converted(node, |text| {
            text.parse().map_err(|error: SettingError| {
                (format!("`{name}` cannot be {}", quoted(text)), Some(error.to_string()))
            })
        });
        Some(setting?.value)
    }

    /// A program and its arguments, parted as a shell parts words; nothing is expanded.
    fn command(&mut self, node: Node<'_, '_>) -> Option<CheckProgram> {
        let program = self.converted(node, |text| {
            let refused =
                |help: String| (format!("`command` cannot be {}", quoted(text)), Some(help));
            let words = shlex::split(text)
                .ok_or_else(|| refused("a quotation mark or a backslash has no end".to_owned()))?;
            CheckProgram::new(words).map_err(|error| refused(error.to_string()))
        });
        Some(program?.value)
    }
}

impl GivenCheck {
    /// The check; none if a value that it cannot be without is wrong.
    fn check(self, kind: &str) -> Option<Check> {
        let kind = match kind {
            "http" | "https" => {
                let default = Http::new(kind == "https");
                Kind::Http(Http {
                    host: self.host,
                    path: self.path.unwrap_or(default.path),
                    status: self.status.unwrap_or(default.status),
                    pattern: self.pattern,
                    verify: self.verify,
                    ..default
                })
            }
            "dns" => {
                // A name that clients ask for is a host's; the root has no address.
                let record_type = match self.name {
                    Some(_) => RecordType::A,
                    None => Dns::default().record_type,
                };
                Kind::Dns(Dns {
                    name: self.name.unwrap_or_default(),
                    record_type: self.record.unwrap_or(record_type),
                })
            }
            "exec" => Kind::Exec(Exec { program: self.program?, user: self.user }),
            kind => Kind::by_name(kind)?,
        };
        Some(Check {
            interval: self.interval.unwrap_or(Check::INTERVAL),
            timeout: self.timeout.unwrap_or(Check::TIMEOUT),
            rise: self.rise.unwrap_or(Check::RISE),
            fall: self.fall.unwrap_or(Check::FALL),
            port: self.port,
            ..Check::new(kind)
        })
    }
}
