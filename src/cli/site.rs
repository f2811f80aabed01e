//! Where things stand, and which node this is: the same for all programs.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;

use crate::conf::{self, Clustertab, Conf, Diagnostic, DiagnosticSeverity};
use crate::daemon::{self, ControlRequest, Response};
use crate::settings::{Overrides, Settings};
use crate::store::{self, Access, Interest, Store, StoreState};
use crate::{net, node};

/// Files and folders that every program uses.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
#[command(next_help_heading = "Files")]
pub struct Site {
    /// The cluster's configuration, cvip.conf(5)
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "CVIP_CONF",
        hide_env_values = true,
        default_value = conf::CONF_PATH,
        value_hint = clap::ValueHint::FilePath
    )]
    pub conf: PathBuf,

    /// Node numbers and addresses, clustertab(5)
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "CVIP_CLUSTERTAB",
        hide_env_values = true,
        default_value = conf::CLUSTERTAB_PATH,
        value_hint = clap::ValueHint::FilePath
    )]
    pub clustertab: PathBuf,

    /// The folder of the store and of cvipd's control sockets
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "CVIP_RUN_DIR",
        hide_env_values = true,
        default_value = "/run/cvip",
        value_hint = clap::ValueHint::DirPath
    )]
    pub run_dir: PathBuf,

    /// Which store, and how to reach it.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// Which node a command is about.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct NodeOption {
    /// The node, by its number in clustertab [default: the one whose address this host has]
    #[arg(long, value_name = "N", env = "CVIP_NODE", hide_env_values = true,
          value_parser = node_number)]
    pub node: Option<u32>,
}

/// A node's number as it is typed.
pub(super) fn node_number(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(node) if node > 0 => Ok(node),
        _ => Err(format!("`{text}` is no node: it is a number of clustertab, from 1")),
    }
}

/// The configuration as commands know it that only look: that of the files, or, where those have
/// an error, the former one, by which a running cvipd goes.
#[derive(Clone, Debug)]
pub struct KnownNode {
    /// cvip.conf; none if it is not known.
    pub conf: Option<Conf>,
    /// clustertab; empty if it is not known.
    pub clustertab: Clustertab,
    /// What is wrong with the files, or odd in them.
    pub diagnostics: Vec<Diagnostic>,
    /// The files are faulty: which fault is the first, and what is shown in their place.
    pub problem: Option<String>,
}

impl KnownNode {
    /// Whose configuration this is, in one word.
    pub fn origin(&self) -> &'static str {
        match (&self.conf, &self.problem) {
            (None, _) => "unknown",
            (Some(_), None) => "file",
            (Some(_), Some(_)) => "cvipd",
        }
    }

    /// Refuses a node that is not known. `recorded` are the nodes that the store knows.
    ///
    /// # Errors
    /// Neither the files nor the store name the node.
    pub fn node(&self, node: u32, recorded: impl IntoIterator<Item = u32>) -> anyhow::Result<()> {
        let mut known: BTreeSet<u32> = recorded.into_iter().collect();
        known.extend(self.clustertab.nodes.keys());
        known.extend(self.conf.iter().flat_map(Conf::nodes));
        // Where there is no configuration at all, any number may be right.
        if known.contains(&node) || (self.conf.is_none() && self.clustertab.nodes.is_empty()) {
            return Ok(());
        }
        let known: Vec<String> = known.iter().map(ToString::to_string).collect();
        bail!(
            "there is no node {node}: clustertab, cvip.conf and the store know {}",
            known.join(", ")
        )
    }
}

/// Every fault, as an error of several lines shows them.
pub(super) fn all_faults(diagnostics: &[Diagnostic]) -> String {
    let faults: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    format!("{}\n", faults.join("\n"))
}

/// One line: the first fault of the files, and what follows from it for what is shown.
fn problem(diagnostics: &[Diagnostic], instead: Option<u32>) -> String {
    let mut errors = diagnostics.iter().filter(|d| d.severity == DiagnosticSeverity::Error);
    let first = errors.next().map_or_else(String::new, |first| {
        let place = first.place.as_ref();
        let place = place.map_or_else(String::new, |at| format!(":{}:{}", at.line, at.column));
        format!("{}{place}: {}", first.path, first.message)
    });
    let more = match errors.count() {
        0 => String::new(),
        1 => " (and 1 more fault)".to_owned(),
        many => format!(" (and {many} more faults)"),
    };
    let then = match instead {
        Some(node) => format!(
            "the file is not taken: cvipd of node {node} runs the former configuration, which is \
             what is shown"
        ),
        None => "the file is not taken, and no cvipd here tells which configuration it runs: what \
                 cvip.conf says is not shown"
            .to_owned(),
    };
    format!("{first}{more}; {then} (`cvipctl check` shows every fault)")
}

impl Site {
    /// The configuration for commands that only look: where the files have an error, a running
    /// cvipd is asked for the one by which it goes, this host's own before others that share the
    /// folder.
    pub fn known(&self) -> KnownNode {
        let conf::Loaded { conf, clustertab, diagnostics, .. } = self.load();
        if conf.is_some() {
            let clustertab = clustertab.unwrap_or_default();
            return KnownNode { conf, clustertab, diagnostics, problem: None };
        }
        match self.running() {
            Some((node, conf, clustertab)) => KnownNode {
                problem: Some(problem(&diagnostics, Some(node))),
                conf: Some(conf),
                clustertab,
                diagnostics,
            },
            None => KnownNode {
                problem: Some(problem(&diagnostics, None)),
                conf: None,
                clustertab: clustertab.unwrap_or_default(),
                diagnostics,
            },
        }
    }

