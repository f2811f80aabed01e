//! What cvip.conf's own parser refuses of a draft, by the service that it concerns.

use std::collections::BTreeMap;

use crate::conf::{DiagnosticSeverity, parse};
use crate::migrate::draft::Draft;
use crate::migrate::ledger::MAX_BYTES;

/// The services that are refused, by their place in the draft, each with the first reason.
///
/// # Errors
/// Something is refused that belongs to no service: there is no draft then.
pub(super) fn of(draft: &Draft) -> Result<BTreeMap<usize, String>, String> {
    let text = draft.conf_text();
    if text.len() > MAX_BYTES {
        return Err(format!("the draft would be larger than {MAX_BYTES} bytes (1 MiB)"));
    }
    let (conf, faults) = parse(&text, "draft", &draft.clustertab);
    if conf.as_ref() == Some(&draft.conf) {
        return Ok(BTreeMap::new());
    }
    let mut refused = BTreeMap::new();
    let owners = owners(&text);
    for fault in faults.into_iter().filter(|fault| fault.severity == DiagnosticSeverity::Error) {
        let line = fault.place.as_ref().map_or(0, |place| place.line);
        match owners.get(line.wrapping_sub(1)) {
            Some(owners) if !owners.is_empty() => {
                for service in owners.clone() {
                    refused.entry(service).or_insert_with(|| fault.message.clone());
                }
            }
            _ => return Err(format!("cvip.conf refuses the draft: {}", fault.message)),
        }
    }
    match refused.is_empty() {
        // It is accepted, and says something else.
        true => Err("the draft would not say what it is to say".to_owned()),
        false => Ok(refused),
    }
}

/// The services that each line of a draft belongs to: one's own lines to that one, those of a CVIP
/// to all of its services.
fn owners(text: &str) -> Vec<std::ops::Range<usize>> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut owners = vec![0..0; lines.len()];
    let (mut next, mut line) = (0, 0);
    while line < lines.len() {
        if lines[line] != "<cvip>" {
            line += 1;
            continue;
        }
        let end = lines[line..].iter().position(|line| *line == "</cvip>");
        let end = end.map_or(lines.len(), |end| line + end + 1);
        let count = lines[line..end].iter().filter(|line| **line == "<service>").count();
        let (all, mut within) = (next..next + count, None);
        for (owner, line) in owners[line..end].iter_mut().zip(&lines[line..end]) {
            if *line == "<service>" {
                within = Some(next..next + 1);
                next += 1;
            }
            *owner = within.clone().unwrap_or(all.clone());
            if *line == "</service>" {
                within = None;
            }
        }
        line = end;
    }
    owners
}
