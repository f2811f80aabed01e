//! `--keep`: reads an entry, and changes what is named of it.

use std::fmt::Write as _;

use super::super::argument_error::ArgumentError;
use super::super::edit::Edit;
use super::super::errors;
use super::super::table::{Table, TableError};
use super::{ToolError, ToolSession};
use crate::ipvs::{Change, DestinationEntry, DestinationId, ServiceId};

/// Why an entry cannot be edited or drained.
pub(super) enum EntryError {
    /// It is not there; in words.
    Absent(String),
    /// The virtual service is there, and has no real server of this address; in words.
    NoRealServer(String),
    /// What is named does not go with what is there.
    Argument(ArgumentError),
    /// The kernel refused.
    Refused(TableError),
    /// The kernel cannot be asked.
    NoKernel(ToolError),
}

impl From<ToolError> for EntryError {
    fn from(error: ToolError) -> EntryError {
        EntryError::NoKernel(error)
    }
}

impl<T: Table, O: FnOnce() -> Result<T, TableError>> ToolSession<'_, '_, T, O> {
    /// Makes an edit; the status, and whether a restore ends with it.
    pub(super) fn edit(&mut self, edit: &Edit) -> (u8, bool) {
        match self.edited(edit) {
            // Also if it is so already: nothing is sent.
            Ok(None) => (0, false),
            Ok(Some(change)) => self.apply(&[change]),
            Err(error) => self.refuse(error),
        }
    }

    /// The change that an edit needs, if it needs one.
    fn edited(&mut self, edit: &Edit) -> Result<Option<Change>, EntryError> {
        match edit {
            Edit::Service(edit) => {
                let now = self.kernel()?.service(&edit.id);
                let now = now.map_err(|error| no_service(&edit.id, error))?.service;
                let service = edit.applied_to(&now).map_err(EntryError::Argument)?;
                Ok((service != now).then_some(Change::EditService(service)))
            }
            Edit::Server(edit) => {
                let now = self.real_server(&edit.service, edit.at)?.destination;
                let server = edit.applied_to(&now).map_err(EntryError::Argument)?;
                Ok((server != now).then_some(Change::EditDestination(edit.service, server)))
            }
        }
    }

    /// A real server as the kernel shows it.
    pub(super) fn real_server(
        &mut self,
        service: &ServiceId,
        at: DestinationId,
    ) -> Result<DestinationEntry, EntryError> {
        let table = self.kernel()?;
        // Of a service that is not there the kernel lists no real servers, without an error.
        table.service(service).map_err(|error| no_service(service, error))?;
        let entries = table.destinations(service).map_err(EntryError::Refused)?;
        let found = entries.iter().find(|entry| entry.destination.id == at);
        found.copied().ok_or_else(|| {
            let mut text = format!("No such destination: {at} is none of {service}");
            let beside = entries.iter().map(|entry| entry.destination.id);
            let mut beside = beside.filter(|other| other.addr == at.addr);
            match beside.next() {
                Some(other) => {
                    let _ = write!(text, ", {other} is one");
                    EntryError::Absent(text)
                }
                None => EntryError::NoRealServer(text),
            }
        })
    }

    /// Says why an entry is not edited or drained; the status, and whether a restore ends with it.
    pub(super) fn refuse(&mut self, error: EntryError) -> (u8, bool) {
        match error {
            EntryError::Absent(text) | EntryError::NoRealServer(text) => {
                self.complain(&text);
                (255, false)
            }
            EntryError::Argument(error) => {
                self.complain(&error.to_string());
                (error.status(), error.ends_a_restore())
            }
            EntryError::Refused(error) => {
                self.complain(&error.to_string());
                (255, true)
            }
            EntryError::NoKernel(error) => self.report(Err(error)),
        }
    }
}

fn no_service(id: &ServiceId, error: TableError) -> EntryError {
    match error {
        TableError::Refused(errno @ nix::libc::ESRCH) => {
            let text = errors::text(errors::FailedOperation::FindService, errno);
            EntryError::Absent(format!("{text}: {id}"))
        }
        other => EntryError::Refused(other),
    }
}
