//! What the JSON documents of all programs have in common.
//!
//! A document is what a program prints with `--json`: one object, with `schema` and the members
//! of its own. Units stand in the keys (`deadline_s`), times are RFC 3339 in UTC. `docs/json` has
//! a JSON Schema for each, and tests hold against them what the programs print.
//!
//! Records in the store, heartbeats and what passes through control sockets are no documents: they
//! have keys of their own, which an older cvipd knows.

use std::io::{self, Write};
#[cfg(feature = "daemon")]
use std::time::{Duration, SystemTime};

use serde::Serialize;

/// The version of the documents. It grows when a member changes its meaning or goes away, and
/// stays when one is added.
pub(crate) const SCHEMA: u32 = 1;

/// What a parser of JSON or TOML, or of a number, says, in words of the documents rather than of
/// Rust: `expected u16` is a number from 0 to 65535.
pub(crate) fn plain(message: &str) -> String {
    const WORDS: [(&str, &str); 22] = [
        ("expected u8", "expected a number from 0 to 255"),
        ("expected u16", "expected a number from 0 to 65535"),
        ("expected u32", "expected a number from 0 to 4294967295"),
        ("expected u64", "expected a number from 0"),
        ("expected usize", "expected a number from 0"),
        ("expected i64", "expected a number"),
        ("expected i32", "expected a number"),
        ("expected a nonzero u32", "expected a number from 1"),
        ("expected a boolean", "expected true or false"),
        ("expected a sequence", "expected a list"),
        ("expected a map", "expected an object"),
        ("expected unit", "expected null"),
        ("invalid type: sequence", "a list is no value here"),
        ("invalid type: map", "an object is no value here"),
        ("invalid type: unit", "null is no value here"),
        ("invalid type: ", "wrong value: "),
        ("invalid value: ", "wrong value: "),
        ("invalid digit found in string", "it is no whole number"),
        ("number too large to fit in target type", "the number is too large"),
        ("number too small to fit in target type", "the number is too small"),
        ("cannot parse integer from empty string", "it is empty"),
        ("invalid float literal", "it is no number"),
    ];
    let mut text = message.to_owned();
    for (of_rust, plain) in WORDS {
        text = text.replace(of_rust, plain);
    }
    // The name of a type, with how many members it has, says nothing.
    for kind in ["expected struct ", "expected tuple struct ", "expected enum "] {
        while let Some(at) = text.find(kind) {
            let rest = &text[at + kind.len()..];
            let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let end = at + kind.len() + rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            text.replace_range(at..end, "expected an object");
        }
    }
    text
}

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
pub(crate) fn write(out: &mut dyn Write, members: impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(&Document { schema: SCHEMA, members })?;
    text.push(b'\n');
    out.write_all(&text)
}

/// Writes a document on one line: one of many, or one for other programs alone.
///
/// # Errors
/// The writer's.
pub(crate) fn write_line(out: &mut dyn Write, members: impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(&Document { schema: SCHEMA, members })?;
    text.push(b'\n');
    out.write_all(&text)
}

/// A list in a document that may be too long to be held: its members are written one by one,
/// between the brackets that its owner writes.
#[derive(Debug, Default)]
pub(crate) struct JsonList {
    is_begun: bool,
}

impl JsonList {
    /// Writes a member.
    ///
    /// # Errors
    /// The writer's.
    pub(crate) fn push(&mut self, out: &mut dyn Write, member: &impl Serialize) -> io::Result<()> {
        if std::mem::replace(&mut self.is_begun, true) {
            out.write_all(b",")?;
        }
        Ok(serde_json::to_writer(out, member)?)
    }
}

/// The end of the year 9999, in seconds since 1970: RFC 3339 has no later one.
#[cfg(feature = "daemon")]
const LAST: u64 = 253_402_300_799;

/// A moment as documents have it, with milliseconds. One that a clock gives which is wrong by far, before
/// 1970 or after 9999, is the nearest that can be written.
#[cfg(feature = "daemon")]
pub(crate) fn rfc3339_millis(at: SystemTime) -> String {
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(LAST);
    humantime::format_rfc3339_millis(at.clamp(SystemTime::UNIX_EPOCH, last)).to_string()
}

/// A moment, in seconds since 1970.
#[cfg(feature = "daemon")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time(pub u64);

#[cfg(feature = "daemon")]
impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(self.0.min(LAST));
        serializer.collect_str(&humantime::format_rfc3339_seconds(moment))
    }
}

#[cfg(all(test, feature = "daemon"))]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_moment_that_no_right_clock_gives_is_the_nearest_that_can_be_written() {
        let (epoch, day) = (SystemTime::UNIX_EPOCH, Duration::from_secs(86_400));
        assert_eq!(rfc3339_millis(epoch + day / 1000), "1970-01-01T00:01:26.400Z");
        assert_eq!(rfc3339_millis(epoch - day), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339_millis(epoch + 9_000_000 * day), "9999-12-31T23:59:59.000Z");
    }

    #[test]
    fn what_a_parser_says_is_said_without_rusts_words() {
        #[derive(Debug, serde::Deserialize)]
        #[allow(dead_code)]
        struct Of {
            port: u16,
            list: Vec<u8>,
        }
        let said = |text: &str| plain(&serde_json::from_str::<Of>(text).unwrap_err().to_string());
        for (text, expected) in [
            (
                r#"{"port": "x"}"#,
                "wrong value: string \"x\", expected a number from 0 to 65535 at line",
            ),
            (
                r#"{"port": 70000}"#,
                "wrong value: integer `70000`, expected a number from 0 to 65535",
            ),
            (r#"{"port": 1, "list": {}}"#, "an object is no value here, expected a list at line"),
            ("7", "expected an object at line 1"),
        ] {
            let said = said(text);
            assert!(said.contains(expected), "{text}: {said}");
            assert!(!said.contains("u16") && !said.contains("struct"), "{said}");
        }
        let number = "x".parse::<u16>().unwrap_err().to_string();
        assert_eq!(plain(&number), "it is no whole number");
    }

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
