//! The program `cvipctl`: see [`cvip::cli::cvipctl`].

use std::io;
use std::process::ExitCode;

use cvip::cli::{self, Streams, cvipctl};

fn main() -> ExitCode {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr());
    let mut streams = Streams { out: &mut out, err: &mut err };
    ExitCode::from(cli::main(std::env::args_os(), &mut streams, cvipctl::run))
}
