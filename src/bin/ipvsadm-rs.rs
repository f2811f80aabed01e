//! The program `ipvsadm-rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cvip::entry_points::ipvsadm_rs()
}
