//! The program `cvipd`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cvip::entry_points::cvipd()
}
