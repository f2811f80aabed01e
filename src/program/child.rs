//! The only unsafe code of this module: what a child does to itself between fork and exec.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::prctl::{set_no_new_privs, set_pdeathsig};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, getppid};
use rustix::thread::{clear_ambient_capability_set, set_thread_groups};

/// Makes a child that starts with no signal blocked, whatever its parent's threads block, that has
/// no capability of a parent who is not root, and with `drop_groups` none of its groups, that never
/// gains privileges by running another program, and that is killed if the thread that started it
/// ends first, be it by a crash of the whole daemon.
pub(super) fn confine(command: &mut Command, drop_groups: bool) {
    let parent = Pid::this();
    let confine = move || -> io::Result<()> {
        SigSet::empty().thread_set_mask()?;
        if drop_groups {
            set_thread_groups(&[])?;
        }
        // What the unit gives cvipd would be given on with each program (capabilities(7)).
        clear_ambient_capability_set()?;
        set_no_new_privs()?;
        set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have ended before it could be a reason to be killed.
        if getppid() != parent { Err(Errno::ESRCH.into()) } else { Ok(()) }
    };
    // SAFETY: between fork and exec in a process that had other threads, only what is safe in a
    // signal handler may be done. The closure makes system calls (rt_sigprocmask, setgroups, prctl
    // three times, getppid) and turns their results into errors that hold a number: it takes no
    // lock and allocates nothing, and what it captured are a number and a flag.
    unsafe { command.pre_exec(confine) };
}
