//! The program `setport_weight`: see [`cvip::cli::setport_weight`].

use std::process::ExitCode;

use cvip::cli::{self, setport_weight};

fn main() -> ExitCode {
    cli::program(std::env::args_os(), setport_weight::run)
}
