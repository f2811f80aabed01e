//! The file that records what cvipd made on its host, so that one that was killed and started
//! again knows what is its own to undo.
//!
//! The file is written before the kernel is changed: after a crash it may name something that
//! was never made, which costs nothing, but never forgets something that was. It names the boot
//! it was written in, for nothing that it lists survives one.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files;
use crate::json;
use crate::net::addresses::host_prefix;
use crate::net::{NetError, sysctl};

/// Far more than a thousand CVIPs need.
const SIZE_CAP: u64 = 1 << 20;

/// Everything that this program made on its host.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SettingsRecord {
    /// The kernel's identity of the boot (`kernel.random.boot_id`).
    #[serde(default)]
    boot: String,
    #[serde(default)]
    pub(super) addresses: OwnAddresses,
    #[serde(default)]
    pub(super) links: OwnLinks,
    #[serde(default)]
    pub(super) settings: OwnSysctls,
}

/// The addresses that this program added.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct OwnAddresses(pub(super) Vec<OwnAddress>);

/// An address that this program added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OwnAddress {
    pub(super) addr: IpAddr,
    pub(super) prefix: u8,
    pub(super) device: String,
    /// Seconds that each renewal gives it; none: it has no lifetime.
    #[serde(default)]
    pub(super) valid_lft: Option<u32>,
}

/// The links that this program made or brought up.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct OwnLinks(pub(super) Vec<OwnLink>);

/// A link that this program brought up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OwnLink {
    pub(super) device: String,
    /// It made it, too.
    pub(super) made: bool,
}

/// The settings that this program changed, by path.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct OwnSysctls(pub(super) BTreeMap<String, OwnSysctl>);

/// A setting that this program changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OwnSysctl {
    /// What it was given.
    pub(super) value: String,
    /// What it was before.
    pub(super) previous: String,
}

impl SettingsRecord {
    /// Nothing was made.
    pub fn is_empty(&self) -> bool {
        self.addresses.0.is_empty() && self.links.0.is_empty() && self.settings.0.is_empty()
    }

    /// What a file's text says, if it was written in this boot; nothing if in an earlier one.
    fn parse(text: &str, boot: &str) -> Result<SettingsRecord, String> {
        let record: SettingsRecord =
            serde_json::from_str(text).map_err(|error| json::plain(&error.to_string()))?;
        if record.boot != boot {
            return Ok(SettingsRecord::default());
        }
        let is_setting = |path: &&String| sysctl::is_network_setting(path);
        if let Some(path) = record.settings.0.keys().find(|path| !is_setting(path)) {
            return Err(format!("`{path}` is no network setting"));
        }
        let is_impossible = |own: &&OwnAddress| own.prefix > host_prefix(own.addr);
        if let Some(own) = record.addresses.0.iter().find(is_impossible) {
            return Err(format!("{}/{} is no address", own.addr, own.prefix));
        }
        Ok(record)
    }
}

/// Where a record is kept, and for which boot.
#[derive(Clone, Debug)]
pub(super) struct RecordFile {
    path: PathBuf,
    boot: String,
}

impl RecordFile {
    pub(super) fn at(path: &Path) -> RecordFile {
        // Without it (no /proc), every record is of the same boot, `': the next best.
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        RecordFile { path: path.to_owned(), boot: boot.trim().to_owned() }
    }

    /// Reads the file; nothing was made if there is none.
    pub(super) fn load(&self) -> Result<SettingsRecord, NetError> {
        let corrupt = |what: &dyn std::fmt::Display| {
            self.failed(format!(
                "cannot be read as a record of what was changed here ({what}); remove it, then \
                 check this node's addresses with `ip address` and its settings with sysctl(8)"
            ))
        };
        let text = match files::read_text(&self.path, SIZE_CAP) {
            Ok(text) => text,
            Err(error) => match error.kind() {
                ErrorKind::NotFound => return Ok(SettingsRecord::default()),
                ErrorKind::InvalidData | ErrorKind::FileTooLarge | ErrorKind::InvalidInput => {
                    return Err(corrupt(&error));
                }
                _ => return Err(self.failed(format!("cannot be opened: {error}"))),
            },
        };
        SettingsRecord::parse(&text, &self.boot).map_err(|error| corrupt(&error))
    }

