//! `cargo xtask gen`: man pages and completions from the option tables of the programs.
//!
//! They are committed; a test below says when they are stale.

mod ipvsadm;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use cvip::cli::{cvipctl, cvipd, setport_weight};

use crate::build;

/// Write man pages and completions anew from the option tables
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail if a file is not what it would be
    #[arg(long)]
    check: bool,
}

/// The shells that completions are made for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// What every page says besides its options.
const FILES: &str = r#".SH FILES
.TP
.I /etc/cvip.conf
The cluster's configuration,
.BR cvip.conf (5).
.TP
.I /etc/clustertab
Node numbers and addresses,
.BR clustertab (5).
.TP
.I /etc/cvip/cvip.toml
Which store holds the cluster together,
.BR cvip.toml (5).
.TP
.I /run/cvip
The embedded store and cvipd's control sockets; gone after a reboot.
What is deleted there cvipd makes again; what it cannot write there stays in force, is shown by
.BR cvipctl\-status (8),
and is written when that is possible.
"#;

const JSON: &str = r#".SH JSON
A document is one object. Its member
.I schema
is the version of the documents, 1; it grows when a member changes its meaning or goes away, not when one is added.
Units stand in the names of members, times are RFC 3339 in UTC.
The sources have a JSON Schema for each document in docs/json.
"#;

const SEE_ALSO: &str = r#".SH SEE ALSO
.BR cvipd (8),
.BR cvipctl (8),
.BR setport_weight (8),
.BR ipvsadm-rs (8),
.BR cvip.conf (5),
.BR cvip.toml (5),
.BR clustertab (5)
"#;

fn exit_status(program: &str) -> &'static str {
    match program {
        "cvipctl" => {
            ".SH EXIT STATUS\n0 done as asked; 1 it failed, or `check' found an error, or `diff' \
             a difference, or the wait of `drain' was interrupted, or what is shown is incomplete; \
             2 the command line makes no sense, and nothing was done.\n.SH FAULTY FILES\nWhere \
             cvip.conf or clustertab has an error, a running cvipd goes on with the former \
             configuration. Commands that only look (`status', `events', `metrics', `diff', \
             `doctor'), and `drain', then ask it for that one, and say so in one line; where no \
             cvipd answers, what only the configuration tells is left out, and the exit status is 1.\n"
        }
        "cvipd" => {
            ".SH EXIT STATUS\n0 it was told to end; 1 it could not start, or had to stop; 2 the \
             command line makes no sense.\n.SH SIGNALS\n.TP\n.B SIGHUP\nReads the configuration \
             again; one with faults is not taken.\n.TP\n.BR SIGTERM ,\\  SIGINT\nEnds. An active \
             director hands over first, if another lives; nothing else changes in the kernel.\n\
             .SH LOG\nThe log goes to standard error, a line for each event, with the time in UTC. \
             Where journald reads it (JOURNAL_STREAM names the stream), each line has a priority \
             in its place, so that `journalctl \\-p err \\-u cvipd' shows errors alone.\n"
        }
        _ => {
            ".SH EXIT STATUS\n0 done as asked; 1 it failed; 2 the command line makes no sense, and \
             nothing was changed.\n"
        }
    }
}

/// Every generated file and its content, by its path from the project's root.
pub(crate) fn files() -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for command in
        [setport_weight::Args::command(), cvipctl::Args::command(), cvipd::Args::command()]
    {
        let name = command.get_name().to_owned();
        for shell in SHELLS {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut command.clone(), &name, &mut text);
            files.insert(completions_file(&name, shell), text);
        }
        let mut built = command.clone();
        built.build();
        for subcommand in built.get_subcommands().filter(|sub| sub.get_name() != "help") {
            // clap names it `cvipctl-check` for its page, `cvipctl check` for its usage.
            let page = format!("{name}-{}", subcommand.get_name());
            let man = page_of(subcommand.clone(), &page, &name)?;
            files.insert(format!("man/{page}.8").into(), man);
        }
        files.insert(format!("man/{name}.8").into(), page_of(command, &name, &name)?);
    }
    files.insert("man/ipvsadm-rs.8".into(), ipvsadm::man_page().into_bytes());
    for shell in SHELLS {
        let file = completions_file("ipvsadm-rs", shell);
        files.insert(file, ipvsadm::completions(shell).into_bytes());
    }
    Ok(files)
}

fn completions_file(program: &str, shell: Shell) -> PathBuf {
    match shell {
        Shell::Bash => format!("completions/{program}.bash"),
        Shell::Zsh => format!("completions/_{program}"),
        _ => format!("completions/{program}.fish"),
    }
    .into()
}

fn page_of(command: Command, page: &str, program: &str) -> Result<Vec<u8>> {
    let leaked: &'static str = Box::leak(page.to_owned().into_boxed_str());
    let has_json = command.get_arguments().any(|argument| argument.get_id() == "json");
    let man = Man::new(command.name(leaked).disable_help_subcommand(true))
        .section("8")
        .manual("cvip")
        .source(concat!("cvip ", env!("CARGO_PKG_VERSION")))
        .date("");
    let mut text = Vec::new();
    man.render(&mut text)?;
    if has_json {
        text.extend_from_slice(JSON.as_bytes());
    }
    text.extend_from_slice(exit_status(program).as_bytes());
    text.extend_from_slice(FILES.as_bytes());
    text.extend_from_slice(SEE_ALSO.as_bytes());
    Ok(text)
}

/// Writes the files, or compares them.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let root = build::root();
    let stale = stale(root)?;
    if arguments.check {
        anyhow::ensure!(stale.is_empty(), "stale: {}; run `cargo xtask gen`", shown(&stale));
        return Ok(ExitCode::SUCCESS);
    }
    for (path, text) in files()? {
        if stale.contains(&path) {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap_or(root))?;
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            println!("{}", path.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn stale(root: &Path) -> Result<Vec<PathBuf>> {
    let differs =
        |(path, text): &(PathBuf, Vec<u8>)| fs::read(root.join(path)).ok().as_ref() != Some(text);
    Ok(files()?.into_iter().filter(differs).map(|(path, _)| path).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_man_pages_and_completions_are_what_the_option_tables_say() {
        let stale = super::stale(crate::build::root()).unwrap();
        assert!(stale.is_empty(), "stale: {stale:?}; run `cargo xtask gen`");
    }
}
