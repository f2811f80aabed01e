//! What nodes are called: the host names that hosts(5) gives their addresses. Nothing is asked of
//! a name server, which may be what has failed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use crate::conf::{Clustertab, Conf};
use crate::files;

/// No file of host names is read beyond this, in bytes.
const HOSTS_CAP: u64 = 4 << 20;

/// The host names of nodes, each of one node only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli::cvipctl) struct NodeNames(BTreeMap<u32, String>);

impl NodeNames {
    /// By this host's file; none where it cannot be read.
    pub(in crate::cli::cvipctl) fn read(
        path: &Path,
        clustertab: &Clustertab,
        conf: Option<&Conf>,
    ) -> NodeNames {
        let hosts = files::read_text(path, HOSTS_CAP).unwrap_or_default();
        NodeNames::of(&hosts, clustertab, conf)
    }

    /// By the text of such a file: clustertab's address counts before that of a real server.
    pub(super) fn of(hosts: &str, clustertab: &Clustertab, conf: Option<&Conf>) -> NodeNames {
        let named = names(hosts);
        let servers = conf.into_iter().flat_map(|conf| &conf.cvips).flat_map(|c| &c.real_servers);
        let of_servers = servers.map(|server| (server.node, server.addr));
        let mut names: BTreeMap<u32, String> = BTreeMap::new();
        for (node, addr) in clustertab.nodes.iter().map(|(n, a)| (*n, *a)).chain(of_servers) {
            if let Some(name) = named.get(&addr) {
                names.entry(node).or_insert_with(|| (*name).to_owned());
            }
        }
        // A name of two nodes tells neither.
        let mut seen = BTreeSet::new();
        let doubled: BTreeSet<String> =
            names.values().filter(|name| !seen.insert(name.as_str())).cloned().collect();
        names.retain(|_, name| !doubled.contains(name));
        NodeNames(names)
    }

    /// The host name of a node.
    pub(in crate::cli::cvipctl) fn name(&self, node: u32) -> Option<&str> {
        self.0.get(&node).map(String::as_str)
    }

    /// What a node is called: its host name, or `node 3`.
    pub(in crate::cli::cvipctl) fn called(&self, node: u32) -> String {
        self.name(node).map_or_else(|| format!("node {node}"), str::to_owned)
    }

    /// The same, with its number in any case: `node 3 (web)`.
    pub(in crate::cli::cvipctl) fn numbered(&self, node: u32) -> String {
        match self.name(node) {
            Some(name) => format!("node {node} ({name})"),
            None => format!("node {node}"),
        }
    }

    /// A subject of a finding, such as `node 3`, with the name of the node.
    pub(in crate::cli::cvipctl) fn subject(&self, subject: &str) -> String {
        let node = subject.strip_prefix("node ").and_then(|number| number.parse().ok());
        node.map_or_else(|| subject.to_owned(), |node| self.numbered(node))
    }

    /// The same in few words: a node as it is called, of a file its name alone.
    pub(in crate::cli::cvipctl) fn short_subject(&self, subject: &str) -> String {
        let node = subject.strip_prefix("node ").and_then(|number| number.parse().ok());
        match (node, subject.rsplit('/').next().filter(|_| subject.starts_with('/'))) {
            (Some(node), _) => self.called(node),
            (None, Some(file)) => file.to_owned(),
            (None, None) => subject.to_owned(),
        }
    }
}

/// The first name of each address.
fn names(hosts: &str) -> BTreeMap<IpAddr, &str> {
    let mut names = BTreeMap::new();
    for line in hosts.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let addr = words.next().and_then(|addr| addr.parse::<IpAddr>().ok());
        if let (Some(addr), Some(name)) = (addr, words.next()) {
            names.entry(addr).or_insert(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_the_first_name_of_its_address_unless_another_has_it_too() {
        let addr = |text: &str| text.parse().unwrap();
        let nodes = [(1, addr("10.0.0.1")), (2, addr("10.0.0.2")), (3, addr("2001:db8::3"))];
        let mut clustertab = Clustertab { nodes: nodes.into() };
        let hosts = "127.0.0.1 localhost\n10.0.0.1\talpha a.example # the first\n\
                     nonsense x\n#10.0.0.2 old\n10.0.0.2 beta\n2001:db8::3 gamma\n10.0.0.4 alpha\n";
        let names = NodeNames::of(hosts, &clustertab, None);
        assert_eq!([1, 2, 3].map(|node| names.called(node)), ["alpha", "beta", "gamma"]);
        assert_eq!(names.called(4), "node 4");
        assert_eq!(names.subject("node 2"), "node 2 (beta)");
        assert_eq!(names.subject("CVIP 10.0.0.9"), "CVIP 10.0.0.9");
        clustertab.nodes.insert(4, addr("10.0.0.4"));
        let names = NodeNames::of(hosts, &clustertab, None);
        assert_eq!((names.name(1), names.name(2)), (None, Some("beta")));
    }
}
