//! `setport_weight`: flags port ranges, as OpenSSI's did.
//!
//! The three long options are OpenSSI's and behave as they did: the range is inclusive, nothing
//! is registered by the command itself, and success is silent. Everything else is ours.

use std::collections::BTreeMap;

use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Parser};
use serde::Serialize;

use super::rows::FlagRow;
use super::{FAILED, NodeOption, OK, Site, Streams, USAGE, cells, ports, table};
use crate::json;
use crate::ports::{FlagSet, PortFlag, port_range};
use crate::protocol::Protocol;
use crate::store::{Access, Interest, Scope};

/// The port of XDMCP, by which X terminals ask for a login.
const XDMCP: u16 = 177;

/// Flag a range of ports for balancing across the cluster.
///
/// A process that listens on a flagged port puts its node into the pool of the cluster's
/// virtual service for that port; when it stops, the node leaves. Flags are gone after a
/// reboot: put the command into a start-up script, or a `service` element into cvip.conf(5).
#[derive(Parser, Clone, Debug)]
#[command(
    name = "setport_weight",
    version,
    max_term_width = 100,
    group(ArgGroup::new("what").required(true).args(["weight", "delete", "list"])),
    after_help = "Examples:\n  \
      setport_weight --start-port=1 --end-port=80 --weight=1\n  \
      setport_weight --start-port=177 --end-port=177 --weight=1 --protocol=udp\n  \
      setport_weight --start-port=1 --end-port=80 --delete\n  \
      setport_weight --list"
)]
pub struct Args {
    /// First port of the range, 1 to 65535
    #[arg(long, value_name = "N", required_unless_present = "list", allow_negative_numbers = true)]
    start_port: Option<i64>,

    /// Last port of the range, inclusive
    #[arg(long, value_name = "M", required_unless_present = "list", allow_negative_numbers = true)]
    end_port: Option<i64>,

    /// Weight of this node on these ports, 0 to 65535; 0 quiesces
    #[arg(long, value_name = "W", allow_negative_numbers = true)]
    weight: Option<i64>,

    /// Transport protocol: tcp, udp, sctp
    #[arg(
        long,
        value_name = "PROTOCOL",
        default_value = "tcp",
        conflicts_with = "list",
        ignore_case = true,
        hide_possible_values = true,
        value_parser = PossibleValuesParser::new(Protocol::ALL.map(Protocol::name))
            .try_map(|word| word.parse::<Protocol>())
    )]
    protocol: Protocol,

    /// Unflag the range; a flag of the level below (cluster, cvip.conf) holds again
    #[arg(long)]
    delete: bool,

    /// Show the flags that hold on the node, nearest level first
    #[arg(long, conflicts_with_all = ["start_port", "end_port"])]
    list: bool,

    /// Print the flags, and after a change whether there was one, as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    node: NodeOption,

    /// Flag the range on every node instead
    #[arg(long, conflicts_with = "node")]
    cluster: bool,

    #[command(flatten)]
    site: Site,
}

/// What a change prints with `--json`.
#[derive(Debug, Serialize)]
struct FlagsReport {
    changed: bool,
    flags: Vec<FlagRow>,
}

