//! What the keeper made, in a small file, so that a cvipd that was killed and started again
//! still knows what is its own to undo.
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

use super::addresses::host_prefix;
use super::{NetError, sysctl};
use crate::files;

/// Far more than a thousand CVIPs need.
const SIZE_CAP: u64 = 1 << 20;

/// Everything that the keeper made.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct SettingsRecord {
    /// The kernel's identity of the boot (`kernel.random.boot_id`).
    #[serde(default)]
    boot: String,
    #[serde(default)]
    pub(super) addresses: Vec<OwnAddress>,
    #[serde(default)]
    pub(super) links: Vec<OwnLink>,
    /// By path.
    #[serde(default)]
    pub(super) settings: BTreeMap<String, OwnSetting>,
}

/// An address that the keeper added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OwnAddress {
    pub(super) addr: IpAddr,
    pub(super) prefix: u8,
    pub(super) device: String,
    /// Seconds that each renewal gives it; none: it stays for ever.
    #[serde(default)]
    pub(super) valid_lft: Option<u32>,
}

/// A link that the keeper brought up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OwnLink {
    pub(super) device: String,
    /// It made it, too.
    pub(super) made: bool,
}

/// A setting that the keeper changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OwnSetting {
    /// What it was given.
    pub(super) value: String,
    /// What somebody else had given it.
    pub(super) previous: String,
}

impl SettingsRecord {
    pub(super) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.links.is_empty() && self.settings.is_empty()
    }

    /// The own address on this interface.
    pub(super) fn address(&self, addr: IpAddr, device: &str) -> Option<&OwnAddress> {
        self.addresses.iter().find(|own| own.addr == addr && own.device == device)
    }

    /// Notes an address, once.
    pub(super) fn put_address(&mut self, own: OwnAddress) {
        self.forget_address(own.addr, &own.device);
        self.addresses.push(own);
    }

    pub(super) fn forget_address(&mut self, addr: IpAddr, device: &str) {
        self.addresses.retain(|own| own.addr != addr || own.device != device);
    }

    /// Notes a link, unless it is noted already.
    pub(super) fn put_link(&mut self, device: &str, made: bool) {
        if !self.links.iter().any(|own| own.device == device) {
            self.links.push(OwnLink { device: device.to_owned(), made });
        }
    }

    pub(super) fn forget_link(&mut self, device: &str) {
        self.links.retain(|own| own.device != device);
    }

    /// What a file's text says, if it was written in this boot; nothing if in an earlier one.
    fn parse(text: &str, boot: &str) -> Result<SettingsRecord, String> {
        let record: SettingsRecord =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        if record.boot != boot {
            return Ok(SettingsRecord::default());
        }
        if let Some(path) = record.settings.keys().find(|path| !sysctl::is_network_setting(path)) {
            return Err(format!("`{path}' is no network setting"));
        }
        let impossible = |own: &&OwnAddress| own.prefix > host_prefix(own.addr);
        if let Some(own) = record.addresses.iter().find(impossible) {
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
                 check this node's addresses with `ip address' and its settings with sysctl(8)"
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
        record.put_address(OwnAddress {
            addr: "10.0.0.100".parse().unwrap(),
            prefix: 32,
            device: "lo".into(),
            valid_lft: None,
        });
        record.put_link("tunl0", true);
        record.put_link("tunl0", false);
        let changed = OwnSetting { value: "1".into(), previous: "0".into() };
        record.settings.insert("net/ipv4/ip_forward".into(), changed);
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
        assert_eq!(error, "`net/../../../etc/passwd' is no network setting");
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
