//! Runs commands in the lab: what `cargo xtask lab` and the other commands of xtask call.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::emulator::{self, Booted, Place};
use crate::frame::Spec;
use crate::host_kernel;
use crate::inside::in_lab;
use crate::layer::Layer;
use crate::packages;
use crate::qemu;
use crate::session::{self, DidNotBoot, Ended, Limits, Streams};
use crate::toolchain;
use crate::uml;

/// Which kernel to run on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KernelChoice {
    /// This machine's where it has IPVS, else user-mode Linux, else QEMU.
    #[default]
    Auto,
    /// This machine's own, in namespaces; needs root.
    Host,
    /// User-mode Linux.
    Uml,
    /// QEMU, emulating every instruction.
    Qemu,
}

impl FromStr for KernelChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "auto" => Ok(Self::Auto),
            "host" => Ok(Self::Host),
            "uml" => Ok(Self::Uml),
            "qemu" => Ok(Self::Qemu),
            _ => Err(format!("no kernel `{name}`: it is one of auto, host, uml, qemu")),
        }
    }
}

impl fmt::Display for KernelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Host => "host",
            Self::Uml => "uml",
            Self::Qemu => "qemu",
        })
    }
}

/// What a command in the lab left: its status (128 + n for a signal n) and what it wrote.
#[derive(Debug)]
pub struct Output {
    /// The status, as a shell has it.
    pub status: i32,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// A lab in the making; [`Lab::run`] boots it, runs one command and ends it.
#[derive(Clone, Debug)]
pub struct Lab {
    choice: KernelChoice,
    cache: PathBuf,
    packages: Vec<String>,
    env: Vec<(OsString, OsString)>,
    timeout: Option<Duration>,
    input: Vec<u8>,
}

impl Lab {
    /// A lab on this kernel.
    ///
    /// # Errors
    /// If there is no cache folder to work in.
    pub fn new(choice: KernelChoice) -> Result<Self> {
        if in_lab() && choice != KernelChoice::Host {
            bail!("this is a lab already: run the command itself");
        }
        Ok(Self {
            choice,
            cache: packages::cache()?,
            packages: Vec::new(),
            env: Vec::new(),
            timeout: None,
            input: Vec::new(),
        })
    }

    /// Debian packages that the command needs beside the usual ones.
    #[must_use]
    pub fn packages(mut self, names: &[&str]) -> Self {
        self.packages.extend(names.iter().map(ToString::to_string));
        self
    }

    /// One more Debian package; see [`Lab::packages`].
    #[must_use]
    pub fn package(self, name: &str) -> Self {
        self.packages(&[name])
    }

    /// A variable of the command's environment. Those that begin with `CVIP_`, `CARGO_` or `RUST` are there anyway,
    /// without those that cargo itself sets for the programs that it runs.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// How long the command may run, once the kernel is up; its status is 124 if it takes longer.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// What the command reads as its standard input with [`Lab::output`].
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Runs a command with the caller's input and outputs; its status, 128 + n for a signal n.
    ///
    /// # Errors
    /// If no lab could be had; not if the command fails.
    pub fn run<S: AsRef<OsStr>>(&self, command: &[S]) -> Result<i32> {
        Ok(self.start(command, &|| Streams::Inherit)?.code)
    }

    /// Runs a command and keeps what it writes.
    ///
    /// # Errors
    /// If no lab could be had; not if the command fails.
    pub fn output<S: AsRef<OsStr>>(&self, command: &[S]) -> Result<Output> {
        let ended = self.start(command, &|| Streams::Capture(self.input.clone()))?;
        Ok(Output { status: ended.code, stdout: ended.stdout, stderr: ended.stderr })
    }

