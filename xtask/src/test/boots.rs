//! The test programs that run in the lab: which boots they get, and what comes of each.
//!
//! On the fast kernel each module of a test program gets a boot of its own: what one leaves behind
//! in the kernel, or breaks in it, is not the next one's trouble. (Linux 6.1 now and then never
//! frees a network device of a namespace that is gone, and then every further namespace waits for
//! it.) The stock kernel takes longer to come up than most modules take, so that there a whole
//! program gets one.
//!
//! For the same reason, and because an emulator on a busy machine can stall for longer than any
//! time-out that a test should have, tests that fail are run a second time. If they then pass,
//! that is said: a test that needs it often is a test to fix.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cvip_lab::{KernelChoice, Lab};

use crate::build;

/// Test programs whose tests wait more than they work, and how many of them run at once; others
/// run as many as there are processors.
const WAITING: [(&str, &str); 4] = [
    ("idle", "--test-threads=1"),
    ("kernel", "--test-threads=4"),
    ("metrics", "--test-threads=1"),
    ("outages", "--test-threads=1"),
];

const METRICS_PACKAGES: &[&str] =
    &["etcd-server", "etcd-client", "prometheus", "prometheus-node-exporter"];

const KERNEL_PACKAGES: &[&str] =
    &["bird2", "etcd-client", "etcd-server", "kubernetes-client", "xdm", "xvfb"];

/// What test programs in the lab need beside the lab's own packages.
const PACKAGES: [(&str, &[&str]); 11] = [
    ("checks", &["dnsmasq-base"]),
    ("cluster_page", cvip_lab::etcd::PACKAGES),
    ("etcd", cvip_lab::etcd::PACKAGES),
    ("keepalived", cvip_lab::keepalived::PACKAGES),
    ("kernel", KERNEL_PACKAGES),
    ("ldirectord", &["ldirectord"]),
    ("metrics", METRICS_PACKAGES),
    ("model", cvip_lab::etcd::PACKAGES),
    ("outages", cvip_lab::etcd::PACKAGES),
    ("packages", &["lintian", "rpm"]),
    ("systemd", cvip_lab::systemd::PACKAGES),
];

/// Modules of test programs that can be run a second time with each cvipd confined as its unit says.
const UNDER_THE_UNIT: [(&str, &str); 3] =
    [("kernel", "join_leave"), ("kernel", "forwarding"), ("outages", "takeover")];

/// How many of the lab's kernels share a processor: most tests wait as long as they work.
pub(super) const ON_A_PROCESSOR: usize = 2;

/// The unit.
const UNIT: &str = "packaging/cvipd.service";

/// How long the tests of one boot may take on a busy machine: so long, and so much for each. A
/// kernel in which nothing moves any more is not to hold up everything else.
const BOOT_WITHIN: Duration = Duration::from_secs(180);
const TEST_WITHIN: Duration = Duration::from_secs(45);

/// Test programs whose tests take longer, and how long each may take.
const LONG: [(&str, Duration); 1] = [("packages", Duration::from_secs(300))];

/// Tests of one program that share a kernel.
#[derive(Clone, Debug)]
pub(super) struct Boot {
    kernel: KernelChoice,
    program: String,
    path: PathBuf,
    /// Of which module they are, if there are others.
    module: Option<String>,
    /// Their names; never none.
    tests: Vec<String>,
    /// Each cvipd has the user and the capabilities that its unit says.
    is_confined: bool,
}

impl Boot {
    /// For how many it counts: an emulator of a whole machine never waits.
    fn jobs(&self) -> usize {
        if self.kernel == KernelChoice::Qemu { ON_A_PROCESSOR } else { 1 }
    }

    /// The same once more with each cvipd confined, if these tests run so too.
    pub(super) fn under_the_unit(&self) -> Option<Boot> {
        let module = self.module.as_deref().unwrap_or_default();
        let named = UNDER_THE_UNIT.contains(&(self.program.as_str(), module));
        named.then(|| Boot { is_confined: true, ..self.clone() })
    }

    /// In which order boots begin: what takes longest is not to be waited for in the end.
    pub(super) fn turn(&self) -> impl Ord + use<> {
        let one_by_one = WAITING.contains(&(&*self.program, "--test-threads=1"));
        (self.kernel != KernelChoice::Qemu, !one_by_one, Reverse(self.tests()))
    }

