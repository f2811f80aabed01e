//! ipvsadm's drop-in; as `ipvsadm-save` and `ipvsadm-restore`, theirs. The program itself is
//! [`cvip::ipvsadm::run()`].

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use cvip::ipvs::Client;
use cvip::ipvsadm::names::SystemNames;
use cvip::ipvsadm::watch::SystemClock;
use cvip::ipvsadm::{Call, Streams, run};

/// How much of a listing is written at a time, in bytes.
const OUTPUT: usize = 32 * 1024;

fn main() -> ExitCode {
    let mut words = env::args_os();
    let program = words.next().unwrap_or_else(|| OsString::from("ipvsadm-rs"));
    let words: Vec<OsString> = words.collect();
    // popt looks for both, and for nothing in them.
    let posix =
        ["POSIXLY_CORRECT", "POSIX_ME_HARDER"].into_iter().any(|v| env::var_os(v).is_some());
    // Standard output's own buffer would write line by line.
    let output = io::stdout().as_fd().try_clone_to_owned().map(File::from);
    let mut output = match output {
        Ok(file) => BufWriter::with_capacity(OUTPUT, Box::new(file) as Box<dyn Write>),
        // It is closed, which is the caller's wish.
        Err(_) => BufWriter::new(Box::new(io::sink()) as Box<dyn Write>),
    };
    let status = run(
        Call { program: &program, words: &words, posix },
        Streams { stdin: &mut io::stdin().lock(), out: &mut output, err: &mut io::stderr().lock() },
        &mut SystemNames::default(),
        &mut SystemClock,
        || Ok(Client::open()?),
    );
    ExitCode::from(status)
}
