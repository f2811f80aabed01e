//! ipvsadm's drop-in; as `ipvsadm-save` and `ipvsadm-restore`, theirs. The program itself is
//! [`cvip::ipvsadm::run`].

use std::env;
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use cvip::ipvs::Client;
use cvip::ipvsadm::names::SystemNames;
use cvip::ipvsadm::watch::SystemClock;
use cvip::ipvsadm::{Call, Streams, run};

fn main() -> ExitCode {
    let mut words = env::args_os();
    let program = words.next().unwrap_or_else(|| OsString::from("ipvsadm-rs"));
    let words: Vec<OsString> = words.collect();
    // popt looks for both, and for nothing in them.
    let posix =
        ["POSIXLY_CORRECT", "POSIX_ME_HARDER"].into_iter().any(|v| env::var_os(v).is_some());
    let status = run(
        Call { program: &program, words: &words, posix },
        Streams {
            stdin: &mut io::stdin().lock(),
            out: &mut io::BufWriter::new(io::stdout().lock()),
            err: &mut io::stderr().lock(),
        },
        &mut SystemNames::default(),
        &mut SystemClock,
        || Ok(Client::open()?),
    );
    ExitCode::from(status)
}