    /// How many tests it has.
    pub(super) fn tests(&self) -> usize {
        self.tests.len()
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)?;
        if let Some(module) = &self.module {
            write!(f, ", {module}")?;
        }
        if self.kernel == KernelChoice::Qemu {
            f.write_str(", on the stock kernel")?;
        }
        if self.is_confined {
            f.write_str(", under the unit")?;
        }
        Ok(())
    }
}

/// One boot for a test program's tests, if it has any of these names.
pub(super) fn whole(
    kernel: KernelChoice,
    program: &str,
    path: &Path,
    filter: &[&str],
) -> Result<Option<Boot>> {
    let tests = list(path, filter)?;
    let boot = Boot {
        kernel,
        program: program.to_owned(),
        path: path.to_owned(),
        module: None,
        tests,
        is_confined: false,
    };
    Ok((!boot.tests.is_empty()).then_some(boot))
}

/// A boot for each module of a test program that has tests of these names.
pub(super) fn by_module(
    kernel: KernelChoice,
    program: &str,
    path: &Path,
    filter: &[&str],
) -> Result<Vec<Boot>> {
    let Some(whole) = whole(kernel, program, path, filter)? else { return Ok(Vec::new()) };
    let mut boots: Vec<Boot> = Vec::new();
    for test in &whole.tests {
        let module = test.split_once("::").map(|(module, _)| module.to_owned());
        match boots.iter_mut().find(|boot| boot.module == module) {
            Some(boot) => boot.tests.push(test.clone()),
            None => boots.push(Boot { module, tests: vec![test.clone()], ..whole.clone() }),
        }
    }
    Ok(boots)
}

/// Asks a test program for its tests of these names, which needs no lab. All words of the filter
/// have to be in a name.
fn list(program: &Path, filter: &[&str]) -> Result<Vec<String>> {
    let output = Command::new(program)
        .args(["--list", "--format=terse"])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(output.status.success(), "{} cannot list its tests", program.display());
    let text = String::from_utf8_lossy(&output.stdout);
    let names = names(&text).filter(|name| filter.iter().all(|word| name.contains(word)));
    Ok(names.map(str::to_owned).collect())
}

/// The names of the tests in the list of a test program.
pub(super) fn names(list: &str) -> impl Iterator<Item = &str> {
    list.lines().filter_map(|line| line.strip_suffix(": test"))
}

/// Runs these, so many at once; what failed twice, a line each.
pub(super) fn run(queue: Vec<Boot>, jobs: usize, programs: &Path) -> Vec<String> {
    let (failed, unsteady) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let note = |list: &Mutex<Vec<String>>, line: String| {
        list.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    };
    let jobs = Jobs::new(jobs);
    thread::scope(|scope| {
        for boot in queue {
            let taken = jobs.take(boot.jobs());
            let (failed, unsteady) = (&failed, &unsteady);
            scope.spawn(move || {
                let _taken = taken;
                let Some(rest) = once(&boot, programs) else { return };
                let again = Boot { tests: rest, ..boot };
                match once(&again, programs) {
                    None => note(unsteady, line(&again)),
                    Some(rest) => note(failed, line(&Boot { tests: rest, ..again })),
                }
            });
        }
    });
    let unsteady = unsteady.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !unsteady.is_empty() {
        println!("\nUNSTEADY, passed at the second try only:\n  {}", unsteady.join("\n  "));
    }
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// How much may run at once.
#[derive(Debug)]
struct Jobs {
    free: Mutex<usize>,
    all: usize,
    given_back: Condvar,
}

impl Jobs {
    fn new(all: usize) -> Jobs {
        Jobs { free: Mutex::new(all), all, given_back: Condvar::new() }
    }

    /// Waits until so many are free, or all where there are no more, and takes them.
    fn take(&self, wanted: usize) -> Taken<'_> {
        let wanted = wanted.min(self.all);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let enough = self.given_back.wait_while(free, |free| *free < wanted);
        *enough.unwrap_or_else(PoisonError::into_inner) -= wanted;
        Taken { of: self, jobs: wanted }
    }
}

