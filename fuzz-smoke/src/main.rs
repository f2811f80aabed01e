//! The fuzz targets for a while each, without cargo-fuzz: what `cargo xtask fuzz --smoke` runs.
//!
//! Mutations of recorded rules, blind to coverage; what cargo-fuzz finds over night this does
//! not, but it needs nothing that a stable toolchain has not, and finds what is close. It is a
//! package of its own because it needs little of cvip, and is built with checks of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cvip_lab::Dice;

/// The longest that one input may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest input, in bytes.
const LONGEST: usize = 8192;

/// Takes any bytes at all.
type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 4] = [
    ("rules", cvip::fuzzing::rules),
    ("replies", cvip::fuzzing::replies),
    ("control", |data| _ = cvip::fuzzing::control(data)),
    ("rtnetlink", |data| _ = cvip::fuzzing::rtnetlink(data)),
];

/// The input under way, and since when.
type UnderWay = Arc<Mutex<(Vec<u8>, Instant)>>;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    ensure!(arguments.len() == 2, "usage: cvip-fuzz-smoke SECONDS SEED");
    let seconds = Duration::from_secs(arguments[0].parse().context("SECONDS is a number")?);
    let seed = arguments[1].parse().context("SEED is a number")?;
    let rules = recorded_rules()?;
    // What is said about a panic comes with the input, below.
    std::panic::set_hook(Box::new(|_| {}));
    let outcomes: Vec<Result<bool>> = thread::scope(|scope| {
        let rules = &rules;
        let running: Vec<_> = TARGETS
            .iter()
            .map(|(name, target)| scope.spawn(|| run(name, *target, rules, seconds, seed)))
            .collect();
        let failed = |_| bail!("the fuzzer itself failed");
        running.into_iter().map(|target| target.join().unwrap_or_else(failed)).collect()
    });
    let mut passed = true;
    for outcome in outcomes {
        passed &= outcome?;
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs one target, and says how that went; whether it took every input.
fn run(name: &str, target: Target, rules: &[String], seconds: Duration, seed: u64) -> Result<bool> {
    let corpus: Vec<Vec<u8>> = match name {
        "rules" => rules.iter().map(|text| text.clone().into_bytes()).collect(),
        // Attributes, behind the headers of netlink and of generic netlink.
        "control" => {
            let rules = rules.iter().flat_map(|text| cvip::fuzzing::as_messages(text));
            let rules = rules.filter_map(|message| message.get(20..).map(<[u8]>::to_vec));
            // The number of a family; the version of IPVS and its table's size.
            let family = attribute(1, &[29, 0]);
            let info = [attribute(1, &[1, 2, 1, 0]), attribute(2, &[0, 16, 0, 0])].concat();
            rules.chain([family, info]).collect()
        }
        "rtnetlink" => rtnetlink_bodies(),
        _ => rules.iter().flat_map(|text| cvip::fuzzing::as_messages(text)).collect(),
    };
    println!("{name}: {} recorded inputs, seed {seed}", corpus.len());
    let under_way: UnderWay = Arc::new(Mutex::new((Vec::new(), Instant::now())));
    let seen = Arc::clone(&under_way);
    let worker = thread::spawn(move || fuzz(target, &corpus, seed, seconds, &seen));
    while !worker.is_finished() {
        thread::sleep(Duration::from_millis(100));
        let (input, since) = &*under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if since.elapsed() > PATIENCE && !worker.is_finished() {
            println!("{name}: HANGS for more than {PATIENCE:?} on\n{}", hex(input));
            // The thread cannot be ended; the process can.
            std::process::exit(1);
        }
    }
    match worker.join() {
        Ok(Ok(executions)) => {
            let rate = executions / seconds.as_secs().max(1);
            println!("{name}: {executions} executions, {rate} a second");
            Ok(true)
        }
        Ok(Err((input, message))) => {
            println!("{name}: PANICS: {message}\non {}", hex(&input));
            Ok(false)
        }
        Err(_) => bail!("{name}: the fuzzer itself failed"),
    }
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len() as u16;
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A link, an address and a route, each behind the byte that says which.
fn rtnetlink_bodies() -> Vec<Vec<u8>> {
    // struct ifinfomsg, IFLA_IFNAME, IFLA_MTU, IFLA_LINKINFO with IFLA_INFO_KIND.
    let kind = attribute(1, b"ip6tnl");
    let link = [&[0; 16][..], &attribute(3, b"eth0\0"), &attribute(4, &[0, 5, 0, 0])].concat();
    let link = [&[0][..], &link, &attribute(18, &kind)].concat();
    // struct ifaddrmsg, IFA_LOCAL, IFA_ADDRESS, IFA_CACHEINFO.
    let address = |family: u8, length: usize| {
        let octets = vec![10; length];
        let header = [1, family, 24, 0, 0, 2, 0, 0, 0];
        let (own, network) = (attribute(2, &octets), attribute(1, &octets));
        [&header[..], &own, &network, &attribute(6, &[0xff; 16])].concat()
    };
    // struct rtmsg, RTA_OIF, RTA_GATEWAY or RTA_VIA.
    let route = |gateway: Vec<u8>| {
        let header = [2, 2, 32, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0];
        [&header[..], &attribute(4, &[2, 0, 0, 0]), &gateway].concat()
    };
    let (gateway, via) = (attribute(5, &[10, 0, 0, 1]), attribute(18, &[10; 18]));
    vec![link, address(2, 4), address(10, 16), route(gateway), route(via)]
}

/// Runs a target until the time is up; else the input that it cannot take, and what it said.
fn fuzz(
    target: Target,
    corpus: &[Vec<u8>],
    seed: u64,
    seconds: Duration,
    under_way: &UnderWay,
) -> Result<u64, (Vec<u8>, String)> {
    let mut mutator = Mutator { dice: Dice::new(seed), corpus };
    let start = Instant::now();
    let mut executions = 0;
    // First all as they are, and no byte at all.
    let whole = corpus.iter().cloned().chain([Vec::new()]);
    let mut inputs = whole.collect::<Vec<_>>().into_iter();
    while start.elapsed() < seconds {
        let input = inputs.next().unwrap_or_else(|| mutator.input());
        *under_way.lock().unwrap_or_else(PoisonError::into_inner) = (input.clone(), Instant::now());
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&input))) {
            let message = panic.downcast_ref::<String>().cloned();
            let message = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            return Err((input, message.unwrap_or_default()));
        }
        executions += 1;
    }
    Ok(executions)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The rules of the recorded cases: what was set up, what was called, what was restored.
