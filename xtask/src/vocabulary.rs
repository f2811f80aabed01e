//! The words that the project does not use: each has a standard term.

use std::fs;
use std::path::Path;

use crate::lines::files_below;

/// A word, and the term that is used for it.
const UNUSED: [(&str, &str); 33] = [
    ("bell", "socket event"),
    ("bells", "socket events"),
    ("convicted", "suspected"),
    ("deaf", "isolated"),
    ("distrust", "invalidate"),
    ("fitness", "health"),
    ("glance", "snapshot"),
    ("happening", "event"),
    ("heir", "successor"),
    ("herald", "heartbeat sender"),
    ("lookout", "monitor"),
    ("mailbox", "inbox"),
    ("mend", "fix"),
    ("mended", "fixed"),
    ("mends", "fixes"),
    ("mute", "agent_down"),
    ("nobody", "no process, host or client, as is meant"),
    ("obedience", "applied orders"),
    ("predecessor", "the worker, cvipd or director before"),
    ("pulse", "heartbeat"),
    ("rang", "came"),
    ("rival", "conflicting host"),
    ("rivalry", "address conflict"),
    ("rivals", "conflicting hosts"),
    ("shelf", "directory"),
    ("somebody", "the process, host or administrator that is meant"),
    ("spoilt", "corrupt"),
    ("tidings", "messages"),
    ("unfit", "unhealthy"),
    ("watchman", "monitor"),
    ("whoever", "the node, process or user that is meant"),
    ("wish", "desired state"),
    ("wished", "desired"),
];

/// Where a word stays: keys of the node records that older programs read and write, and the system
/// account of that name.
const KEPT: [(&str, &str); 19] = [
    ("docs/decisions.md", "nobody"),
    ("docs/hooks.md", "nobody"),
    ("docs/security.md", "nobody"),
    ("man/cvip.conf.5", "nobody"),
    ("man/cvip.toml.5", "nobody"),
    ("man/cvipd.8", "nobody"),
    ("src/checks/probe/exec.rs", "nobody"),
    ("src/checks/settings.rs", "nobody"),
    ("src/conf/tests/checks.rs", "nobody"),
    ("src/conf/tests/properties.rs", "nobody"),
    ("src/migrate/keepalived/check.rs", "nobody"),
    ("src/migrate/keepalived/reasons.rs", "nobody"),
    ("src/migrate/ldirectord/check.rs", "nobody"),
    ("src/node/eligibility.rs", "nobody"),
    ("src/program/mod.rs", "nobody"),
    ("src/settings/model.rs", "nobody"),
    ("src/store/compact.rs", "bells"),
    ("src/store/compact.rs", "unfit"),
    ("src/store/record.rs", "unfit"),
];

/// The words of a text, in lower case, with those that an identifier consists of.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_ascii_alphabetic()).flat_map(|run| {
        let mut parts = vec![String::new()];
        let mut before = ' ';
        for c in run.chars() {
            if c.is_ascii_uppercase() && before.is_ascii_lowercase() {
                parts.push(String::new());
            }
            before = c;
            parts.last_mut().expect("never empty").push(c.to_ascii_lowercase());
        }
        parts
    })
}

#[test]
fn words_of_an_identifier_are_told_apart() {
    let found: Vec<_> = words("fn hearHerald(no_bells: XMLWish)").collect();
    let found: Vec<&str> = found.iter().map(String::as_str).filter(|w| !w.is_empty()).collect();
    assert_eq!(found, ["fn", "hear", "herald", "no", "bells", "xmlwish"]);
}

#[test]
fn the_field_s_terms_are_used_in_the_product_and_its_documents() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for place in ["src", "docs", "man", "README.md", "CONTRIBUTING.md", "SECURITY.md"] {
        files.extend(files_below(&root.join(place)).unwrap());
    }
    let mut faults = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        for (line, text) in fs::read_to_string(&file).unwrap_or_default().lines().enumerate() {
            for word in words(text) {
                let term = UNUSED.iter().find(|(unused, _)| *unused == word);
                if let Some((unused, term)) = term.filter(|(w, _)| !KEPT.contains(&(&name, w))) {
                    faults.push(format!("{name}:{}: {unused}: say {term}", line + 1));
                }
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{} words have a standard term:\n{}",
        faults.len(),
        faults.join("\n")
    );
}
