//! ipvsadm's drop-in; as `ipvsadm-save` and `ipvsadm-restore`, theirs. The program itself is
//! [`cvip::ipvsadm::run()`].

use std::env;
use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal, LineWriter, Write};
use std::process::ExitCode;

use cvip::ipvs::Client;
use cvip::ipvsadm::names::SystemNames;
use cvip::ipvsadm::watch::SystemClock;
use cvip::ipvsadm::{Call, ToolStreams, run};
use cvip::output::StandardOutput;

/// How much of a listing is written at a time, in bytes.
const OUTPUT: usize = 32 * 1024;

fn main() -> ExitCode {
    let mut words = env::args_os();
    let program = words.next().unwrap_or_else(|| OsString::from("ipvsadm-rs"));
    let words: Vec<OsString> = words.collect();
    // popt looks for both, and for nothing in them.
    let posix =
        ["POSIXLY_CORRECT", "POSIX_ME_HARDER"].into_iter().any(|v| env::var_os(v).is_some());
    let mut err = io::stderr().lock();
    let output = match StandardOutput::open() {
        Ok(output) => output,
        Err(error) => {
            let _ = err.write_all(format!("standard output: {error}\n").as_bytes());
            return ExitCode::from(2);
        }
    };
    // A line appears on a terminal when it is known: the next may wait for a name server.
    let mut output: Box<dyn Write> = if io::stdout().is_terminal() {
        Box::new(LineWriter::new(output))
    } else {
        Box::new(BufWriter::with_capacity(OUTPUT, output))
    };
    let status = run(
        Call { program: &program, words: &words, posix },
        ToolStreams {
            stdin: &mut io::stdin().lock(),
            out: &mut *output,
            err: &mut err,
            err_is_terminal: io::stderr().is_terminal(),
        },
        &mut SystemNames::default(),
        &mut SystemClock::default(),
        || Ok(Client::open()?),
    );
    ExitCode::from(status)
}
