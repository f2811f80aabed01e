//! Configurations of other systems as drafts of cvip.conf: keepalived.conf, ldirectord.cf, and
//! the rules that `ipvsadm -S` prints. Pure.
//!
//! The way of a text: its format's reader makes [`ServerPool`](pool::ServerPool)s of it, each a
//! virtual service in words that all formats share, and enters every statement in the
//! [`Ledger`]; `assembly` makes a [`Conf`](crate::conf::Conf) of the pools, and
//! cvip.conf's own parser judges it. What became of each statement comes out as a
//! [`StatementNote`]: no statement is without one, since the ledger gives one to those that no
//! reader has judged.

mod assembly;
mod draft;
mod error;
mod format;
mod ipvsadm;
mod keepalived;
mod ldirectord;
mod ledger;
mod nodes;
mod pool;
#[cfg(test)]
mod tests;
mod values;

pub(crate) use assembly::DraftOptions;
pub(crate) use draft::Draft;
pub(crate) use error::MigrationError;
pub(crate) use format::SourceFormat;
pub(crate) use ledger::{MAX_BYTES, Outcome, StatementNote, StatementTotals};

use crate::ipvsadm::names::Names;
use ledger::Ledger;
use pool::Plan;

/// What a configuration of another system becomes.
#[derive(Debug)]
pub(crate) struct Migration {
    /// The format in which it was read.
    pub format: SourceFormat,
    /// What became of each statement, in the order of the text.
    pub notes: Vec<StatementNote>,
    /// The draft, or why there is none.
    pub draft: Result<Draft, String>,
}

/// Reads a configuration and drafts a cvip.conf from it. Without a `format` it is recognised;
/// `names` turn names of hosts and services into numbers.
///
/// # Errors
/// The text cannot be read: it is too large, in no known format, or its structure is broken. A
/// setting that cannot be carried is no error.
pub(crate) fn migrate(
    text: &str,
    format: Option<SourceFormat>,
    options: &DraftOptions<'_>,
    names: &mut dyn Names,
) -> Result<Migration, MigrationError> {
    if text.len() > MAX_BYTES {
        return Err(MigrationError::TooLarge);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let format = format.or_else(|| SourceFormat::of(text)).ok_or(MigrationError::UnknownFormat)?;
    let mut ledger = Ledger::default();
    let plan: Plan = match format {
        SourceFormat::Keepalived => keepalived::read(text, &mut ledger, names)?,
        SourceFormat::Ldirectord => ldirectord::read(text, &mut ledger, names)?,
        SourceFormat::Ipvsadm => ipvsadm::read(text, &mut ledger, names)?,
    };
    let draft = assembly::draft(plan, options, &mut ledger);
    Ok(Migration { format, notes: ledger.settle(), draft })
}

impl Migration {
    /// How many statements there are, and what became of how many of them.
    pub(crate) fn totals(&self) -> StatementTotals {
        StatementTotals::of(&self.notes)
    }
}
