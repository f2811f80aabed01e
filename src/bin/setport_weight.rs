//! The program `setport_weight`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cvip::entry_points::setport_weight()
}
