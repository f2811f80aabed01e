//! The program `cvipd`: see [`cvip::cli::cvipd`].

use std::io;
use std::process::ExitCode;

use cvip::cli::{self, Streams, cvipd};

fn main() -> ExitCode {
    let (mut out, mut err) = (io::stdout().lock(), cli::log::errors());
    let mut streams = Streams { out: &mut out, err: &mut *err };
    ExitCode::from(cli::main(std::env::args_os(), &mut streams, cvipd::run))
}
