//! Whether the process was started without a standard output (`>&-` in a shell).
//!
//! Before `main`, the standard library opens /dev/null in the place of each of the first three
//! descriptors that is closed, and nothing tells it from a /dev/null that was asked for. So it is
//! looked at before that, by a function that the C library calls at the start.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;

static CLOSED: AtomicBool = AtomicBool::new(false);

/// True if there was no standard output.
pub(super) fn at_start() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

// SAFETY: the section holds addresses of functions that the C library calls, before `main`, with
// the C calling convention; arguments that a function does not take do no harm in it.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    // SAFETY: F_GETFD takes no argument, and only reads a flag of the descriptor, if there is one.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    CLOSED.store(flags == -1, Ordering::Relaxed);
}