fn recorded_rules() -> Result<Vec<String>> {
    let path =
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/ipvsadm-cases/cases.jsonl"));
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut rules = Vec::new();
    for line in text.lines().skip(1) {
        let case: serde_json::Value = serde_json::from_str(line)?;
        let words = |name: &str, separator: &str| {
            let words = case[name].as_array().map(Vec::as_slice).unwrap_or_default();
            let words: Vec<&str> = words.iter().filter_map(|word| word.as_str()).collect();
            words.join(separator)
        };
        rules.push(words("setup_rules", "\n"));
        rules.push(words("argv", " "));
        rules.push(words("argv", "\0"));
        rules.push(case["stdin"].as_str().unwrap_or_default().to_owned());
    }
    rules.retain(|text| !text.is_empty());
    rules.sort();
    rules.dedup();
    Ok(rules)
}

struct Mutator<'a> {
    dice: Dice,
    corpus: &'a [Vec<u8>],
}

impl Mutator<'_> {
    fn recorded(&mut self) -> Vec<u8> {
        let at = self.dice.index(self.corpus.len());
        self.corpus.get(at).cloned().unwrap_or_default()
    }

    /// A recorded input, damaged a few times.
    fn input(&mut self) -> Vec<u8> {
        let mut input = self.recorded();
        for _ in 0..=self.dice.index(8) {
            let at = self.dice.index(input.len());
            let byte = self.dice.roll() as u8;
            match self.dice.index(8) {
                _ if input.is_empty() => input.push(byte),
                0 | 1 => input[at] ^= 1 << (byte % 8),
                2 => {
                    input[at] = *[0, 0xff, 0x7f, 0x80, b' ', b'-', byte]
                        .get(self.dice.index(7))
                        .unwrap_or(&byte)
                }
                3 => input.truncate(at),
                4 => input.insert(at, byte),
                5 => drop(input.remove(at)),
                6 => {
                    // A piece of another.
                    let other = self.recorded();
                    let (from, to) =
                        (self.dice.index(other.len()), self.dice.index(other.len() + 1));
                    input.splice(at..at, other.get(from..to).unwrap_or(&other).iter().copied());
                }
                _ => {
                    // A piece of its own once more.
                    let piece = input[at..].to_vec();
                    input.extend(piece);
                }
            }
        }
        input.truncate(LONGEST);
        input
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never_two(data: &[u8]) {
        assert_ne!(data.len(), 2, "two");
    }

    #[test]
    fn an_input_that_panics_is_found_and_told() {
        let under_way = Arc::new(Mutex::new((Vec::new(), Instant::now())));
        let found = fuzz(never_two, &[vec![1, 2, 3]], 1, Duration::from_secs(60), &under_way);
        let (input, message) = found.unwrap_err();
        assert_eq!(input.len(), 2);
        assert!(message.contains("two"), "{message}");
    }

    #[test]
    fn bodies_begin_as_what_can_be_read() {
        for body in rtnetlink_bodies() {
            assert!(cvip::fuzzing::rtnetlink(&body) > 0, "{body:?}");
        }
        assert!(cvip::fuzzing::control(&attribute(1, &[29, 0])) > 0);
    }

    #[test]
    fn a_seed_makes_the_same_inputs() {
        let corpus = [b"-A -t 10.0.0.1:80".to_vec(), b"-C".to_vec()];
        let inputs = |seed| {
            let mut mutator = Mutator { dice: Dice::new(seed), corpus: &corpus };
            (0..100).map(|_| mutator.input()).collect::<Vec<_>>()
        };
        assert_eq!(inputs(7), inputs(7));
        assert_ne!(inputs(7), inputs(8));
    }
}