/// Runs the program.
///
/// # Errors
/// The node is unknown, or the store cannot be read or written.
pub fn run(args: Args, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    streams.progress.begin(match args.list {
        true => "setport_weight: reading the store",
        false => "setport_weight: writing to the store",
    });
    if args.list {
        return list(&args, streams);
    }
    // clap has seen to it that both are there.
    let (start, end) = (args.start_port.unwrap_or(0), args.end_port.unwrap_or(0));
    let flag = match args.weight {
        Some(weight) => PortFlag::new(args.protocol, start, end, weight).map(Some),
        None => port_range(start, end).map(|_| None),
    };
    let flag = match flag {
        Ok(flag) => flag,
        Err(error) => {
            writeln!(streams.err, "setport_weight: {error}")?;
            return Ok(USAGE);
        }
    };
    let scope = match args.cluster {
        true => Scope::Cluster,
        false => Scope::Node(args.site.node(&args.node)?),
    };
    let known = args.site.known();
    if let (Scope::Node(node), Some(_)) = (scope, args.node.node) {
        known.node(node, [])?;
    }
    if let (Scope::Node(node), Some(conf)) = (scope, &known.conf)
        && args.node.node.is_some()
        && !conf.nodes().contains(&node)
    {
        writeln!(
            streams.err,
            "setport_weight: warning: cvip.conf does not name node {node}, so that the flag has no \
             effect yet"
        )?;
    }
    let (start, end) = port_range(start, end)?;
    let (mut found, mut changed, mut flags_now) = (true, true, Vec::new());
    let mut change = |flags: &mut FlagSet| {
        let before = flags.clone();
        match flag {
            Some(flag) => flags.set(flag),
            None => found = flags.remove(args.protocol, start, end),
        }
        changed = *flags != before;
        flags_now = flags.iter().copied().collect();
    };
    let fault = args
        .site
        .store(Access::Write, Interest::Orders)?
        .update_flags(scope, &mut change)
        .context("the flags were not changed")?;
    if let Some(fault) = fault {
        writeln!(streams.err, "setport_weight: started from no flags, for {fault}")?;
    }
    if args.protocol == Protocol::Tcp && flag.is_some() && (start, end) == (XDMCP, XDMCP) {
        writeln!(
            streams.err,
            "setport_weight: note: XDMCP on port {XDMCP} is UDP, and this flags TCP: for logins of \
             terminals give --protocol=udp"
        )?;
    }
    if !found {
        // Scripts repeat themselves: what was asked for is so.
        writeln!(
            streams.err,
            "setport_weight: {scope} has no flag in {} {start}-{end}: nothing to delete",
            args.protocol
        )?;
    }
    if args.json {
        let flags = flags_now.into_iter().map(|flag| FlagRow::stored(scope, flag)).collect();
        json::write(streams.out, FlagsReport { changed, flags })?;
    }
    Ok(OK)
}

