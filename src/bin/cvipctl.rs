//! The program `cvipctl`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cvip::entry_points::cvipctl()
}
