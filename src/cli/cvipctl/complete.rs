//! `cvipctl complete`: the words that shells offer where a node or a port of one is typed.
//!
//! A line for each: the word, a tab, and what it is. Faults are those of every command; the
//! shells do not show them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use clap::ValueEnum;

use super::super::{KnownNode, OK, Site, Streams, harmless};
use super::drain::{DrainArgument, served};
use crate::store::{self, Access, Interest, StoreState};

/// For how long a server of etcd is waited for: a person does.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(clap::Args, Clone, Debug)]
pub(super) struct Args {
    /// What is typed
    kind: WordKind,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum WordKind {
    /// The nodes
    Nodes,
    /// The nodes, and the ports that they serve
    Targets,
    /// What is drained
    Drained,
}

pub(super) fn run(args: &Args, site: &Site, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    let known = site.known();
    let words = match args.kind {
        WordKind::Nodes => words_of_nodes(&known),
        // The configuration tells static services without the store.
        WordKind::Targets => words_of_targets(&known, &state(site).unwrap_or_default()),
        WordKind::Drained => words_of_drains(&state(site)?),
    };
    for (word, about) in words {
        // Reasons are any operator's words, and this goes to a terminal.
        writeln!(streams.out, "{word}\t{}", harmless(&about).replace(['\n', '\t'], " "))?;
    }
    Ok(OK)
}

/// What the store says, without waiting for it as long as a command does that needs it.
fn state(site: &Site) -> anyhow::Result<StoreState> {
    let mut settings = site.settings()?;
    settings.etcd.timeout = settings.etcd.timeout.min(PATIENCE);
    let mut store = store::open(&settings, &site.run_dir, Access::Read, Interest::All)?;
    store.refresh()?;
    Ok(store.state().clone())
}

/// Every node of the files, with its address.
fn nodes(known: &KnownNode) -> BTreeMap<u32, Option<IpAddr>> {
    let cvips = known.conf.iter().flat_map(|conf| &conf.cvips);
    let servers = cvips.flat_map(|cvip| &cvip.real_servers);
    let mut nodes: BTreeMap<u32, Option<IpAddr>> =
        servers.map(|server| (server.node, Some(server.addr))).collect();
    for node in known.conf.iter().flat_map(|conf| conf.nodes()) {
        nodes.entry(node).or_default();
    }
    nodes.extend(known.clustertab.nodes.iter().map(|(node, addr)| (*node, Some(*addr))));
    nodes
}

fn words_of_nodes(known: &KnownNode) -> Vec<(String, String)> {
    let word = |(node, addr): (u32, Option<IpAddr>)| {
        (node.to_string(), addr.map_or_else(String::new, |addr| addr.to_string()))
    };
    nodes(known).into_iter().map(word).collect()
}

fn words_of_targets(known: &KnownNode, state: &StoreState) -> Vec<(String, String)> {
    let mut words = words_of_nodes(known);
    let Some(conf) = &known.conf else { return words };
    for node in nodes(known).into_keys() {
        for service in served(node, conf, state) {
            let port = Some((service.port, Some(service.protocol)));
            let word = DrainArgument { node, port }.to_string();
            if !words.iter().any(|(known, _)| *known == word) {
                words.push((word, format!("of {}", service.cvip)));
            }
        }
    }
    words
}

fn words_of_drains(state: &StoreState) -> Vec<(String, String)> {
    let drains = state.drains.iter().map(|(target, order)| {
        let port = target.port.map(|(protocol, port)| (port, Some(protocol)));
        let reason = order.reason.clone().unwrap_or_else(|| format!("by {}", order.by));
        (DrainArgument { node: target.node, port }.to_string(), reason)
    });
    drains.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::super::testing::run_with;
    use super::super::run;

    const CONF: &str = "<cvips><routing>DR</routing><cvip><ip_addr>198.18.77.10</ip_addr>\
        <director_node><node_num>1</node_num><garp_interface>eth0</garp_interface>\
        </director_node><real_server_node><node_num>2</node_num></real_server_node>\
        <service><protocol>udp</protocol><port>53</port><registration>static</registration>\
        </service></cvip></cvips>";

    #[test]
    fn nodes_ports_and_drains_are_offered_each_with_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name).display().to_string();
        fs::write(file("cvip.conf"), CONF).unwrap();
        fs::write(file("clustertab"), "1 198.18.77.1\n2 198.18.77.2\n3 198.18.77.3\n").unwrap();
        let cvipctl = |words: &[&str]| {
            let options = [
                format!("--conf={}", file("cvip.conf")),
                format!("--clustertab={}", file("clustertab")),
                format!("--run-dir={}", file("run")),
                "--store=local".to_owned(),
            ];
            let words = ["cvipctl"].iter().chain(words).copied();
            let words: Vec<&str> = words.chain(options.iter().map(String::as_str)).collect();
            let (status, out, err) = run_with(&words, run);
            assert_eq!(status, 0, "{err}");
            out
        };
        assert_eq!(
            cvipctl(&["complete", "nodes"]),
            "1\t198.18.77.1\n2\t198.18.77.2\n3\t198.18.77.3\n"
        );
        assert_eq!(
            cvipctl(&["complete", "targets"]),
            "1\t198.18.77.1\n2\t198.18.77.2\n3\t198.18.77.3\n\
             1:53/udp\tof 198.18.77.10\n2:53/udp\tof 198.18.77.10\n"
        );
        assert_eq!(cvipctl(&["complete", "drained"]), "");
        cvipctl(&["drain", "2:53/udp", "--reason=new disk"]);
        assert_eq!(cvipctl(&["complete", "drained"]), "2:53/udp\tnew disk\n");
    }
}
