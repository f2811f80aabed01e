//! `cargo xtask lab`: one command on a kernel with IPVS.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use cvip_lab::{KernelChoice, Lab};

/// Run a command as root on a kernel with IPVS, with this machine's files
///
/// Its input, outputs and status are passed through. What it writes to files is gone when it ends, except below the
/// folder that CVIP_LAB_SCRATCH names (target/lab/scratch). The status is 124 if it took too long, and 125 if there is
/// no such kernel to be had.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The kernel: host (this machine's), uml (user-mode Linux), qemu (emulated), or auto (the first of them that there is)
    #[arg(long, value_name = "KERNEL", default_value_t, env = "CVIP_LAB_KERNEL")]
    kernel: KernelChoice,

    /// End the command after this many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,

    /// A Debian package that the command needs (repeatable)
    #[arg(long = "package", value_name = "NAME")]
    packages: Vec<String>,

    /// A variable of this environment that the command needs (repeatable)
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    env: Vec<String>,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command; its status.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut lab = Lab::new(arguments.kernel)?;
    for name in &arguments.packages {
        lab = lab.package(name);
    }
    for variable in &arguments.env {
        match variable.split_once('=') {
            Some((name, value)) => lab = lab.env(name, value),
            None => {
                if let Some(value) = std::env::var_os(variable) {
                    lab = lab.env(variable, value);
                }
            }
        }
    }
    if let Some(seconds) = arguments.timeout {
        lab = lab.timeout(Duration::from_secs(seconds));
    }
    let status = lab.run(&arguments.command)?;
    // A status is one byte.
    Ok(ExitCode::from(status as u8))
}
