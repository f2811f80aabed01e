//! cvip.toml on disk: read, parsed, each fault with its place.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::model::{
    Engine, EtcdSettings, HookSettings, Settings, SettingsError, endpoint_of, metrics_address_of,
    metrics_label_of, prefix_of,
};
use crate::conf::{Diagnostic, DiagnosticSeverity, SourcePlace};
use crate::files;
use crate::json::plain;

/// Largest file in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// What a lease's life may be, in seconds. etcd itself takes nothing below its election's time.
const LEASE_TTL: std::ops::RangeInclusive<u64> = 2..=60;

/// What the time for a request may be, in seconds.
const TIMEOUT: std::ops::RangeInclusive<u64> = 1..=30;

/// What the time for the hooks of one event may be, in seconds: a leave waits for it.
const HOOK_TIMEOUT: std::ops::RangeInclusive<u64> = 1..=60;

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SettingsFile {
    store: Option<Engine>,
    cluster_key_file: Option<PathBuf>,
    heartbeat_port: Option<Spanned<u16>>,
    record: Option<bool>,
    metrics_address: Option<Spanned<String>>,
    metrics_labels: Option<Vec<Spanned<String>>>,
    hooks_dir: Option<PathBuf>,
    hook_user: Option<String>,
    hook_timeout: Option<Spanned<u64>>,
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
    let text = match files::read_text(path, MAX_BYTES) {
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

/// Files that are named without a folder at their beginning stand beside cvip.toml.
pub(super) fn parse(text: &str, path: &Path) -> Result<Settings, SettingsError> {
    let fault_in = |span: Option<Range<usize>>, is_known: bool, message: String| {
        SettingsError::File(Box::new(Diagnostic {
            severity: DiagnosticSeverity::Error,
            path: path.display().to_string(),
            place: span.map(|span| place(text, span, is_known)),
            message,
            help: None,
        }))
    };
    // A value that was understood, and is not what it may be.
    let fault = |span, message| fault_in(span, true, message);
    let written: SettingsFile = toml::from_str(text)
        .map_err(|e| fault_in(e.span(), false, plain(&without_values(&one_line(e.message())))))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let beside = |file: PathBuf| folder.join(file);
    fn at<T>(
        spanned: &Spanned<String>,
        check: fn(&str) -> Result<T, String>,
        fault: impl Fn(Option<Range<usize>>, String) -> SettingsError,
    ) -> Result<T, SettingsError> {
        check(spanned.get_ref()).map_err(|message| fault(Some(spanned.span()), message))
    }
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
    let heartbeat_port = match written.heartbeat_port {
        Some(port) if *port.get_ref() == 0 => {
            return Err(fault(Some(port.span()), "a port is 1 to 65535".to_owned()));
        }
        port => port.map(Spanned::into_inner),
    };
    let defaults = EtcdSettings::default();
    let etcd = EtcdSettings {
        endpoints: endpoints.iter().map(|e| at(e, endpoint_of, fault)).collect::<Result<_, _>>()?,
        ca: ca.map(beside),
        cert: cert.map(beside),
        key: key.map(beside),
        user,
        password_file: password_file.map(beside),
        prefix: prefix.map_or(Ok(defaults.prefix), |prefix| at(&prefix, prefix_of, fault))?,
        lease_ttl: seconds(lease_ttl, LEASE_TTL, defaults.lease_ttl)?,
        timeout: seconds(timeout, TIMEOUT, defaults.timeout)?,
    };
    let hooks = HookSettings::default();
    let metrics_address = written.metrics_address.as_ref();
    let metrics_labels = written.metrics_labels.as_ref().map(|labels| {
        labels.iter().map(|label| at(label, metrics_label_of, fault)).collect::<Result<_, _>>()
    });
    Ok(Settings {
        engine: written.store.unwrap_or(Engine::Local),
        engine_was_chosen: written.store.is_some(),
        etcd,
        cluster_key_file: written.cluster_key_file.map(beside),
        heartbeat_port,
        record: written.record,
        metrics_address: metrics_address
            .map(|address| at(address, metrics_address_of, fault))
            .transpose()?,
        metrics_labels: metrics_labels.transpose()?,
        hooks: HookSettings {
            dir: written.hooks_dir.map_or(hooks.dir, beside),
            user: written.hook_user,
            timeout: seconds(written.hook_timeout, HOOK_TIMEOUT, hooks.timeout)?,
        },
    })
}

/// Words with which a line of the file may begin.
const WORDS: [&str; 18] = [
    "store",
    "cluster_key_file",
    "heartbeat_port",
    "record",
    "metrics_address",
    "metrics_labels",
    "hooks_dir",
    "hook_user",
    "hook_timeout",
    "endpoints",
    "ca",
    "cert",
    "key",
    "user",
    "password_file",
    "prefix",
    "lease_ttl",
    "timeout",
];

/// What of a line may be shown: its key, and a value that was understood and is at fault. The rest
/// is stars, since a password may have been written there: into the wrong key, behind the
/// value, or into a section's name.
fn shown(line: &str, fault: Range<usize>, is_known: bool) -> String {
    let text = line.trim_start();
    let indent = line.len() - text.len();
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let length = text.find(|c| !is_word(c)).unwrap_or(text.len());
    let after = text[length..].trim_start();
    let is_key = after.starts_with(['=', ':']);
    let visible = match () {
        () if text.trim_end() == "[etcd]" => line.len(),
        () if is_key && WORDS.contains(&&text[..length]) => line.len() - after.len() + 1,
        () if is_key => indent + length,
        () => indent,
    };
    let value = line.get(fault.clone()).unwrap_or_default();
    let is_shown = is_known && !value.contains('@');
    let mut shown = String::new();
    for (at, c) in line.char_indices() {
        match at < visible || c.is_whitespace() || is_shown && fault.contains(&at) {
            true => shown.push(c),
            // As long in bytes, so that places stay what they are.
            false => shown.extend(std::iter::repeat_n('*', c.len_utf8())),
        }
    }
    shown
}

/// What the parser says, without the texts that it quotes from the file: its own words stand in
/// grave accents.
fn without_values(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(start), Some(end)) if end > start => {
            let before = message[..start].trim_end();
            format!("{before}{}", &message[end + 1..])
        }
        _ => message.to_owned(),
    }
}

/// A fault's place: the part of it that stands in its first line.
fn place(text: &str, span: Range<usize>, is_known: bool) -> SourcePlace {
    let start = floor(text, span.start);
    let before = &text[..start];
    let from = before.rfind('\n').map_or(0, |at| at + 1);
    let line = &text[from..];
    let line = &line[..line.find('\n').unwrap_or(line.len())];
    let within = |at: usize| at.clamp(from, from + line.len()) - from;
    let fault = within(start)..within(floor(text, span.end).max(start));
    let shown = shown(line, fault.clone(), is_known);
    SourcePlace::new(before.matches('\n').count() + 1, &shown, fault)
}

/// The boundary of characters at or before a byte.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
