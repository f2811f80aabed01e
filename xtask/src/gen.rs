//! `cargo xtask gen`: man pages and completions from the option tables of the programs.
//!
//! They are committed; a test below says when they are stale.

mod completions;
mod ipvsadm;
mod page;
mod programs;
mod roff;
mod schema;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::build;
use completions::{Offers, Shell};

/// Write man pages and completions anew from the option tables
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing; fail if a file is not what it would be
    #[arg(long)]
    check: bool,
}

/// Every generated file and its content, by its path from the project's root.
pub(crate) fn files() -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut offers = vec![ipvsadm::offers()];
    for mut command in programs::programs() {
        command.build();
        offers.push(Offers::of(&command));
    }
    for program in &offers {
        for shell in Shell::ALL {
            let text = completions::script(program, shell);
            files.insert(shell.file(&program.names[0]).into(), text.into_bytes());
        }
    }
    for (page, program, command) in programs::commands() {
        let man = page::man_page(&command, &page, &program)?;
        files.insert(format!("man/{page}.8").into(), man.into_bytes());
    }
    files.insert("man/ipvsadm-rs.8".into(), ipvsadm::man_page().into_bytes());
    Ok(files)
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
    use super::*;

    #[test]
    fn the_committed_man_pages_and_completions_are_what_the_option_tables_say() {
        let stale = stale(build::root()).unwrap();
        assert!(stale.is_empty(), "stale: {stale:?}; run `cargo xtask gen`");
    }
}
