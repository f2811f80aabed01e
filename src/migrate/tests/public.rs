//! The structures of public configurations: which keywords they use, how often and within what.
//! Texts with values of our own are made of them, so that the import runs over each structure.

use std::fmt::Write;

use super::options;
use crate::conf::Clustertab;
use crate::ipvsadm::names::Numbers;
use crate::migrate::{Outcome, SourceFormat, StatementTotals, migrate};

/// What is known of the public configurations.
const FACTS: &str = include_str!("public.txt");

/// How many public configurations there are to be at least.
const LEAST: usize = 40;

/// What is known of one of them.
struct PublicConfiguration {
    format: SourceFormat,
    name: String,
    totals: StatementTotals,
    unknown: usize,
    has_draft: bool,
    structure: Vec<Node>,
}

/// A statement of a structure.
#[derive(Clone, Debug)]
struct Node {
    name: String,
    block: Option<Vec<Node>>,
}

fn configurations() -> Vec<PublicConfiguration> {
    let text: String = FACTS
        .lines()
        .filter(|line| !line.starts_with('#'))
        .fold(String::new(), |text, line| text + line + "\n");
    let blocks = text.split("\n\n").map(str::trim).filter(|block| !block.is_empty());
    blocks.map(configuration).collect()
}

fn configuration(block: &str) -> PublicConfiguration {
    let lines: Vec<&str> = block.lines().collect();
    let [head, numbers, structure] = lines[..] else { panic!("three lines: {block}") };
    let mut head = head.splitn(4, ' ');
    let format = head.next().unwrap();
    let format = SourceFormat::ALL.into_iter().find(|known| known.name() == format).unwrap();
    let numbers: Vec<&str> = numbers.split(' ').collect();
    let number = |at: usize| numbers[at].parse::<usize>().unwrap();
    let totals = StatementTotals {
        statements: number(0),
        carried: number(1),
        changed: number(2),
        not_carried: number(3),
    };
    let mut rest = structure;
    let structure = nodes(&mut rest);
    assert_eq!(rest, "", "{block}");
    PublicConfiguration {
        format,
        name: head.collect::<Vec<_>>().join(" "),
        totals,
        unknown: number(4),
        has_draft: numbers[5] == "draft",
        structure,
    }
}

