//! The variables that cargo sets for a program which it runs.
//!
//! A cargo that such a program starts must not see them: build scripts name some of them (ring's names
//! `CARGO_MANIFEST_DIR`), and each change of one has everything that stands on such a crate built anew.

use std::ffi::OsString;
use std::path::Path;

/// Variables of this exact name.
const NAMES: [&str; 8] = [
    "CARGO",
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_MAKEFLAGS",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_TARGET_TMPDIR",
    "OUT_DIR",
    "RUST_RECURSION_COUNT",
];

/// Variables whose names begin like this.
const BEGINNINGS: [&str; 5] =
    ["CARGO_BIN_EXE_", "CARGO_CFG_", "CARGO_FEATURE_", "CARGO_MANIFEST_", "CARGO_PKG_"];

/// True for a variable that cargo or rustup sets for a program which it runs, and that is nobody's setting.
#[must_use]
pub fn is_set_by_cargo(name: &str) -> bool {
    NAMES.contains(&name) || BEGINNINGS.iter().any(|start| name.starts_with(start))
}

/// Where cargo and rustup keep what they have fetched, for a command whose home is another folder; nothing of it where
/// the caller's environment says so already.
pub(crate) fn homes(callers: &[(OsString, OsString)]) -> Vec<(OsString, OsString)> {
    let value = |name: &str| callers.iter().find(|(n, _)| n == name).map(|(_, value)| value);
    let Some(home) = value("HOME") else { return Vec::new() };
    let places = [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")];
    let missing = places.into_iter().filter(|(name, _)| value(name).is_none());
    let there = missing.map(|(name, folder)| (name, Path::new(home).join(folder)));
    let there = there.filter(|(_, folder)| folder.is_dir());
    there.map(|(name, folder)| (name.into(), folder.into_os_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_sets_is_told_from_what_people_set() {
        for name in [
            "CARGO",
            "CARGO_MANIFEST_DIR",
            "CARGO_MANIFEST_PATH",
            "CARGO_PKG_NAME",
            "CARGO_PKG_VERSION_PRE",
            "CARGO_BIN_EXE_cvipd",
            "OUT_DIR",
            "RUST_RECURSION_COUNT",
        ] {
            assert!(is_set_by_cargo(name), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_JOBS",
            "CARGO_NET_OFFLINE",
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_TERM_COLOR",
            "RUSTUP_HOME",
            "RUSTUP_TOOLCHAIN",
            "RUSTFLAGS",
            "RUST_BACKTRACE",
        ] {
            assert!(!is_set_by_cargo(name), "{name}");
        }
    }

    #[test]
    fn a_command_with_another_home_finds_what_was_fetched() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        std::fs::create_dir_all(dir.join(".cargo")).unwrap();
        let home = |more: &[(&str, &str)]| {
            let mut env: Vec<(OsString, OsString)> =
                vec![("HOME".into(), dir.as_os_str().to_owned())];
            env.extend(more.iter().map(|(n, v)| ((*n).into(), (*v).into())));
            homes(&env)
        };
        assert_eq!(home(&[]), [("CARGO_HOME".into(), dir.join(".cargo").into_os_string())]);
        assert_eq!(home(&[("CARGO_HOME", "/elsewhere")]), []);
    }
}