    fn start<S: AsRef<OsStr>>(
        &self,
        command: &[S],
        streams: &dyn Fn() -> Streams,
    ) -> Result<Ended> {
        if command.is_empty() {
            bail!("no command to run in the lab");
        }
        let argv: Vec<OsString> = command.iter().map(|part| part.as_ref().to_owned()).collect();
        emulator::check_cache(&self.cache)?;
        fs::create_dir_all(&self.cache).with_context(|| {
            format!(
                "cannot make {}: set CVIP_LAB_CACHE to a folder that can be written",
                self.cache.display()
            )
        })?;
        if self.choice != KernelChoice::Auto {
            return self.boot(self.choice, &argv, streams);
        }
        // The first kernel that comes up. Input has not been touched by one that did not.
        let mut reasons = Vec::new();
        for choice in [KernelChoice::Host, KernelChoice::Uml, KernelChoice::Qemu] {
            match self.boot(choice, &argv, streams) {
                Err(error) if error.is::<DidNotBoot>() => {
                    // That this machine's own kernel will not do is what the others are for.
                    if choice == KernelChoice::Uml {
                        eprintln!("lab: no user-mode Linux, trying QEMU: {error:#}");
                    }
                    reasons.push(format!("{choice}: {error:#}"));
                }
                result => return result,
            }
        }
        bail!("no kernel with IPVS to be had:\n{}", reasons.join("\n"))
    }

    /// Runs the command on one kernel; [`DidNotBoot`] if it cannot be had here.
    fn boot(
        &self,
        choice: KernelChoice,
        argv: &[OsString],
        streams: &dyn Fn() -> Streams,
    ) -> Result<Ended> {
        let unavailable =
            |error: anyhow::Error| anyhow::Error::from(DidNotBoot(format!("{error:#}")));
        let spec = |own: Option<&Layer>| self.spec(choice, argv, own);
        match choice {
            KernelChoice::Auto | KernelChoice::Host => {
                host_kernel::check(self.choice == choice).map_err(unavailable)?;
                let place = Place::new(&self.cache)?;
                host_kernel::run(&place, &spec(None)?, streams(), self.timeout)
            }
            KernelChoice::Uml => {
                let kernel = uml::layer(&self.cache).map_err(unavailable)?;
                let place = Place::new(&self.cache)?;
                let spec = spec(Some(&kernel))?;
                let booted = uml::boot(&kernel, &place).map_err(unavailable)?;
                let limits = Limits { boot: uml::BOOT, command: self.timeout, window: uml::WINDOW };
                self.session(booted, spec, streams(), &limits)
            }
            KernelChoice::Qemu => {
                let parts = qemu::parts(&self.cache).map_err(unavailable)?;
                let place = Place::new(&self.cache)?;
                let spec = spec(Some(&parts.kernel))?;
                let booted = qemu::boot(&parts, &place, &spec.scratch).map_err(unavailable)?;
                let limits =
                    Limits { boot: qemu::BOOT, command: self.timeout, window: qemu::WINDOW };
                self.session(booted, spec, streams(), &limits)
            }
        }
    }

    /// Runs the session, and shows the console's end if it was the kernel's fault.
    fn session(
        &self,
        booted: Booted,
        spec: Spec,
        streams: Streams,
        limits: &Limits,
    ) -> Result<Ended> {
        let Booted { wire, emulator, logs } = booted;
        let result = session::run(wire, spec, streams, limits);
        drop(emulator);
        result.map_err(|error| {
            let what = format!("{error:#}\n{}", emulator::tails(&logs));
            if error.is::<DidNotBoot>() { DidNotBoot(what).into() } else { anyhow::anyhow!(what) }
        })
    }

    /// The layers that every kernel has: the base and what was asked for.
    fn layers(&self) -> Result<Vec<Layer>> {
        let mut layers = vec![packages::base(&self.cache)?];
        for name in &self.packages {
            layers.push(packages::ensure(
                &self.cache,
                &format!("with-{name}"),
                std::slice::from_ref(name),
                None,
            )?);
        }
        Ok(layers)
    }

