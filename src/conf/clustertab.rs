//! clustertab: which node has which address on the cluster's own network.
//!
//! One node a line, fields separated by blanks or tabs: `id ip mac netboot init devboot`, of
//! which the first two matter here. Blank lines and lines that begin with `#` are skipped.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::address::{Unusable, usable};
use super::diagnostic::Diagnostic;
use super::report::{ConfReport, Span};
use super::words::quoted;

/// The nodes of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Clustertab {
    /// Each node's address, by node number (from 1). No two have the same.
    pub nodes: BTreeMap<u32, IpAddr>,
}

impl Clustertab {
    /// Parses a clustertab; `path` is for messages. The first part is `None` if any of the
    /// diagnostics is an error.
    pub fn parse(text: &str, path: &str) -> (Option<Clustertab>, Vec<Diagnostic>) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut report = ConfReport::new(path, text);
        let mut seen = ClustertabSeen::default();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            seen.line(&mut report, start, line.trim_end_matches(['\n', '\r']));
            start += line.len();
        }
        let clustertab = (!report.has_errors()).then(|| Clustertab {
            nodes: seen.nodes.into_iter().map(|(node, (addr, _))| (node, addr)).collect(),
        });
        (clustertab, report.finish())
    }

    /// The address of a node.
    pub fn addr(&self, node: u32) -> Option<IpAddr> {
        self.nodes.get(&node).copied()
    }

    /// The node that has an address.
    pub fn node(&self, addr: IpAddr) -> Option<u32> {
        self.nodes.iter().find(|(_, at)| **at == addr).map(|(node, _)| *node)
    }
}

/// What the lines so far said, each with the line's number.
#[derive(Default)]
struct ClustertabSeen {
    nodes: BTreeMap<u32, (IpAddr, usize)>,
    addrs: BTreeMap<IpAddr, (u32, usize)>,
}

impl ClustertabSeen {
    /// Takes one line, which starts at byte `start` of the file.
    fn line(&mut self, report: &mut ConfReport<'_>, start: usize, line: &str) {
        let mut fields = fields(line);
        let Some(id) = fields.next() else { return };
        if line[id.clone()].starts_with('#') {
            return;
        }
        let place = |field: &Span| start + field.start..start + field.end;
        let node = node_number(report, &line[id.clone()], &place(&id));
        let Some(field) = fields.next() else {
            let end = start + line.trim_end().len();
            report
                .error(&(end..end), format!("{} has no address", quoted(line[id].trim())))
                .help("a line is: node number, address, further fields");
            return;
        };
        let addr = match usable(&line[field.clone()]) {
            Ok(addr) => addr,
            Err(Unusable { message, help }) => {
                report.error(&place(&field), message).help_by(|| help);
                return;
            }
        };
        let Some(node) = node else { return };
        let number = report.line_of(start);
        if let Some((_, first)) = self.nodes.get(&node) {
            report
                .error(&place(&id), format!("node {node} stands here a second time"))
                .help(format!("it stands first on line {first}; keep one of them"));
            return;
        }
        if let Some((other, first)) = self.addrs.get(&addr) {
            report
                .error(&place(&field), format!("{addr} is already the address of node {other}"))
                .help(format!("see line {first}; every node has an address of its own"));
            return;
        }
        self.nodes.insert(node, (addr, number));
        self.addrs.insert(addr, (node, number));
    }
}

/// The fields of a line, as ranges of its bytes.
fn fields(line: &str) -> impl Iterator<Item = Span> {
    let mut at = 0;
    line.split([' ', '\t']).filter_map(move |field| {
        let span = at..at + field.len();
        at = span.end + 1;
        (!field.is_empty()).then_some(span)
    })
}

/// A node number from its text; reports what is wrong with it.
pub(super) fn node_number(report: &mut ConfReport<'_>, text: &str, span: &Span) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        report
            .error(span, format!("{} is not a node number", quoted(text)))
            .help("nodes are numbered in clustertab, from 1");
        return None;
    }
    match text.parse::<u32>() {
        Ok(0) => {
            report.error(span, "there is no node 0").help("node numbers start at 1");
            None
        }
        Ok(node) => Some(node),
        Err(_) => {
            report.error(span, format!("node number {} is above {}", quoted(text), u32::MAX));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let (clustertab, diagnostics) = Clustertab::parse(text, "clustertab");
        assert_eq!(clustertab, None);
        diagnostics.iter().map(|d| format!("{d}\n")).collect()
    }

    #[test]
    fn only_the_first_two_fields_matter() {
        let text = "\u{feff}# id ip mac\n\n1\t192.168.200.1 00:11:22:33:44:55 P g sda\r\n\
                    \t # more\n  2  fd00::2\n\n12 10.0.0.12 # trailing";
        let (clustertab, diagnostics) = Clustertab::parse(text, "clustertab");
        assert_eq!(diagnostics, []);
        let clustertab = clustertab.expect("no error");
        assert_eq!(clustertab.nodes.keys().copied().collect::<Vec<_>>(), [1, 2, 12]);
        let second = "fd00::2".parse().expect("an address");
        assert_eq!(clustertab.addr(2), Some(second));
        assert_eq!(clustertab.node(second), Some(2));
        assert_eq!(clustertab.addr(3), None);
    }

    #[test]
    fn every_fault_is_shown_where_it_stands() {
        let text = "1 192.168.200.1\n1\t192.168.200.2 mac\n3 192.168.200.1\n0 10.0.0.9\n\
                    two 10.0.0.8\n4\n5  10.0.0.x\n99999999999 10.0.0.7\n6 127.0.0.1\n";
        snapbox::assert_data_eq!(
            shown(text),
            snapbox::str![[r#"
clustertab:2:1: error: node 1 stands here a second time
1	192.168.200.2 mac
^
help: it stands first on line 1; keep one of them
clustertab:3:3: error: 192.168.200.1 is already the address of node 1
3 192.168.200.1
  ^~~~~~~~~~~~~
help: see line 1; every node has an address of its own
clustertab:4:1: error: there is no node 0
0 10.0.0.9
^
help: node numbers start at 1
clustertab:5:1: error: `two` is not a node number
two 10.0.0.8
^~~
help: nodes are numbered in clustertab, from 1
clustertab:6:2: error: `4` has no address
4
 ^
help: a line is: node number, address, further fields
clustertab:7:4: error: `10.0.0.x` is not an IP address
5  10.0.0.x
   ^~~~~~~~
clustertab:8:1: error: node number `99999999999` is above 4294967295
99999999999 10.0.0.7
^~~~~~~~~~~
clustertab:9:3: error: 127.0.0.1 is a loopback address: other machines cannot reach it
6 127.0.0.1
  ^~~~~~~~~

"#]]
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([0-9a-f.:# \t\r\n\u{feff}ä/-]{0,80}|\\PC*)") {
            let (clustertab, diagnostics) = Clustertab::parse(&text, "clustertab");
            let shown: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
            proptest::prop_assert_eq!(clustertab.is_none(), !shown.is_empty());
        }
    }
}
