//! `--save`: the table as commands, on standard output or in a file.

use std::io::{BufWriter, Write};
use std::path::Path;

use super::super::columns::ColumnText;
use super::super::errors::{self, FailedOperation};
use super::super::invocation::Save;
use super::super::names::{Names, Numbers};
use super::super::proc_table::ProcTable;
use super::super::save::{self, Detail};
use super::super::table::{Table, TableError};
use super::super::{change, sort};
use super::{ToolError, ToolSession};
use crate::ipvs::{Change, DestinationEntry, Forwarding, ServiceEntry};
use crate::replace::Replacement;

impl<T: Table, O: FnOnce() -> Result<T, TableError>> ToolSession<'_, '_, T, O> {
    pub(super) fn save(&mut self, save: &Save) -> Result<(), ToolError> {
        let Some(path) = &save.to else {
            return self.push_table(save, |session, text| Ok(session.out.write_all(text)?));
        };
        let path = Path::new(path);
        let failed = |error: std::io::Error| {
            let why = errors::io_text(&error);
            ToolError::File(format!("{} stays as it was: {why}", path.display()))
        };
        let mut replacement = Replacement::of(path).map_err(failed)?;
        let mut file = BufWriter::new(replacement.file());
        self.push_table(save, |_, text| file.write_all(text).map_err(failed))?;
        file.flush().map_err(failed)?;
        drop(file);
        replacement.put().map_err(failed)
    }

    /// Hands on the lines, some at a time.
    fn push_table(
        &mut self,
        save: &Save,
        mut put: impl FnMut(&mut Self, &[u8]) -> Result<(), ToolError>,
    ) -> Result<(), ToolError> {
        let Save { numeric, full, service, family, .. } = *save;
        let detail = if full { Detail::Full } else { Detail::Original };
        let mut entries = self.entries(service, true, |_| Ok(()))?;
        entries.retain(|entry| family.is_none_or(|family| entry.service.id.family() == family));
        // Of one service netlink says everything.
        let mut proc_table =
            if full || service.is_some() { ProcTable::default() } else { self.proc_table() };
        let mut text = ColumnText::new();
        for ServiceEntry { service, .. } in entries.iter() {
            let id = &service.id;
            // A tunnel's type stands only in netlink's dump.
            let glimpsed = proc_table
                .take(id, &service.scheduler)
                .filter(|all| all.iter().all(|d| d.destination.forward != Forwarding::Tunnel));
            let destinations = match glimpsed {
                Some(destinations) => sort::destinations(destinations),
                None => self.destinations_of(id, true)?,
            };
            let names = |session: &mut Self, push: &mut dyn FnMut(&mut dyn Names)| match numeric {
                true => push(&mut Numbers),
                false => push(session.names),
            };
            names(self, &mut |names| save::push_service(&mut text, service, detail, names));
            put(self, text.as_bytes())?;
            text.clear();
            for DestinationEntry { destination, .. } in &destinations {
                names(self, &mut |names| {
                    save::push_destination(&mut text, id, destination, detail, names);
                });
                put(self, text.as_bytes())?;
                text.clear();
            }
        }
        if full && service.is_none() && family.is_none() {
            for setting in self.settings()? {
                put(self, format!("{}\n", change::change_line(&setting)).as_bytes())?;
            }
        }
        Ok(())
    }

    /// What is of no service: the time-outs and the daemons.
    fn settings(&mut self) -> Result<impl Iterator<Item = Change> + use<T, O>, ToolError> {
        let refused = |error| ToolError::Refused(FailedOperation::Other, error);
        let timeouts = self.kernel()?.timeouts().map_err(refused)?;
        let daemons = self.kernel()?.daemons().map_err(refused)?;
        Ok(std::iter::once(Change::SetTimeouts(timeouts))
            .chain(daemons.into_iter().map(Change::StartDaemon)))
    }
}
