//! cvip.toml on disk: read, parsed, each fault with its place.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{Engine, EtcdSettings, Settings, SettingsError, endpoint_of, prefix_of};
use crate::conf::{Diagnostic, Place, Severity};

/// Largest file in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// What a lease's life may be, in seconds. etcd itself takes nothing below its election's time.
const LEASE_TTL: std::ops::RangeInclusive<u64> = 2..=60;

/// What the time for a request may be, in seconds.
const TIMEOUT: std::ops::RangeInclusive<u64> = 1..=30;

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    store: Option<Engine>,
    cluster_key_file: Option<PathBuf>,
    etcd: Etcd,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Etcd {
    endpoints: Vec<Spanned<String>>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    prefix: Option<Spanned<String>>,
    lease_ttl: Option<Spanned<u64>>,
    timeout: Option<Spanned<u64>>,
}

/// Reads the file. One that `must_be` there and is not is an error.
pub(super) fn read(path: &Path, must_be: bool) -> Result<Settings, SettingsError> {
    let text = match text_of(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound && !must_be => return Ok(Settings::default()),
        Err(e) => {
            let reason = match e.kind() {
                io::ErrorKind::NotFound => "there is no such file: see cvip.toml(5)".to_owned(),
                _ => e.to_string(),
            };
            return Err(SettingsError::Unreadable { path: path.to_owned(), reason });
        }
    };
    parse(&text, path)
}

fn text_of(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    match text.len() as u64 > MAX_BYTES {
        true => Err(io::Error::other("the file is larger than 1 MiB")),
        false => Ok(text),
    }
}

/// Files that are named without a folder at their beginning stand beside cvip.toml.
pub(super) fn parse(text: &str, path: &Path) -> Result<Settings, SettingsError> {
    let fault = |span: Option<Range<usize>>, message: String| {
        SettingsError::File(Box::new(Diagnostic {
            severity: Severity::Error,
            path: path.display().to_string(),
            place: span.map(|span| place(text, span)),
            message,
            help: None,
        }))
    };
    let written: Written =
        toml::from_str(text).map_err(|e| fault(e.span(), one_line(e.message())))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let beside = |file: PathBuf| folder.join(file);
    let at = |spanned: &Spanned<String>, check: fn(&str) -> Result<String, String>| {
        check(spanned.get_ref()).map_err(|message| fault(Some(spanned.span()), message))
    };
    let seconds = |spanned: Option<Spanned<u64>>, may, default: Duration| match spanned {
        None => Ok(default),
        Some(spanned) => {
            let may: std::ops::RangeInclusive<u64> = may;
            let span = spanned.span();
            let seconds = spanned.into_inner();
            match may.contains(&seconds) {
                true => Ok(Duration::from_secs(seconds)),
                false => {
                    let (least, most) = (may.start(), may.end());
                    Err(fault(Some(span), format!("it is {least} to {most} seconds")))
                }
            }
        }
    };
    let Etcd { endpoints, ca, cert, key, user, password_file, prefix, lease_ttl, timeout } =
        written.etcd;
    let defaults = EtcdSettings::default();
    let etcd = EtcdSettings {
        endpoints: endpoints.iter().map(|e| at(e, endpoint_of)).collect::<Result<_, _>>()?,
        ca: ca.map(beside),
        cert: cert.map(beside),
        key: key.map(beside),
        user,
        password_file: password_file.map(beside),
        prefix: prefix.map_or(Ok(defaults.prefix), |prefix| at(&prefix, prefix_of))?,
        lease_ttl: seconds(lease_ttl, LEASE_TTL, defaults.lease_ttl)?,
        timeout: seconds(timeout, TIMEOUT, defaults.timeout)?,
    };
    Ok(Settings {
        engine: written.store.unwrap_or(Engine::Local),
        engine_was_chosen: written.store.is_some(),
        etcd,
        cluster_key_file: written.cluster_key_file.map(beside),
    })
}

/// Words with which a line of the file may begin. Another line is not shown whole: somebody may have
/// written a password there.
const WORDS: [&str; 12] = [
    "store",
    "cluster_key_file",
    "endpoints",
    "ca",
    "cert",
    "key",
    "user",
    "password_file",
    "prefix",
    "lease_ttl",
    "timeout",
    "[",
];

/// What of a line may be shown.
fn shown(line: &str) -> &str {
    let text = line.trim_start();
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let length =
        if text.starts_with('[') { 1 } else { text.find(|c| !is_word(c)).unwrap_or(text.len()) };
    let word = &text[..length];
    match WORDS.contains(&word) {
        true => line,
        false => &line[..line.len() - text.len() + length],
    }
}

/// A fault's place: the part of it that stands in its first line.
fn place(text: &str, span: Range<usize>) -> Place {
    let start = floor(text, span.start);
    let before = &text[..start];
    let from = before.rfind('\n').map_or(0, |at| at + 1);
    let line = &text[from..];
    let line = shown(&line[..line.find('\n').unwrap_or(line.len())]);
    let within = |at: usize| at.clamp(from, from + line.len()) - from;
    let fault = within(start)..within(floor(text, span.end).max(start));
    Place::new(before.matches('\n').count() + 1, line, fault)
}

/// The boundary of characters at or before a byte.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
