//! The program `cvipd`: see [`cvip::cli::cvipd`].

use std::process::ExitCode;

use cvip::cli::{self, cvipd};
use cvip::daemon::HeldSignals;

fn main() -> ExitCode {
    let signals = HeldSignals::hold();
    cli::program(std::env::args_os(), |args, streams| cvipd::run(args, signals, streams))
}
