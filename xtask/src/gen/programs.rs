//! The programs whose command lines clap parses, and their commands.

use clap::{Command, CommandFactory};
use cvip::cli::{cvipctl, cvipd, setport_weight};

/// The programs that clap parses.
pub(super) fn programs() -> [Command; 3] {
    [setport_weight::Args::command(), cvipctl::Args::command(), cvipd::Args::command()]
}

/// The programs and their commands as clap builds them: the name of the page, and the program's.
pub(super) fn commands() -> Vec<(String, String, Command)> {
    let mut all = Vec::new();
    for mut command in programs() {
        command.build();
        let program = command.get_name().to_owned();
        let shown = |sub: &&Command| sub.get_name() != "help" && !sub.is_hide_set();
        all.extend(
            command
                .get_subcommands()
                .filter(shown)
                .map(|sub| (format!("{program}-{}", sub.get_name()), program.clone(), sub.clone())),
        );
        all.push((program.clone(), program, command));
    }
    all
}