/// What a boot has of them; given back when this is dropped.
#[derive(Debug)]
struct Taken<'a> {
    of: &'a Jobs,
    jobs: usize,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.of.free.lock().unwrap_or_else(PoisonError::into_inner) += self.jobs;
        self.of.given_back.notify_all();
    }
}

fn line(boot: &Boot) -> String {
    format!("{boot}: {}", boot.tests.join(" "))
}

/// Runs a boot's tests and says how it went, in one piece; those that have to be run once more.
fn once(boot: &Boot, programs: &Path) -> Option<Vec<String>> {
    let mut command: Vec<OsString> = vec![boot.path.clone().into(), "--exact".into()];
    command.extend(boot.tests.iter().map(OsString::from));
    let threads = WAITING.iter().filter(|(program, _)| *program == boot.program);
    command.extend(threads.map(|(_, option)| option.into()));
    let packages = PACKAGES.iter().filter(|(program, _)| *program == boot.program);
    let packages: Vec<&str> = packages.flat_map(|(_, names)| names.iter().copied()).collect();
    let long = LONG.iter().find(|(program, _)| *program == boot.program);
    let each = long.map_or(TEST_WITHIN, |(_, within)| *within);
    let started = Instant::now();
    let outcome = Lab::new(boot.kernel).and_then(|mut lab| {
        if boot.is_confined {
            lab = lab.env(cvip_lab::UNIT_VARIABLE, build::root().join(UNIT).canonicalize()?);
        }
        lab.packages(&packages)
            .env("CVIP_TEST_PROGRAMS", programs)
            .timeout(BOOT_WITHIN + each * u32::try_from(boot.tests()).unwrap_or(u32::MAX))
            .output(&command)
    });
    let took = started.elapsed().as_secs();
    let (status, said, complained) = match &outcome {
        Ok(output) => (
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        ),
        Err(error) => (-1, "".into(), format!("{error:#}").into()),
    };
    // Ignored tests, and names that no test has, are not passed either.
    if status == 0 && said.contains(&format!("test result: ok. {} passed;", boot.tests())) {
        println!("passed in {took:3} s: {boot} ({})", boot.tests());
        return None;
    }
    println!(
        "\nFAILED after {took} s with status {status}: {boot}\n{said}{complained}\nend of {boot}\n"
    );
    let rest = not_passed(&boot.tests, &said);
    // All passed, and then it failed: nobody knows whose fault that is.
    Some(if rest.is_empty() { boot.tests.clone() } else { rest })
}

/// The tests that a test program did not report as passed.
fn not_passed(tests: &[String], said: &str) -> Vec<String> {
    let passed = |test: &&String| {
        said.lines().any(|line| {
            let Some(rest) = line.strip_prefix("test ") else { return false };
            let Some(rest) = rest.strip_prefix(test.as_str()) else { return false };
            // What a test's own processes write can come in between.
            rest.starts_with(" - should panic ... ok")
                || rest.strip_prefix(" ... ").is_some_and(|result| result.ends_with("ok"))
        })
    };
    tests.iter().filter(|test| !passed(test)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_did_not_say_that_it_passed_has_not_passed() {
        let said = "running 4 tests\n\
                    test a::one ... ok\n\
                    test a::one_more ... FAILED\n\
                    test a::two - should panic ... ok\n\
                    test a::three ... ignored, for a reason\n\
                    test a::four ... ";
        let tests =
            names(&["a::one", "a::one_more", "a::two", "a::three", "a::four", "a::five", "a::o"]);
        assert_eq!(
            not_passed(&tests, said),
            ["a::one_more", "a::three", "a::four", "a::five", "a::o"]
        );
        assert_eq!(not_passed(&tests, ""), tests);
    }

    #[test]
    fn a_boot_is_named_so_that_it_can_be_repeated() {
        let boot = Boot {
            kernel: KernelChoice::Qemu,
            program: "kernel".to_owned(),
            path: PathBuf::new(),
            module: Some("drain".to_owned()),
            tests: names(&["drain::now"]),
            is_confined: false,
        };
        assert_eq!(line(&boot), "kernel, drain, on the stock kernel: drain::now");
    }
}