    /// What to run, with the usual layers, those asked for, and the kernel's own.
    fn spec(&self, kernel: KernelChoice, argv: &[OsString], own: Option<&Layer>) -> Result<Spec> {
        let mut layers = self.layers()?;
        layers.extend(own.cloned());
        let scratch = self.cache.join("scratch");
        fs::create_dir_all(&scratch)
            .with_context(|| format!("cannot make {}", scratch.display()))?;
        let all = self.cache.join("layers");
        let halves = |half: fn(&Layer) -> PathBuf| -> Vec<PathBuf> {
            layers
                .iter()
                .map(half)
                .filter(|folder| {
                    folder.read_dir().is_ok_and(|mut entries| entries.next().is_some())
                })
                .filter_map(|folder| folder.strip_prefix(&all).map(Path::to_path_buf).ok())
                .collect()
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Spec {
            kernel: kernel.to_string(),
            argv: argv.to_vec(),
            env: environment(&kernel.to_string(), &scratch, &self.env, std::env::vars_os()),
            cwd: std::env::current_dir().unwrap_or_else(|_| "/".into()),
            over: halves(Layer::over),
            under: halves(Layer::under),
            scratch,
            layers: all,
            terminal: None,
            now: (now.as_secs(), now.subsec_nanos()),
        })
    }
}

/// Folders of programs that are on every path in the lab.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The command's environment: little of the caller's, so that a test does not depend on whose machine it runs on.
fn environment(
    kernel: &str,
    scratch: &Path,
    asked: &[(OsString, OsString)],
    callers: impl Iterator<Item = (OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    let mut env: Vec<(OsString, OsString)> = vec![
        ("HOME".into(), "/root".into()),
        ("USER".into(), "root".into()),
        ("LOGNAME".into(), "root".into()),
        ("LANG".into(), "C.UTF-8".into()),
    ];
    let mut path = OsString::from(PATH);
    let callers: Vec<(OsString, OsString)> = callers.collect();
    env.extend(toolchain::homes(&callers));
    for (name, value) in callers {
        let text = name.to_string_lossy();
        if text == "PATH" {
            // Programs of the caller's own (a toolchain in a home folder) come last.
            for folder in std::env::split_paths(&value) {
                if folder.is_absolute() && !std::env::split_paths(PATH).any(|ours| ours == folder) {
                    path.push(":");
                    path.push(folder);
                }
            }
        } else if (["CVIP_", "CARGO_", "RUST"].iter().any(|start| text.starts_with(start))
            && !toolchain::is_set_by_cargo(&text))
            || text == "TERM"
        {
            env.push((name, value));
        }
    }
    env.push(("PATH".into(), path));
    env.push(("CVIP_LAB".into(), kernel.into()));
    env.push(("CVIP_LAB_SCRATCH".into(), scratch.into()));
    env.extend(asked.iter().cloned());
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(env: &'a [(OsString, OsString)], name: &str) -> Option<&'a str> {
        env.iter().rev().find(|(n, _)| n == name).and_then(|(_, v)| v.to_str())
    }

    #[test]
    fn only_the_projects_variables_reach_the_command() {
        let callers = [
            ("CVIP_X", "1"),
            ("RUST_LOG", "debug"),
            ("CARGO_MANIFEST_DIR", "/src/xtask"),
            ("CARGO_PKG_NAME", "xtask"),
            ("CARGO_TARGET_DIR", "/t"),
            ("LD_PRELOAD", "evil.so"),
            ("PATH", "/home/me/bin:/usr/bin:rel"),
        ];
        let callers = callers.map(|(n, v)| (n.into(), v.into())).into_iter();
        let env = environment("uml", Path::new("/s"), &[("A".into(), "b".into())], callers);
        assert_eq!(value(&env, "CVIP_X"), Some("1"));
        assert_eq!(value(&env, "RUST_LOG"), Some("debug"));
        for cargos_or_strange in ["LD_PRELOAD", "CARGO_MANIFEST_DIR", "CARGO_PKG_NAME"] {
            assert_eq!(value(&env, cargos_or_strange), None);
        }
        assert_eq!(value(&env, "CARGO_TARGET_DIR"), Some("/t"));
        assert_eq!(value(&env, "A"), Some("b"));
        assert_eq!(value(&env, "CVIP_LAB"), Some("uml"));
        assert_eq!(value(&env, "PATH"), Some(format!("{PATH}:/home/me/bin").as_str()));
    }

    #[test]
    fn a_kernel_is_chosen_by_its_name() {
        for choice in
            [KernelChoice::Auto, KernelChoice::Host, KernelChoice::Uml, KernelChoice::Qemu]
        {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert!("vmware".parse::<KernelChoice>().is_err());
    }
}
