//! What the numbers of errors are called.

use nix::libc;

/// The text for an errno whatever was asked for: IPVS's own meanings, else strerror(3).
pub fn errno_text(errno: i32) -> String {
    let special = match errno {
        libc::EPERM => "Permission denied (you must be root)",
        libc::EINVAL => {
            "Invalid operation.  Possibly wrong module version, address not unicast, ..."
        }
        libc::ENOPROTOOPT => "Protocol not available",
        libc::ENOMEM => "Memory allocation problem",
        libc::EOPNOTSUPP => "Operation not supported with IPv6",
        libc::EAFNOSUPPORT => "Operation not supported with specified address family",
        libc::EMSGSIZE => "Module is wrong version",
        _ => return io_text(&std::io::Error::from_raw_os_error(errno)),
    };
    special.to_owned()
}

/// The text of a file's error: strerror(3), without its number.
pub fn io_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let number = error.raw_os_error().map(|errno| format!(" (os error {errno})"));
    number.and_then(|number| text.strip_suffix(&number)).unwrap_or(&text).to_owned()
}
