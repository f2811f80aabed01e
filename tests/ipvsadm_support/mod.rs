//! What the test programs of ipvsadm's language share: the recorded cases, and how a
//! result is compared with them.
#![allow(dead_code)] // each program uses its part

pub(crate) mod generator;
pub(crate) mod memory;
pub(crate) mod names;
pub(crate) mod world;

use serde_json::Value;

use self::names::file;

/// What a program printed, and how it ended. `None` stands for our own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) stdout: Option<String>,
    pub(crate) stderr: Option<String>,
    pub(crate) status: i64,
}

/// One recorded command line.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) group: String,
    pub(crate) stage: String,
    pub(crate) program: String,
    pub(crate) argv: Vec<String>,
    pub(crate) stdin: String,
    pub(crate) posix: bool,
    pub(crate) user: Option<String>,
    pub(crate) setup_rules: Vec<String>,
    /// Any of these is a match.
    pub(crate) expected: Vec<Outcome>,
    /// Further calls, and what they print.
    pub(crate) state_after: Vec<(Vec<String>, String)>,
}

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(|item| item.as_str().expect("a string").to_owned()).collect()
}

fn outcome(value: &Value) -> Outcome {
    Outcome {
        stdout: value["stdout"].as_str().map(str::to_owned),
        stderr: value["stderr"].as_str().map(str::to_owned),
        status: value["rc"].as_i64().expect("rc"),
    }
}

/// Every recorded case.
pub(crate) fn cases() -> Vec<Case> {
    let text = file("cases.jsonl");
    let records = text.lines().skip(1).map(|line| {
        let case: Value = serde_json::from_str(line).expect("a case");
        let word = |name: &str| case[name].as_str().unwrap_or_default().to_owned();
        let variants = case["variants"].as_object();
        Case {
            id: word("id"),
            group: word("group"),
            stage: word("stage"),
            program: word("program"),
            argv: strings(&case["argv"]),
            stdin: word("stdin"),
            posix: case["env"].is_object(),
            user: case["user"].as_str().map(str::to_owned),
            setup_rules: strings(&case["setup_rules"]),
            expected: std::iter::once(outcome(&case["result"]))
                .chain(variants.into_iter().flat_map(|map| map.values().map(outcome)))
                .collect(),
            state_after: case["state_after"]
                .as_array()
                .map(Vec::as_slice)
                .unwrap_or_default()
                .iter()
                .map(|after| {
                    let output = after["output"].as_str().expect("output").to_owned();
                    (strings(&after["argv"]), output)
                })
                .collect(),
        }
    });
    records.collect()
}

/// Why a case is not run, if it is not.
pub(crate) fn left_out(case: &Case) -> Option<&'static str> {
    match (case.stage.as_str(), case.user.as_deref()) {
        ("crash", _) => Some("the original crashes"),
        ("init-failed", Some(_))
            if ["-h", "-v", "--bogus"].contains(&case.argv.first().map_or("", String::as_str)) =>
        {
            Some("help, version and wrong arguments are answered without a kernel, on purpose")
        }
        _ => None,
    }
}

/// `(size=N)` is the kernel's affair.
pub(crate) fn without_size(text: &str) -> String {
    match text.split_once("(size=") {
        Some((before, rest)) => match rest.split_once(')') {
            Some((_, after)) => format!("{before}(size=N){}", without_size(after)),
            None => text.to_owned(),
        },
        None => text.to_owned(),
    }
}

/// Firewall marks above 2^31 as the recorded build of ipvsadm prints them in states that
/// carry no variants: negative. Ours are unsigned, as ipvsadm's master has them.
pub(crate) fn with_unsigned_marks(text: &str) -> String {
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let mark = words.windows(2).find(|pair| pair[0] == "-f").map(|pair| pair[1]);
            match mark.and_then(|mark| mark.parse::<i32>().ok()).filter(|mark| *mark < 0) {
                Some(mark) => {
                    format!(
                        "{}\n",
                        line.replacen(&format!("{mark}"), &(mark as u32).to_string(), 1)
                    )
                }
                None => format!("{line}\n"),
            }
        })
        .collect()
}

fn matches(expected: &Outcome, actual: &Outcome) -> bool {
    let same = |expected: &Option<String>, actual: &Option<String>| match (expected, actual) {
        (Some(expected), Some(actual)) => without_size(expected) == without_size(actual),
        _ => expected.is_none(),
    };
    expected.status == actual.status
        && same(&expected.stdout, &actual.stdout)
        && same(&expected.stderr, &actual.stderr)
}

/// What is wrong with `actual`, as a text with both; `None` if it is one of the recorded
/// outcomes.
pub(crate) fn difference(case: &Case, actual: &Outcome) -> Option<String> {
    if case.expected.iter().any(|expected| matches(expected, actual)) {
        return None;
    }
    let show = |outcome: &Outcome| {
        format!("status {}\n{:?}\n{:?}", outcome.status, outcome.stdout, outcome.stderr)
    };
    let recorded: Vec<String> = case.expected.iter().map(show).collect();
    Some(format!(
        "{}: {} {:?}\n--- recorded\n{}\n+++ ours\n{}",
        case.id,
        case.program,
        case.argv,
        recorded.join("\n--- or\n"),
        show(actual)
    ))
}

/// The same for the table afterwards.
pub(crate) fn state_difference(
    case: &Case,
    argv: &[String],
    expected: &str,
    actual: &str,
) -> Option<String> {
    let expected = without_size(&with_unsigned_marks(expected));
    let actual = without_size(actual);
    (expected != actual).then(|| {
        format!(
            "{}: {:?}, then {argv:?}\n--- recorded\n{expected}\n+++ ours\n{actual}",
            case.id, case.argv
        )
    })
}
