//! Which files of the directory are hooks, and which are refused.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::Uid;

use super::messages::RefusedHook;

/// What stands in the directory.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct HookFiles {
    /// The names of the hooks, in the order in which they are run.
    pub(super) names: Vec<String>,
    /// What is not run.
    pub(super) refused: Vec<RefusedHook>,
    /// Why nothing of it is run.
    pub(super) problem: Option<String>,
}

/// Reads the directory. One that is not there has no hooks.
pub(super) fn read(directory: &Path) -> HookFiles {
    let me = Uid::effective().as_raw();
    read_as(directory, me).unwrap_or_else(|error| HookFiles {
        problem: (error.kind() != io::ErrorKind::NotFound)
            .then(|| format!("{}: {error}", directory.display())),
        ..HookFiles::default()
    })
}

fn read_as(directory: &Path, me: u32) -> io::Result<HookFiles> {
    let mut files = HookFiles::default();
    let metadata = fs::metadata(directory)?;
    if let Some(reason) = exposed(&metadata, me, directory) {
        files.problem = Some(format!("{}: {reason}", directory.display()));
        return Ok(files);
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        names.extend(name.to_str().filter(|name| is_hook_name(name)).map(str::to_owned));
    }
    names.sort_unstable();
    for name in names {
        let path = directory.join(&name);
        // The target of a symbolic link is what is run.
        let refusal = match fs::metadata(&path) {
            Ok(metadata) => refusal(&metadata, me, &path),
            Err(error) => Some(error.to_string()),
        };
        match refusal {
            None => files.names.push(name),
            Some(reason) => files.refused.push(RefusedHook { name, reason }),
        }
    }
    Ok(files)
}

/// A name that run-parts(8) takes: what editors and package managers leave behind has another.
fn is_hook_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}

/// Why a file is not run, and what to do.
fn refusal(metadata: &Metadata, me: u32, path: &Path) -> Option<String> {
    if !metadata.is_file() {
        return Some("it is no regular file; move it elsewhere".to_owned());
    }
    exposed(metadata, me, path).or_else(|| {
        let is_executable = metadata.mode() & 0o111 != 0;
        (!is_executable).then(|| format!("it is not executable: chmod 755 {}", path.display()))
    })
}

/// Why others than root and this user could change what is run, and what to do.
fn exposed(metadata: &Metadata, me: u32, path: &Path) -> Option<String> {
    let path = path.display();
    if metadata.uid() != 0 && metadata.uid() != me {
        return Some(format!("it is owned by another user than root: chown root {path}"));
    }
    (metadata.mode() & 0o022 != 0)
        .then(|| format!("its group or others may write it: chmod go-w {path}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn hooks_are_executable_files_that_no_other_user_may_write_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("hooks.d");
        assert_eq!(read(&dir), HookFiles::default(), "it is not there");
        fs::create_dir(&dir).unwrap();
        mode(&dir, 0o755);
        assert_eq!(read(&dir), HookFiles::default(), "it is empty");
        for (name, bits) in [
            ("20-mail", 0o755),
            ("10-bgp", 0o700),
            ("30_plain", 0o644),
            ("40-group", 0o775),
            ("50-others", 0o757),
            ("60-mail.dpkg-old", 0o755),
            ("70-mail~", 0o755),
            (".hidden", 0o755),
        ] {
            fs::write(dir.join(name), "").unwrap();
            mode(&dir.join(name), bits);
        }
        fs::create_dir(dir.join("80-directory")).unwrap();
        symlink(dir.join("10-bgp"), dir.join("90-link")).unwrap();
        symlink(dir.join("gone"), dir.join("95-broken")).unwrap();
        let files = read(&dir);
        assert_eq!(files.names, ["10-bgp", "20-mail", "90-link"]);
        let refused: Vec<&str> = files.refused.iter().map(|refused| &*refused.name).collect();
        assert_eq!(refused, ["30_plain", "40-group", "50-others", "80-directory", "95-broken"]);
        assert!(files.refused[0].reason.contains("it is not executable: chmod 755 /"));
        assert!(files.refused[1].reason.contains("its group or others may write it: chmod go-w"));
        assert!(files.refused[3].reason.starts_with("it is no regular file"));
        assert_eq!(files.problem, None);
    }

    #[test]
    fn nothing_of_a_directory_is_run_that_others_may_change() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("10-bgp"), "").unwrap();
        mode(&dir.path().join("10-bgp"), 0o755);
        mode(dir.path(), 0o777);
        let files = read(dir.path());
        assert_eq!(files.names, [""; 0]);
        assert!(files.problem.unwrap().contains("its group or others may write it"));
        mode(dir.path(), 0o755);
        // Neither root's nor that of the user who looks.
        let owner = fs::metadata(dir.path()).unwrap().uid();
        if owner != 0 {
            let files = read_as(dir.path(), owner + 1).unwrap();
            assert!(files.problem.unwrap().contains("owned by another user than root"));
        }
        let file = dir.path().join("10-bgp");
        assert!(read(&file).problem.is_some(), "it is a file");
    }
}
