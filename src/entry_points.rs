//! What the programs in `src/bin` do: a function for each, which returns the exit status.
//!
//! They alone of the library use the process's own arguments, output and signals.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal, LineWriter, Write};
use std::process::ExitCode;

use crate::ipvs::Client;
use crate::ipvsadm::names::SystemNames;
use crate::ipvsadm::watch::SystemClock;
use crate::ipvsadm::{self, Call, ToolStreams};
use crate::output::StandardOutput;

#[cfg(feature = "daemon")]
use crate::cli;
#[cfg(feature = "daemon")]
use crate::daemon::HeldSignals;

/// How much of a listing of ipvsadm-rs is written at a time, in bytes.
const OUTPUT: usize = 32 * 1024;

/// The program `cvipctl`.
#[cfg(feature = "daemon")]
pub fn cvipctl() -> ExitCode {
    cli::program(env::args_os(), cli::cvipctl::run)
}

/// The program `cvipd`.
#[cfg(feature = "daemon")]
pub fn cvipd() -> ExitCode {
    let signals = HeldSignals::hold();
    cli::program(env::args_os(), |args, streams| cli::cvipd::run(args, signals, streams))
}

/// The program `setport_weight`.
#[cfg(feature = "daemon")]
pub fn setport_weight() -> ExitCode {
    cli::program(env::args_os(), cli::setport_weight::run)
}

/// The program `ipvsadm-rs`: ipvsadm's drop-in; as `ipvsadm-save` and `ipvsadm-restore`, theirs.
pub fn ipvsadm_rs() -> ExitCode {
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
    let status = ipvsadm::run(
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
