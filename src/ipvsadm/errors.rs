//! What the kernel's errors are called, depending on what was asked for.
//!
//! IPVS answers with bare errnos. The same `ESRCH` is `No such service` for `-D` and
//! `Service not defined` for `-a`; the tables here are ipvsadm's, as scripts match on them.

use nix::libc;

pub use super::errno::{errno_text, io_text};
use super::table::TableError;
use crate::ipvs::Change;

/// What was asked for, as far as the texts tell it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum FailedOperation {
    AddService,
    EditService,
    /// Delete, zero or show services, or list destinations.
    FindService,
    AddServer,
    EditServer,
    StartDaemon,
    StopDaemon,
    Other,
}

impl FailedOperation {
    /// The operation that a change is.
    pub fn of(change: &Change) -> FailedOperation {
        match change {
            Change::AddService(_) => FailedOperation::AddService,
            Change::EditService(_) => FailedOperation::EditService,
            Change::DeleteService(_) | Change::Zero(_) => FailedOperation::FindService,
            Change::AddDestination(..) => FailedOperation::AddServer,
            Change::EditDestination(..) | Change::DeleteDestination(..) => {
                FailedOperation::EditServer
            }
            Change::StartDaemon(_) => FailedOperation::StartDaemon,
            Change::StopDaemon(..) => FailedOperation::StopDaemon,
            Change::Flush | Change::SetTimeouts(_) => FailedOperation::Other,
        }
    }
}

/// The text for an errno of an operation.
pub fn text(operation: FailedOperation, errno: i32) -> String {
    use FailedOperation as Op;
    let special = match (operation, errno) {
        (Op::AddService, libc::EEXIST) => "Service already exists",
        (Op::AddService | Op::EditService, libc::ENOENT) => {
            "Scheduler or persistence engine not found"
        }
        (Op::EditService | Op::FindService, libc::ESRCH) => "No such service",
        (Op::AddServer | Op::EditServer, libc::ESRCH) => "Service not defined",
        (Op::AddServer, libc::EEXIST) => "Destination already exists",
        (Op::EditServer, libc::ENOENT) => "No such destination",
        (Op::StartDaemon, libc::EEXIST) => "Daemon has already run",
        (Op::StopDaemon, libc::ESRCH) => "No daemon is running",
        _ => return errno_text(errno),
    };
    special.to_owned()
}

/// The text for why an operation failed.
pub fn describe(operation: FailedOperation, error: &TableError) -> String {
    match error {
        TableError::Refused(errno) => text(operation, *errno),
        TableError::NoIpvs(_) => error.to_string(),
        TableError::Broken(words) => words.clone(),
    }
}

/// The message of a kernel that cannot be reached: two lines, after those of modprobe(8).
pub fn no_kernel(error: &TableError) -> String {
    let said = match error {
        TableError::NoIpvs(said) if !said.is_empty() => format!("{said}\n"),
        _ => String::new(),
    };
    format!(
        "{said}Can't initialize ipvs: {error}\n\
         Are you sure that IP Virtual Server is built in the kernel or as module?"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_errno_is_called_by_what_was_asked_for() {
        assert_eq!(text(FailedOperation::FindService, libc::ESRCH), "No such service");
        assert_eq!(text(FailedOperation::AddServer, libc::ESRCH), "Service not defined");
        assert_eq!(text(FailedOperation::StopDaemon, libc::ESRCH), "No daemon is running");
        assert_eq!(text(FailedOperation::Other, libc::ESRCH), "No such process");
    }

    #[test]
    fn what_modprobe_said_comes_first() {
        let text = no_kernel(&TableError::NoIpvs("modprobe: FATAL: Module not found".to_owned()));
        assert!(
            text.starts_with("modprobe: FATAL: Module not found\nCan't initialize ipvs: Proto")
        );
        assert_eq!(text.lines().count(), 3);
        assert_eq!(no_kernel(&TableError::NoIpvs(String::new())).lines().count(), 2);
    }

    #[test]
    fn what_ipvs_has_no_word_for_is_called_as_everywhere() {
        assert_eq!(errno_text(libc::ERANGE), "Numerical result out of range");
        assert_eq!(errno_text(libc::ENODEV), "No such device");
        assert!(errno_text(libc::EINVAL).contains(".  Possibly"));
    }
}
