//! The program `cvipctl`: see [`cvip::cli::cvipctl`].

use std::process::ExitCode;

use cvip::cli::{self, cvipctl};

fn main() -> ExitCode {
    cli::program(std::env::args_os(), cvipctl::run)
}