    /// Replaces the file, or removes it if nothing is left to remember.
    pub(super) fn save(&self, record: &SettingsRecord) -> Result<(), NetError> {
        let saved = if record.is_empty() { self.remove() } else { self.replace(record) };
        files::note(&self.path, &saved);
        saved.map_err(|error| self.failed(format!("cannot be written: {error}")))
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn replace(&self, record: &SettingsRecord) -> io::Result<()> {
        let record = SettingsRecord { boot: self.boot.clone(), ..record.clone() };
        let mut bytes = serde_json::to_vec_pretty(&record)?;
        bytes.push(b'\n');
        let folder = match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        // No fsync: the file need not survive what the kernel's own state does not.
        files::replace(&self.path, folder, &bytes, false)
    }

    /// The file does not stand where it was written.
    pub(super) fn is_missing(&self) -> bool {
        !self.path.exists()
    }

    fn failed(&self, reason: String) -> NetError {
        NetError::Record { path: self.path.clone(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SettingsRecord {
        let mut record = SettingsRecord::default();
        record.addresses.put(OwnAddress {
            addr: "10.0.0.100".parse().unwrap(),
            prefix: 32,
            device: "lo".into(),
            valid_lft: None,
        });
        record.links.add("tunl0", true);
        record.links.add("tunl0", false);
        let changed = OwnSysctl { value: "1".into(), previous: "0".into() };
        record.settings.0.insert("net/ipv4/ip_forward".into(), changed);
        record
    }

    fn file(name: &str) -> (tempfile::TempDir, RecordFile) {
        let folder = tempfile::tempdir().unwrap();
        let file = RecordFile { path: folder.path().join(name), boot: "b1".into() };
        (folder, file)
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let (_folder, file) = file("made/net.json");
        assert_eq!(file.load(), Ok(SettingsRecord::default()));
        file.save(&sample()).unwrap();
        assert_eq!(file.load(), Ok(SettingsRecord { boot: "b1".into(), ..sample() }));
    }

    #[test]
    fn nothing_of_an_earlier_boot_is_ours() {
        let (_folder, mut file) = file("net.json");
        file.save(&sample()).unwrap();
        file.boot = "b2".into();
        assert_eq!(file.load(), Ok(SettingsRecord::default()));
    }

    #[test]
    fn with_nothing_to_remember_there_is_no_file() {
        let (_folder, file) = file("net.json");
        file.save(&sample()).unwrap();
        file.save(&SettingsRecord::default()).unwrap();
        assert!(!file.path.exists());
        file.save(&SettingsRecord::default()).unwrap();
    }

    #[test]
    fn a_record_cannot_lead_out_of_the_network_settings() {
        let text = r#"{"boot": "b1", "settings":
            {"net/../../../etc/passwd": {"value": "1", "previous": "0"}}}"#;
        let error = SettingsRecord::parse(text, "b1").unwrap_err();
        assert_eq!(error, "`net/../../../etc/passwd` is no network setting");
        let text = r#"{"boot": "b1", "addresses":
            [{"addr": "10.0.0.1", "prefix": 33, "device": "lo"}]}"#;
        assert_eq!(SettingsRecord::parse(text, "b1"), Err("10.0.0.1/33 is no address".into()));
    }

    #[test]
    fn a_corrupt_record_is_an_error_that_says_what_to_do() {
        let (_folder, file) = file("net.json");
        for corrupt in [&b"{"[..], b"\xff", &vec![b' '; SIZE_CAP as usize + 2]] {
            fs::write(&file.path, corrupt).unwrap();
            let error = file.load().unwrap_err().to_string();
            assert!(error.contains("net.json") && error.contains("remove it"), "{error}");
        }
    }
}
