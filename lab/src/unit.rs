//! A service of systemd without systemd: what its unit file says of user, capabilities and privileges, for a program that a
//! test starts itself.
//!
//! Mounts and system call filters are systemd's own work, and are not done here: `tests/systemd.rs` has systemd do them.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The variable that names the unit file under which a [`Deployment`](crate::Deployment) starts cvipd.
pub const VARIABLE: &str = "CVIP_LAB_UNIT";

/// The user id of the unit's user, whatever its name: one of a system account.
const USER_ID: u32 = 899;

/// What a unit file says of how its program is confined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    has_user: bool,
    ambient: Vec<String>,
    bounding: Option<Vec<String>>,
    no_new_privileges: bool,
}

impl Unit {
    /// The unit that [`VARIABLE`] names, if any.
    pub(crate) fn of_environment() -> Result<Option<Unit>> {
        let Some(path) = std::env::var_os(VARIABLE).map(PathBuf::from) else { return Ok(None) };
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Unit::parse(&text).map(Some)
    }

    fn parse(text: &str) -> Result<Unit> {
        let values = |key: &str| -> Vec<String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            lines.map(str::to_owned).collect()
        };
        let capabilities = |value: &str| -> Vec<String> {
            let names = value.split_whitespace();
            names.map(|name| name.trim_start_matches("CAP_").to_ascii_lowercase()).collect()
        };
        let unit = Unit {
            has_user: values("User").iter().any(|user| user != "root"),
            ambient: values("AmbientCapabilities").iter().flat_map(|v| capabilities(v)).collect(),
            bounding: values("CapabilityBoundingSet").last().map(|value| capabilities(value)),
            no_new_privileges: values("NoNewPrivileges").iter().any(|value| value == "yes"),
        };
        // A unit that confines nothing would be no test.
        ensure!(
            unit.has_user && unit.bounding.is_some(),
            "the unit has no User= and no CapabilityBoundingSet="
        );
        Ok(unit)
    }

    /// The words of setpriv(1) before the program and its arguments.
    fn words(&self) -> Vec<String> {
        let set = |names: &[String]| -> String {
            let names: Vec<String> = names.iter().map(|name| format!("+{name}")).collect();
            ["-all".to_owned()].into_iter().chain(names).collect::<Vec<_>>().join(",")
        };
        let mut words = vec![
            format!("--reuid={USER_ID}"),
            format!("--regid={USER_ID}"),
            "--clear-groups".to_owned(),
            format!("--inh-caps={}", set(&self.ambient)),
            format!("--ambient-caps={}", set(&self.ambient)),
        ];
        words.extend(self.bounding.iter().map(|names| format!("--bounding-set={}", set(names))));
        words.extend(self.no_new_privileges.then(|| "--no-new-privs".to_owned()));
        words
    }

    /// The command, run in `namespace` as the unit says.
    pub(crate) fn confine(
        &self,
        namespace: impl FnOnce(&str) -> Command,
        program: &Path,
    ) -> Command {
        let mut command = namespace("setpriv");
        command.args(self.words()).arg(program);
        command
    }

    /// Gives a folder or a file to the unit's user; a folder that is missing is made.
    pub(crate) fn give(path: &Path) -> Result<()> {
        if !path.exists() {
            fs::create_dir_all(path)?;
        }
        chown(path, Some(USER_ID), Some(USER_ID))
            .with_context(|| format!("cannot give {} to user {USER_ID}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_confines_as_its_file_says_and_one_that_confines_nothing_is_refused() {
        let text = "[Service]\nUser=cvip\nAmbientCapabilities=CAP_NET_ADMIN CAP_BPF\n\
                    CapabilityBoundingSet=CAP_NET_ADMIN CAP_BPF CAP_KILL\nNoNewPrivileges=yes\n";
        let words = Unit::parse(text).unwrap().words();
        for word in [
            "--reuid=899",
            "--ambient-caps=-all,+net_admin,+bpf",
            "--bounding-set=-all,+net_admin,+bpf,+kill",
            "--no-new-privs",
        ] {
            assert!(words.iter().any(|given| given == word), "{word}: {words:?}");
        }
        assert!(Unit::parse("[Service]\nUser=cvip\n").is_err());
        assert!(Unit::parse("[Service]\nCapabilityBoundingSet=CAP_KILL\n").is_err());
    }
}