fn list(args: &Args, streams: &mut Streams<'_>) -> anyhow::Result<u8> {
    let known = args.site.known();
    if let Some(problem) = &known.problem {
        writeln!(streams.err, "setport_weight: {problem}")?;
    }
    let (state, faults) = args.site.state()?;
    if let Some(node) = args.node.node {
        let flagged = state.flags.keys().filter_map(|scope| match scope {
            Scope::Node(node) => Some(*node),
            Scope::Cluster => None,
        });
        known.node(node, state.nodes.keys().copied().chain(flagged))?;
    }
    for fault in faults {
        writeln!(streams.err, "setport_weight: {fault}")?;
    }
    let mut rows = Vec::new();
    let mut scopes = vec![Scope::Cluster];
    if !args.cluster {
        scopes.insert(0, Scope::Node(args.site.node(&args.node)?));
    }
    for scope in scopes {
        rows.extend(state.flags_of(scope).iter().map(|flag| FlagRow::stored(scope, *flag)));
    }
    for cvip in known.conf.iter().flat_map(|conf| &conf.cvips) {
        rows.extend(cvip.flags().iter().map(|flag| FlagRow::configured(cvip.addr, *flag)));
    }
    // Without a configuration its flags are missing.
    let outcome = if known.conf.is_some() { OK } else { FAILED };
    if args.json {
        json::write(streams.out, BTreeMap::from([("flags", rows)]))?;
        return Ok(outcome);
    }
    let cells = rows.iter().map(|row| {
        let cvip = row.cvip.map_or("every".to_owned(), |cvip| cvip.to_string());
        cells![row.level(), row.flag.protocol, ports(row.flag), row.flag.weight, cvip]
    });
    let titles = ["Level", "Protocol", "Ports", "Weight", "CVIP"];
    writeln!(streams.out, "{}", table(titles, cells))?;
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::testing::run_with;
    use super::*;

    fn setport(dir: &Path, args: &[&str]) -> (u8, String, String) {
        let run_dir = format!("--run-dir={}", dir.display());
        let conf = format!("--conf={}", dir.join("none.conf").display());
        let tab = format!("--clustertab={}", dir.join("none.tab").display());
        let mut all = vec!["setport_weight", &run_dir, &conf, &tab];
        all.extend(args);
        run_with(&all, run)
    }

    fn flags(dir: &Path) -> String {
        setport(dir, &["--list", "--json", "--node=1"]).1
    }

    #[test]
    fn openssis_three_options_flag_a_range_in_silence() {
        let dir = tempfile::tempdir().unwrap();
        let args = ["--start-port=1", "--end-port=80", "--weight=1", "--node=1"];
        assert_eq!(setport(dir.path(), &args), (0, String::new(), String::new()));
        let listed: serde_json::Value = serde_json::from_str(&flags(dir.path())).unwrap();
        assert_eq!(
            listed["flags"],
            serde_json::json!([
                { "level": "node", "node": 1, "protocol": "tcp", "start": 1, "end": 80, "weight": 1 }
            ])
        );
    }

    #[test]
    fn openssis_line_for_xdmcp_says_that_it_is_udp_and_does_what_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let line = ["--start-port=177", "--end-port=177", "--weight=1", "--node=1"];
        let (status, out, err) = setport(dir.path(), &line);
        assert_eq!((status, out.as_str()), (0, ""));
        assert!(err.contains("--protocol=udp") && err.lines().count() == 1, "{err}");
        let listed: serde_json::Value = serde_json::from_str(&flags(dir.path())).unwrap();
        assert_eq!(listed["flags"][0]["protocol"], "tcp");
        for silent in [
            &["--start-port=177", "--end-port=177", "--weight=1", "--protocol=udp", "--node=1"][..],
            &["--start-port=1", "--end-port=1023", "--weight=1", "--node=1"],
            &["--start-port=177", "--end-port=177", "--delete", "--node=1"],
        ] {
            assert_eq!(setport(dir.path(), silent), (0, String::new(), String::new()));
        }
    }

    #[test]
    fn a_wrong_argument_is_one_line_and_status_2_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        setport(dir.path(), &["--start-port=1", "--end-port=80", "--weight=1", "--node=1"]);
        let before = flags(dir.path());
        for (args, says) in [
            (&["--start-port=81", "--end-port=80", "--weight=1"][..], "above"),
            (&["--start-port=0", "--end-port=80", "--weight=1"], "outside 1 to 65535"),
            (&["--start-port=1", "--end-port=65536", "--weight=1"], "outside 1 to 65535"),
            (&["--start-port=-1", "--end-port=80", "--weight=1"], "outside 1 to 65535"),
            (&["--start-port=1", "--end-port=80", "--weight=65536"], "outside 0 to 65535"),
            (&["--start-port=1", "--end-port=80", "--weight=-1"], "outside 0 to 65535"),
            (&["--start-port=x", "--end-port=80", "--weight=1"], "invalid"),
            (&["--start-port=1", "--end-port=80"], "required"),
            (&["--start-port=1", "--weight=1"], "--end-port"),
            (&["--start-port=1", "--end-port=80", "--weight=1", "--frob"], "--frob"),
            (&["--start-port=1", "--end-port=80", "--weight=1", "word"], "word"),
            (&["--start-port=1", "--end-port=80", "--weight=1", "--protocol=icmp"], "icmp"),
            (&["--start-port=1", "--end-port=80", "--weight=1", "--delete"], "--delete"),
            (&["--start-port=1", "--end-port=80", "--weight=1", "--cluster"], "--cluster"),
            (&["--json"], "required"),
            (&["--start-port=81", "--end-port=80", "--delete"], "above"),
            (&[], "required"),
        ] {
            let mut args = args.to_vec();
            args.push("--node=1");
            let (status, out, err) = setport(dir.path(), &args);
            assert_eq!((status, out.as_str()), (2, ""), "{args:?}: {err}");
            assert_eq!(err.lines().count(), 1, "{args:?}: {err}");
            assert!(err.contains(says), "{args:?}: {err}");
        }
        assert_eq!(flags(dir.path()), before);
    }

    #[test]
    fn deleting_unflags_the_range_and_says_if_there_was_none_and_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        setport(dir.path(), &["--start-port=1", "--end-port=80", "--weight=1", "--node=1"]);
        let delete = ["--start-port=20", "--end-port=80", "--delete", "--node=1"];
        assert_eq!(setport(dir.path(), &delete).0, 0);
        assert!(flags(dir.path()).contains("\"end\": 19"));
        let (status, _, err) = setport(dir.path(), &delete);
        assert_eq!(status, 0, "a script that repeats itself goes on");
        assert_eq!(err, "setport_weight: node 1 has no flag in tcp 20-80: nothing to delete\n");
    }

    #[test]
    fn a_change_tells_as_json_what_it_changed_and_what_stands_now() {
        let dir = tempfile::tempdir().unwrap();
        let set = ["--start-port=1", "--end-port=80", "--weight=1", "--node=1", "--json"];
        let delete = ["--start-port=20", "--end-port=80", "--delete", "--node=1", "--json"];
        for (args, changed, end) in
            [(&set, true, 80), (&set, false, 80), (&delete, true, 19), (&delete, false, 19)]
        {
            let (status, out, _) = setport(dir.path(), args);
            let told: serde_json::Value = serde_json::from_str(&out).unwrap();
            assert_eq!(status, 0);
            assert_eq!(
                told,
                serde_json::json!({ "schema": 1, "changed": changed, "flags": [
                    { "level": "node", "node": 1, "protocol": "tcp", "start": 1, "end": end,
                      "weight": 1 }
                ] })
            );
        }
    }

    #[test]
    fn a_host_that_is_no_node_is_told_to_name_one() {
        let dir = tempfile::tempdir().unwrap();
        let args = ["--start-port=1", "--end-port=80", "--weight=1"];
        let (status, _, err) = setport(dir.path(), &args);
        assert_eq!(status, 1);
        assert!(err.contains("--node=N"), "{err}");
    }

    #[test]
    fn a_node_that_is_not_known_is_refused_and_a_faulty_file_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let conf = "<cvips><routing>DR</routing><cvip><ip_addr>198.18.77.10</ip_addr>\
            <director_node><node_num>1</node_num><garp_interface>eth0</garp_interface>\
            </director_node><service><port>80</port></service></cvip></cvips>";
        let files = |conf: &str| {
            std::fs::write(dir.path().join("none.conf"), conf).unwrap();
            std::fs::write(dir.path().join("none.tab"), "1 198.18.77.1\n3 198.18.77.3\n").unwrap();
        };
        files(conf);
        for args in [
            &["--list", "--node=77"][..],
            &["--start-port=80", "--end-port=80", "--weight=1", "--node=77"],
            &["--start-port=80", "--end-port=80", "--delete", "--node=77"],
        ] {
            let (status, out, err) = setport(dir.path(), args);
            assert_eq!((status, out.as_str()), (1, ""), "{args:?}");
            assert!(err.contains("no node 77") && err.contains("1, 3"), "{args:?}: {err}");
        }
        let (status, out, err) = setport(dir.path(), &["--list", "--cluster"]);
        assert_eq!((status, err.as_str()), (0, ""));
        assert!(out.contains("198.18.77.10"), "{out}");
        files("<cvips>");
        let (status, _, err) = setport(dir.path(), &["--list", "--cluster"]);
        assert_eq!((status, err.lines().count()), (1, 1), "{err}");
        assert!(err.contains("none.conf:1:") && err.contains("not shown"), "{err}");
    }

    #[test]
    fn the_cluster_s_flags_stand_beside_the_node_s() {
        let dir = tempfile::tempdir().unwrap();
        let args = ["--start-port=443", "--end-port=443", "--weight=2", "--cluster"];
        assert_eq!(setport(dir.path(), &args).0, 0);
        let (_, table, _) = setport(dir.path(), &["--list", "--node=9"]);
        assert!(table.contains("cluster") && table.contains("443"), "{table}");
    }
}
