//! What the ways to boot a kernel have in common: where they keep things, and that nothing of them stays behind.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How much of the console's log is shown; of the others, it is less.
const LINES: usize = 40;

/// How many logs of consoles are kept.
const LOGS: usize = 10;

/// A machine that is booting.
pub(crate) struct Booted {
    /// The channel to the guest.
    pub(crate) wire: UnixStream,
    /// Its processes.
    pub(crate) emulator: Emulator,
    /// The log of its console, and those of its helpers.
    pub(crate) logs: Vec<PathBuf>,
}

/// The processes of a machine; they end with this.
pub(crate) struct Emulator {
    children: Vec<Child>,
    /// Our end of the channel: it is closed at the other end once the last process is gone.
    wire: UnixStream,
}

impl Emulator {
    pub(crate) fn new(children: Vec<Child>, wire: &UnixStream) -> Result<Self> {
        Ok(Self { children, wire: wire.try_clone()? })
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
        // Our child may only have been the parent of the emulator, which then dies a moment later. What the guest sent
        // last is of no interest: only the end is.
        let _ = self.wire.set_read_timeout(Some(Duration::from_secs(5)));
        let mut rest = [0; 4096];
        while matches!(self.wire.read(&mut rest), Ok(n) if n > 0) {}
    }
}

/// Where a machine that is to be booted finds and leaves things.
pub(crate) struct Place {
    /// The cache folder.
    pub(crate) cache: PathBuf,
    /// A folder of this run only, removed at its end.
    pub(crate) run: PathBuf,
    /// The program that the guest starts first.
    pub(crate) program: PathBuf,
    /// The guest's memory.
    pub(crate) memory_mib: u64,
}

/// The log of a console.
pub(crate) struct Console {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
}

/// Refuses a cache folder that cannot be named to an emulator.
pub(crate) fn check_cache(cache: &Path) -> Result<()> {
    if is_odd(cache) {
        bail!(
            "an emulator cannot be told of {}: set CVIP_LAB_CACHE to a folder whose path has only letters, digits and -_./+@~",
            cache.display()
        );
    }
    Ok(())
}

impl Place {
    /// Makes a place for one run.
    pub(crate) fn new(cache: &Path) -> Result<Self> {
        // Of this process's own runs: several may begin at once.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let run = cache.join(format!("run/{}-{number}", std::process::id()));
        // An earlier process with this number was killed before it could clean up.
        let _ = fs::remove_dir_all(&run);
        fs::create_dir_all(&run).with_context(|| format!("cannot make {}", run.display()))?;
        forget_the_dead(cache);
        let mut program = std::env::current_exe().context("cannot find this program's own file")?;
        if is_odd(&program) {
            let copy = run.join("program");
            fs::copy(&program, &copy).context("cannot copy this program's own file")?;
            program = copy;
        }
        Ok(Self { cache: cache.to_path_buf(), run, program, memory_mib: memory()? })
    }

    /// Opens the log of this run's console, and forgets those of runs long ago.
    pub(crate) fn console(&self, kernel: &str) -> Result<Console> {
        let mut logs: Vec<_> = fs::read_dir(&self.cache)?
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("console-"))
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        logs.sort();
        for (_, old) in logs.iter().rev().skip(LOGS - 1) {
            let _ = fs::remove_file(old);
        }
        let name = self.run.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = self.cache.join(format!("console-{kernel}-{name}.log"));
        let file = File::options().create(true).append(true).open(&path)?;
        Ok(Console { path, file })
    }

    /// A name with which to try whether there is room in the host's memory.
    pub(crate) fn shm_probe(&self) -> PathBuf {
        let name = self.run.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Path::new("/dev/shm").join(format!("cvip-lab-{name}"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.run);
    }
}

/// Whether a path means something else on a kernel's command line, or in a list of folders.
fn is_odd(path: &Path) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "-_./+@~".contains(c);
    !path.to_str().is_some_and(|text| text.chars().all(plain))
}

/// Removes the folders of runs that were killed before they could.
fn forget_the_dead(cache: &Path) {
    for entry in fs::read_dir(cache.join("run")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.split('-').next().unwrap_or_default();
        if !pid.is_empty() && !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The guest's memory: a half of what is free here, within what the tests need and what boots fast.
fn memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let free = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(2 * 1024 * 1024);
    Ok((free / 1024 / 2).clamp(512, 4096))
}

/// The ends of logs, under their names.
pub(crate) fn tails(logs: &[PathBuf]) -> String {
    let mut all = String::new();
    for (n, log) in logs.iter().enumerate() {
        let text = end(log);
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(if n == 0 { LINES } else { LINES / 8 })..];
        if !last.is_empty() {
            all += &format!("--- the end of {} ---\n{}\n", log.display(), last.join("\n"));
        }
    }
    all + "---"
}

fn end(log: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(log) {
        let length = file.metadata().map(|meta| meta.len()).unwrap_or(0);
        let _ = file.seek(SeekFrom::Start(length.saturating_sub(16 * 1024)));
        let _ = file.read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_a_command_line_would_split_is_odd() {
        for odd in ["/a b", "/a,b", "/a:b", "/a\"b", "/a\\b"] {
            assert!(is_odd(Path::new(odd)), "{odd}");
        }
        for plain in ["/home/jürgen/cvip-0.1/target", "/tmp/a_b+c@d~1"] {
            assert!(!is_odd(Path::new(plain)), "{plain}");
        }
    }
}