    /// What a running cvipd goes by, and which node it is.
    fn running(&self) -> Option<(u32, Conf, Clustertab)> {
        let local = net::local_addresses().unwrap_or_default();
        let mut found = None;
        for node in daemon::answering(&self.run_dir) {
            let answer = daemon::ask(&self.run_dir, node, ControlRequest::Configuration);
            let Ok(Response::Configuration(sources)) = answer else { continue };
            let Some((conf, clustertab)) = sources.parse() else { continue };
            let is_own = node::identify(&clustertab, Some(&conf), &local) == Ok(node);
            if is_own || found.is_none() {
                found = Some((node, conf, clustertab));
            }
            if is_own {
                break;
            }
        }
        found
    }

    /// Reads and checks the configuration.
    pub fn load(&self) -> conf::Loaded {
        conf::load(&self.conf, &self.clustertab)
    }

    /// The configuration, or all of its faults as the error.
    pub fn conf(&self) -> anyhow::Result<Conf> {
        let loaded = self.load();
        loaded.conf.ok_or_else(|| anyhow::anyhow!("{}", all_faults(&loaded.diagnostics)))
    }

    /// Which store, and how to reach it.
    pub fn settings(&self) -> anyhow::Result<Settings> {
        Ok(Settings::load(&self.overrides)?)
    }

    /// The store, whichever it is.
    pub fn store(&self, access: Access, interest: Interest) -> anyhow::Result<Box<dyn Store>> {
        Ok(store::open(&self.settings()?, &self.run_dir, access, interest)?)
    }

    /// What the store says, and what of it cannot be read.
    pub fn state(&self) -> anyhow::Result<(StoreState, Vec<String>)> {
        let mut store = self.store(Access::Read, Interest::All)?;
        let refreshed = store.refresh()?;
        let faults = refreshed.faults.iter().map(ToString::to_string).collect();
        Ok((store.state().clone(), faults))
    }

    /// The same, and refuses a number that neither the files nor a cvipd of this host knows.
    pub fn known_node(&self, option: &NodeOption) -> anyhow::Result<u32> {
        let node = self.node(option)?;
        self.known().node(node, daemon::answering(&self.run_dir))?;
        Ok(node)
    }

    /// The node that is meant: the one that was named, or the one whose address this host has.
    pub fn node(&self, option: &NodeOption) -> anyhow::Result<u32> {
        if let Some(node) = option.node {
            return Ok(node);
        }
        let known = self.known();
        let local = net::local_addresses().context("cannot list this host's addresses")?;
        Ok(node::identify(&known.clustertab, known.conf.as_ref(), &local)?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use super::*;

    const CONF: &str = "<cvips><routing>DR</routing><cvip><ip_addr>198.18.77.10</ip_addr>\
        <director_node><node_num>1</node_num><garp_interface>eth0</garp_interface>\
        </director_node><real_server_node><node_num>2</node_num></real_server_node></cvip></cvips>";
    const TAB: &str = "1 198.18.77.1\n2 198.18.77.2\n";

    fn site(dir: &Path, conf: &str, clustertab: &str) -> Site {
        fs::write(dir.join("cvip.conf"), conf).unwrap();
        fs::write(dir.join("clustertab"), clustertab).unwrap();
        #[derive(clap::Parser)]
        struct Only {
            #[command(flatten)]
            site: Site,
        }
        let option = |name: &str, file: &str| format!("--{name}={}", dir.join(file).display());
        let words = [option("conf", "cvip.conf"), option("clustertab", "clustertab")];
        let all = ["x".to_owned(), option("run-dir", ".")].into_iter().chain(words);
        <Only as clap::Parser>::try_parse_from(all).unwrap().site
    }

    /// A cvipd that answers one question with the configuration by which it goes.
    fn cvipd(dir: &Path, node: u32) -> std::thread::JoinHandle<String> {
        let listener = UnixListener::bind(daemon::socket_path(dir, node)).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = String::new();
            BufReader::new(&stream).read_line(&mut asked).unwrap();
            let sources = conf::Sources { conf: CONF.to_owned(), clustertab: TAB.to_owned() };
            let answer = Response::Configuration(Box::new(sources));
            writeln!(stream, "{}", serde_json::to_string(&answer).unwrap()).unwrap();
            asked
        })
    }

    #[test]
    fn faulty_files_hide_nothing_that_a_running_cvipd_knows() {
        for (conf, tab, first) in [
            ("<cvips><routing>", TAB, "cvip.conf:1:17: "),
            (CONF, "1 nowhere\n", "clustertab:1:3: "),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let site = site(dir.path(), conf, tab);
            let alone = site.known();
            assert_eq!((alone.origin(), alone.conf.is_none()), ("unknown", true));
            let problem = alone.problem.unwrap();
            assert!(problem.contains(first) && problem.contains("is not shown"), "{problem}");
            assert!(!problem.contains('\n'), "one line: {problem}");

            let answers = cvipd(dir.path(), 2);
            let known = site.known();
            assert_eq!(answers.join().unwrap(), "\"configuration\"\n");
            assert_eq!(known.origin(), "cvipd");
            assert_eq!(known.conf.as_ref().map(Conf::nodes), Some(vec![1, 2]));
            assert_eq!(known.clustertab.nodes.len(), 2);
            let problem = known.problem.unwrap();
            assert!(problem.contains(first) && problem.contains("cvipd of node 2"), "{problem}");
        }
    }

    #[test]
    fn a_good_file_is_what_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let known = site(dir.path(), CONF, TAB).known();
        assert_eq!((known.origin(), known.problem.as_deref()), ("file", None));
        assert!(known.node(2, []).is_ok() && known.node(9, [9]).is_ok());
        let refused = known.node(7, []).unwrap_err().to_string();
        assert!(refused.contains("no node 7") && refused.contains("1, 2"), "{refused}");
    }
}
