//! What the JSON documents of all programs have in common.
//!
//! A document is what a program prints with `--json`: one object, with `schema` and the members
//! of its own. Units stand in the keys (`deadline_s`), times are RFC 3339 in UTC. `docs/json` has
//! a JSON Schema for each, and tests hold against them what the programs print.
//!
//! Records in the store, heartbeats and what passes through control sockets are no documents: they
//! have keys of their own, which an older cvipd knows.

use std::io::{self, Write};

use serde::Serialize;

/// The version of the documents. It grows when a member changes its meaning or goes away, and
/// stays when one is added.
pub const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<T> {
    schema: u32,
    #[serde(flatten)]
    members: T,
}

/// Writes a document, a line for each member. `members` is a struct or a map.
///
/// # Errors
/// The writer's.
#[cfg(feature = "daemon")]
pub fn write(out: &mut dyn Write, members: impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(&Document { schema: SCHEMA, members })?;
    text.push(b'\n');
    out.write_all(&text)
}

/// Writes a document on one line: one of many, or one for other programs alone.
///
/// # Errors
/// The writer's.
pub fn write_line(out: &mut dyn Write, members: impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(&Document { schema: SCHEMA, members })?;
    text.push(b'\n');
    out.write_all(&text)
}

/// A list in a document that may be too long to be held: its members are written one by one,
/// between the brackets that its owner writes.
#[derive(Debug, Default)]
pub struct List {
    is_begun: bool,
}

impl List {
    /// Writes a member.
    ///
    /// # Errors
    /// The writer's.
    pub fn push(&mut self, out: &mut dyn Write, member: &impl Serialize) -> io::Result<()> {
        if std::mem::replace(&mut self.is_begun, true) {
            out.write_all(b",")?;
        }
        Ok(serde_json::to_writer(out, member)?)
    }
}

/// A moment, in seconds since 1970.
#[cfg(feature = "daemon")]
#[derive(Clone, Copy, Debug)]
pub struct Time(pub u64);

#[cfg(feature = "daemon")]
impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use std::time::{Duration, SystemTime};

        /// The end of the year 9999: RFC 3339 has no later one.
        const LAST: u64 = 253_402_300_799;
        let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(self.0.min(LAST));
        serializer.collect_str(&humantime::format_rfc3339_seconds(moment))
    }
}

#[cfg(all(test, feature = "daemon"))]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_document_begins_with_its_schema_and_ends_its_line() {
        let mut text = Vec::new();
        write_line(&mut text, BTreeMap::from([("changes", ["-C"])])).unwrap();
        assert_eq!(text, b"{\"schema\":1,\"changes\":[\"-C\"]}\n");
    }

    #[test]
    fn a_time_is_rfc_3339_whatever_a_record_says() {
        let shown = |seconds| serde_json::to_string(&Time(seconds)).unwrap();
        assert_eq!(shown(1_772_359_200), "\"2026-03-01T10:00:00Z\"");
        assert_eq!(shown(u64::MAX), "\"9999-12-31T23:59:59Z\"");
    }
}
