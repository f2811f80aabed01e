//! The program `cvipd`: see [`cvip::cli::cvipd`].

use std::process::ExitCode;

use cvip::cli::{self, cvipd};

fn main() -> ExitCode {
    cli::program(std::env::args_os(), cvipd::run)
}
