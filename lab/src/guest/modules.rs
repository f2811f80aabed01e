//! Loads kernel modules without `modprobe`: the first one (overlayfs) is needed before there is a root file system in
//! which `modprobe` would find anything, and a call per module is faster than a process per module.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::kmod::{ModuleInitFlags, finit_module};

/// What the lab loads once, before the command runs; a kernel that has it built in, or lacks it, is fine.
pub(crate) const WANTED: &[&str] = &[
    "ip_vs",
    "veth",
    "bridge",
    "dummy",
    "ipip",
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "raw_diag",
    "unix_diag",
    "af_packet_diag",
    "netlink_diag",
    "af_packet",
    "nf_conntrack",
    "nf_conntrack_netlink",
    "ip_tables",
    "iptable_filter",
    "iptable_nat",
    "iptable_mangle",
    "xt_mark",
    "nf_tables",
    "sch_netem",
    "sch_ingress",
    "cls_matchall",
    "cls_flower",
    "act_gact",
];

/// Every scheduler and persistence engine of IPVS up to Linux 6.12, for a kernel whose modules only `modprobe` can load.
pub(crate) const SCHEDULERS: &[&str] = &[
    "ip_vs_dh",
    "ip_vs_fo",
    "ip_vs_ftp",
    "ip_vs_lblc",
    "ip_vs_lblcr",
    "ip_vs_lc",
    "ip_vs_mh",
    "ip_vs_nq",
    "ip_vs_ovf",
    "ip_vs_pe_sip",
    "ip_vs_rr",
    "ip_vs_sed",
    "ip_vs_sh",
    "ip_vs_twos",
    "ip_vs_wlc",
    "ip_vs_wrr",
];

/// The modules of the running kernel.
pub(crate) struct Modules {
    release: String,
    folder: Option<PathBuf>,
    /// A module's name to its file and the files that must be loaded before it, relative to the folder.
    known: HashMap<String, (String, Vec<String>)>,
    loaded: HashSet<String>,
}

impl Modules {
    /// Reads what modules there are: in this folder, or where the running kernel's modules are by custom.
    pub(crate) fn open(folder: Option<&Path>) -> Result<Self> {
        let release =
            nix::sys::utsname::uname().context("uname")?.release().to_string_lossy().into_owned();
        let customary = ["/usr/lib/modules", "/lib/modules", "/usr/lib/uml/modules"];
        let folder = folder
            .map(Path::to_path_buf)
            .into_iter()
            .chain(customary.map(|parent| Path::new(parent).join(&release)))
            .find(|folder| folder.join("modules.dep").exists());
        let table =
            folder.as_ref().and_then(|folder| fs::read_to_string(folder.join("modules.dep")).ok());
        Ok(Self {
            release,
            folder,
            known: parse_table(&table.unwrap_or_default()),
            loaded: HashSet::new(),
        })
    }

    /// The kernel's release, as `uname -r` has it.
    pub(crate) fn release(&self) -> &str {
        &self.release
    }

    /// The folder the modules are in.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Loads a module and what it needs; false if there is none of that name or the kernel refuses it.
    pub(crate) fn load(&mut self, name: &str) -> bool {
        let Some((file, needs)) = self.known.get(&plain(name)).cloned() else {
            return false;
        };
        // modules.dep lists what is needed last first.
        needs.iter().rev().chain([&file]).all(|file| self.insert(file))
    }

    /// Loads every module whose name starts so.
    pub(crate) fn load_matching(&mut self, start: &str) {
        let names: Vec<String> =
            self.known.keys().filter(|name| name.starts_with(start)).cloned().collect();
        for name in names {
            self.load(&name);
        }
    }

    fn insert(&mut self, relative: &str) -> bool {
        if self.loaded.contains(relative) {
            return true;
        }
        let Some(folder) = &self.folder else {
            return false;
        };
        let path = folder.join(relative);
        let Ok(file) = File::open(&path) else {
            return false;
        };
        let flags = if relative.ends_with(".ko") {
            ModuleInitFlags::empty()
        } else {
            ModuleInitFlags::from_bits_retain(MODULE_INIT_COMPRESSED_FILE)
        };
        match finit_module(&file, c"", flags) {
            Ok(()) | Err(nix::Error::EEXIST) => {
                self.loaded.insert(relative.to_owned());
                true
            }
            Err(error) => {
                eprintln!("lab: {}: {error}", path.display());
                false
            }
        }
    }
}

/// From the kernel's include/uapi/linux/module.h: the kernel itself is to unpack the file (since Linux 5.17).
const MODULE_INIT_COMPRESSED_FILE: u32 = 4;

/// A module's name is its file's, with every `-` as `_`, and without `.ko` and the compression's ending.
fn plain(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split(".ko").next().unwrap_or(name).replace('-', "_")
}

fn parse_table(table: &str) -> HashMap<String, (String, Vec<String>)> {
    table
        .lines()
        .filter_map(|line| {
            let (file, needs) = line.split_once(':')?;
            Some((
                plain(file),
                (file.to_owned(), needs.split_whitespace().map(str::to_owned).collect()),
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_gives_each_module_and_what_it_needs() {
        let table = parse_table(
            "kernel/net/netfilter/ipvs/ip_vs.ko: kernel/net/netfilter/nf_conntrack.ko kernel/lib/libcrc32c.ko\n\
             kernel/drivers/net/dummy.ko.xz:\nkernel/net/nf-log.ko.zst: a.ko\n",
        );
        assert_eq!(table["ip_vs"].1.len(), 2);
        assert_eq!(table["dummy"], ("kernel/drivers/net/dummy.ko.xz".to_owned(), vec![]));
        assert_eq!(table["nf_log"].1, ["a.ko"]);
    }
}