/// Statements up to a closing bracket or the end.
fn nodes(rest: &mut &str) -> Vec<Node> {
    let mut all = Vec::new();
    loop {
        *rest = rest.trim_start();
        if rest.is_empty() || rest.starts_with(['}', ')']) {
            return all;
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let mut count = 1;
        if digits > 0 && rest[digits..].starts_with('x') {
            count = rest[..digits].parse().unwrap();
            *rest = &rest[digits + 1..];
        }
        let group = match rest.strip_prefix('(') {
            Some(inner) => {
                *rest = inner;
                let group = nodes(rest);
                *rest = rest.strip_prefix(')').expect("a bracket that is closed");
                group
            }
            None => {
                let end = rest.find([' ', '{', '}', ')']).unwrap_or(rest.len());
                let name = rest[..end].to_owned();
                *rest = &rest[end..];
                let block = rest.strip_prefix('{').map(|inner| {
                    *rest = inner;
                    let block = nodes(rest);
                    *rest = rest.strip_prefix('}').expect("a brace that is closed");
                    block
                });
                vec![Node { name, block }]
            }
        };
        for _ in 0..count {
            all.extend(group.iter().cloned());
        }
    }
}

/// Makes a text of a structure, with values of its own.
#[derive(Default)]
struct Writer {
    text: String,
    services: u32,
    servers: u32,
    addresses: u32,
}

impl Writer {
    /// Another address of a real server.
    fn server(&mut self) -> String {
        self.servers += 1;
        format!("10.{}.{}.{}", self.servers >> 16, self.servers >> 8 & 255, self.servers & 255)
    }

    /// Another port on one of few CVIPs.
    fn service(&mut self) -> (String, u32) {
        self.services += 1;
        (format!("192.0.2.{}", 100 + self.services % 3), 1000 + self.services)
    }

    fn keepalived(&mut self, nodes: &[Node], within: &str, depth: usize) {
        for node in nodes {
            let (keyword, word) = node.name.split_once(':').unwrap_or((&node.name, ""));
            let value = self.value(keyword, word, within);
            let _ = write!(self.text, "{}{value}", "    ".repeat(depth));
            match &node.block {
                None => self.text.push('\n'),
                Some(block) => {
                    self.text.push_str(" {\n");
                    self.keepalived(block, keyword, depth + 1);
                    let _ = writeln!(self.text, "{}}}", "    ".repeat(depth));
                }
            }
        }
    }

    /// A statement of keepalived.conf.
    fn value(&mut self, keyword: &str, word: &str, within: &str) -> String {
        let value = match (keyword, within) {
            ("_", "virtual_server_group") => {
                let (addr, port) = self.service();
                return format!("{addr} {port}");
            }
            ("_range", _) => {
                let (_, port) = self.service();
                return format!("192.0.2.1-4 {port}");
            }
            ("_", _) => {
                self.addresses += 1;
                return format!("192.0.2.{}", 99 + self.addresses % 5);
            }
            ("?", _) => return "unheard-of value".to_owned(),
            ("virtual_server", _) => match word {
                "fwmark" => "fwmark 3".to_owned(),
                "group" => "group own".to_owned(),
                _ => {
                    let (addr, port) = self.service();
                    format!("{addr} {port}")
                }
            },
            ("virtual_server_group", _) => "own".to_owned(),
            ("real_server" | "sorry_server", _) => {
                let server = self.server();
                format!("{server} {}", 1000 + self.services)
            }
            ("path", _) => "/alive".to_owned(),
            ("status_code", _) => "200".to_owned(),
            ("virtualhost", _) => "www.example.org".to_owned(),
            ("lb_algo" | "lvs_sched", _) => "wrr".to_owned(),
            ("misc_path", _) => "\"/usr/local/lib/check-it all\"".to_owned(),
            ("interface" | "lvs_sync_daemon_inteface" | "lvs_sync_daemon_interface", _) => {
                "eth1".to_owned()
            }
            ("nat_mask" | "net_mask" | "persistence_granularity", _) => "255.255.255.0".to_owned(),
            _ if !word.is_empty() => word.to_owned(),
            _ => "3".to_owned(),
        };
        format!("{keyword} {value}")
    }

    fn ldirectord(&mut self, nodes: &[Node]) {
        for node in nodes {
            let (key, indent) = match node.name.strip_prefix('.') {
                Some(key) => (key, "\t"),
                None => (node.name.as_str(), ""),
            };
            let (key, word) = key.split_once(':').unwrap_or((key, ""));
            let value = match key {
                "?" => {
                    let _ = writeln!(self.text, "{indent}unheard of");
                    continue;
                }
                "virtual" if word == "fwmark" => "3".to_owned(),
                "virtual" | "virtual6" => {
                    let (addr, port) = self.service();
                    format!("{addr}:{port}")
                }
                "real" => format!("{}:{} {word} 2", self.server(), 1000 + self.services),
                "real-range" => format!("10.9.0.1->10.9.0.3:{} {word}", 1000 + self.services),
                "fallback" if word == "local" => "127.0.0.1:80 gate".to_owned(),
                "fallback" => format!("{}:80", self.server()),
                "netmask" => "255.255.255.0".to_owned(),
                "scheduler" => "wrr".to_owned(),
                "request" | "receive" => "\"alive.html\"".to_owned(),
                "quiescent" | "autoreload" => "yes".to_owned(),
                "checktype" if word == "N" => "4".to_owned(),
                _ if !word.is_empty() => word.to_owned(),
                _ => "3".to_owned(),
            };
            let key = if key == "real-range" { "real" } else { key };
            let _ = writeln!(self.text, "{indent}{key}={value}");
            self.ldirectord(node.block.as_deref().unwrap_or_default());
        }
    }

    fn ipvsadm(&mut self, nodes: &[Node]) {
        for node in nodes {
            if node.name == "?" {
                self.text.push_str("echo unheard of\n");
                continue;
            }
            let is_variable = node.name.contains('$');
            for option in node.name.split('+') {
                let option = option.trim_end_matches('$');
                let value = match option {
                    "add-service" => {
                        self.services += 1;
                        String::new()
                    }
                    "tcp-service" | "udp-service" if is_variable => " $VIP:80".to_owned(),
                    "tcp-service" | "udp-service" => {
                        format!(" 192.0.2.100:{}", 1000 + self.services)
                    }
                    "real-server" => format!(" {}:{}", self.server(), 1000 + self.services),
                    "scheduler" => " wrr".to_owned(),
                    "weight" | "persistent" => " 3".to_owned(),
                    _ => String::new(),
                };
                let _ = write!(self.text, "--{option}{value} ");
            }
            if node.name == "set" {
                self.text.push_str("30 5 60");
            }
            self.text.push('\n');
        }
    }
}

#[test]
fn every_structure_of_a_public_configuration_is_carried_or_named() {
    let clustertab = Clustertab::default();
    let (mut statements, mut unknown) = (0, 0);
    for public in configurations() {
        let mut writer = Writer::default();
        match public.format {
            SourceFormat::Keepalived => writer.keepalived(&public.structure, "", 0),
            SourceFormat::Ldirectord => writer.ldirectord(&public.structure),
            SourceFormat::Ipvsadm => writer.ipvsadm(&public.structure),
        }
        let (text, name) = (writer.text, &public.name);
        let options = options(&clustertab);
        let migration = migrate(&text, Some(public.format), &options, &mut Numbers)
            .unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
        let totals = migration.totals();
        assert_eq!(totals.statements, public.totals.statements, "{name}\n{text}");
        assert_eq!(
            totals.statements,
            totals.carried + totals.changed + totals.not_carried,
            "{name}"
        );
        let is_unknown = |message: &str| message.contains("its keyword is not known");
        let own = migration.notes.iter().filter(|n| n.message.as_deref().is_some_and(is_unknown));
        let own = own.count();
        assert!(own <= public.unknown, "{name}: {own} unknown\n{text}");
        (statements, unknown) = (statements + totals.statements, unknown + own);
        if public.has_draft {
            let draft = migration.draft.unwrap_or_else(|why| panic!("{name}: {why}\n{text}"));
            // A service is in the draft if, and only if, its notes say so.
            let begins = ["virtual_server", "virtual", "virtual6", "--add-service"];
            let said = migration.notes.iter().filter(|note| {
                begins.contains(&note.keyword.as_str())
                    && note.outcome != Outcome::NotCarried
                    && !note.statement.contains("group")
            });
            let services = draft.conf.cvips.iter().map(|cvip| cvip.services.len()).sum::<usize>();
            assert_eq!(services, said.count(), "{name}\n{text}");
        }
    }
    assert!(unknown * 20 <= statements, "{unknown} of {statements} statements are unknown");
}

#[test]
fn the_public_configurations_are_enough_and_the_page_on_migration_says_what_became_of_them() {
    let all = configurations();
    assert!(all.len() >= LEAST, "{}", all.len());
    let mut names: Vec<&str> = all.iter().map(|public| public.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all.len(), "each stands once");
    let page = include_str!("../../../docs/migration.md");
    let mut sum = (0, StatementTotals::default(), 0, 0);
    let line =
        |name: &str, (count, totals, unknown, drafts): (usize, StatementTotals, usize, usize)| {
            let StatementTotals { statements, carried, changed, not_carried } = totals;
            format!(
                "| {name} | {count} | {drafts} | {statements} | {carried} | {changed} | \
             {not_carried} | {unknown} |"
            )
        };
    for format in SourceFormat::ALL {
        let mut own = (0, StatementTotals::default(), 0, 0);
        for public in all.iter().filter(|public| public.format == format) {
            for sum in [&mut own, &mut sum] {
                sum.0 += 1;
                sum.1.statements += public.totals.statements;
                sum.1.carried += public.totals.carried;
                sum.1.changed += public.totals.changed;
                sum.1.not_carried += public.totals.not_carried;
                sum.2 += public.unknown;
                sum.3 += usize::from(public.has_draft);
            }
        }
        let line = line(format.name(), own);
        assert!(page.contains(&line), "docs/migration.md lacks: {line}");
    }
    let line = line("all", sum);
    assert!(page.contains(&line), "docs/migration.md lacks: {line}");
    assert!(sum.2 * 20 <= sum.1.statements, "less than 95 % are carried or named");
}
