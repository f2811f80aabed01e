//! Every place where the lab needs `unsafe`: what runs in a child between `fork` and `exec`, and two ioctls that nix
//! does not wrap. Nothing else belongs here.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Gid, Pid, Uid, setgid, setgroups, setuid};

/// Makes the command's process die (SIGKILL) when the thread that starts it ends, whatever ends it.
pub(crate) fn die_with_parent(command: &mut Command) -> &mut Command {
    // SAFETY: the closure calls prctl(2) only: it is async-signal-safe, and allocates and locks nothing.
    unsafe {
        command
            .pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from))
    }
}

/// Lets the command have every signal, though this thread holds some back: that is inherited.
pub(crate) fn with_all_signals(command: &mut Command) -> &mut Command {
    // SAFETY: the closure calls sigprocmask(2) only: it is async-signal-safe, and allocates and locks nothing.
    unsafe { command.pre_exec(|| SigSet::empty().thread_set_mask().map_err(io::Error::from)) }
}

/// Makes this very process die (SIGKILL) when its parent does.
pub(crate) fn die_with_this_parent() -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from)
}

/// A descriptor that can be read once this process has ended.
pub(crate) fn open_process(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two numbers and touches no memory of ours.
    let fd = unsafe { nix::libc::syscall(nix::libc::SYS_pidfd_open, pid.as_raw(), 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Makes the command run in a network namespace, given a descriptor of its file.
pub(crate) fn in_network_namespace(command: &mut Command, namespace: OwnedFd) -> &mut Command {
    // SAFETY: the closure calls setns(2) only: it is async-signal-safe, and allocates and locks nothing. The descriptor
    // is owned by the closure, so it is open for as long as the command can be started.
    unsafe {
        command
            .pre_exec(move || setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from))
    }
}

/// Makes the command run as this user, in no other group than this one. What is to be done as root comes before it.
pub(crate) fn as_user(command: &mut Command, uid: Uid, gid: Gid) -> &mut Command {
    // SAFETY: the closure calls setgroups(2), setgid(2) and setuid(2) only: they are system calls and no more in a
    // process that has one thread, as a child between fork and exec has, and allocate and lock nothing.
    unsafe {
        command.pre_exec(move || {
            setgroups(&[gid])?;
            setgid(gid)?;
            setuid(uid)?;
            Ok(())
        })
    }
}

/// Makes the command the leader of a session whose terminal is its own standard input.
pub(crate) fn with_controlling_terminal(command: &mut Command) -> &mut Command {
    // SAFETY: the closure calls setsid(2) and ioctl(2) only: both are async-signal-safe, and standard input is open in
    // a child between fork and exec.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            if nix::libc::ioctl(0, nix::libc::TIOCSCTTY, 0) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        })
    }
}

/// The terminal's size in rows and columns.
pub(crate) fn window_size(terminal: BorrowedFd<'_>) -> io::Result<(u16, u16)> {
    let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize to the pointer, which is valid for the call; the descriptor is borrowed.
    if unsafe { nix::libc::ioctl(terminal.as_raw_fd(), nix::libc::TIOCGWINSZ, &mut size) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((size.ws_row, size.ws_col))
}

/// Sets the terminal's size in rows and columns.
pub(crate) fn set_window_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = nix::libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize from the pointer, which is valid for the call; the descriptor is borrowed.
    if unsafe { nix::libc::ioctl(terminal.as_raw_fd(), nix::libc::TIOCSWINSZ, &size) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Brings a network device of this thread's network namespace up or down.
pub(crate) fn set_link(device: &str, up: bool) -> io::Result<()> {
    use nix::libc;
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: ifreq is plain data, for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte less than there is room for, so that the name ends in a zero.
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(device.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: SIOCGIFFLAGS writes one ifreq to the pointer, which is valid for the call; the socket is open.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: after SIOCGIFFLAGS it is the flags that the union holds.
    let before = unsafe { request.ifr_ifru.ifru_flags };
    let flag = libc::IFF_UP as libc::c_short;
    request.ifr_ifru.ifru_flags = if up { before | flag } else { before & !flag };
    // SAFETY: SIOCSIFFLAGS reads one ifreq from the pointer, which is valid for the call; the socket is open.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Makes every mount of this process's mount namespace read-only; what is written through a descriptor that is open
/// already is not concerned.
pub(crate) fn all_mounts_read_only() -> io::Result<()> {
    use nix::libc;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: mount_setattr(2) reads a string that ends in a zero and a structure of the given size; both are valid for
    // the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            libc::AT_RECURSIVE,
            &attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
