//! One check for all servers of a service, of those that each of them has.

use crate::checks::settings::{Check, Kind};
use crate::migrate::ledger::Ledger;
use crate::migrate::pool::{PoolCheck, ServerPool};

/// The check of each server that has one, with the port that is asked: none where it is the
/// service's own.
fn own_checks(pool: &ServerPool) -> Vec<PoolCheck> {
    let own = |port: u16| pool.targets.iter().all(|t| t.start == port && t.end == port);
    let checks = pool.servers.iter().filter_map(|server| Some((server, server.check.clone()?)));
    checks
        .map(|(server, mut check)| {
            let port = check.check.port.or(server.port);
            check.check.port = port.filter(|port| *port != 0 && !own(*port));
            check
        })
        .collect()
}

/// The check of a service; what it differs in from that of a server is told there. None where
/// no server has one, or where they differ in what they ask.
pub(super) fn common(pool: &ServerPool, ledger: &mut Ledger) -> Option<Check> {
    let checks = own_checks(pool);
    let checks: Vec<&PoolCheck> = checks.iter().collect();
    let Some(first) = most_frequent(&checks) else {
        let why = "no server of this service has a check that cvip.conf can say";
        ledger.withdraw(pool.check_settings.iter().copied(), why);
        return None;
    };
    let chosen = first.check.clone();
    let agree = checks.iter().filter(|own| same_question(&own.check, &chosen)).count();
    // A program's arguments may name the server.
    let is_for_all = agree == checks.len()
        || (agree * 2 > checks.len() && !matches!(chosen.kind, Kind::Exec(_)));
    let refused = match chosen.suits(pool.protocol) {
        Err(error) => Some(error.to_string()),
        Ok(()) if !is_for_all => Some(
            "a service has one check, and its servers are asked different things: write one that \
             suits them all (a program finds the server in CVIP_CHECK_ADDRESS)"
                .to_owned(),
        ),
        Ok(()) => None,
    };
    if let Some(why) = refused {
        for own in &checks {
            ledger.withdraw(own.statements.iter().copied(), &why);
        }
        ledger.withdraw(pool.check_settings.iter().copied(), &why);
        return None;
    }
    let line = first.statements.first().map_or(0, |id| ledger.line(*id));
    for own in &checks {
        if !same_question(&own.check, &chosen) {
            let why = format!(
                "a service has one check, and most of its servers have that of line {line}"
            );
            ledger.withdraw(own.statements.iter().copied(), &why);
        } else if own.check != chosen {
            let how =
                format!("a service has one check: its times and counts are those of line {line}");
            for id in own.statements.iter().copied() {
                if ledger.is_in_the_draft(id) {
                    ledger.changed(id, how.clone());
                }
            }
        }
    }
    for server in pool.servers.iter().filter(|server| server.check.is_none()) {
        if ledger.is_in_the_draft(server.at) {
            ledger.changed(
                server.at,
                format!("it has no check of its own here, and gets that of line {line}"),
            );
        }
    }
    Some(chosen)
}

/// The check that most servers have; of several the first.
fn most_frequent<'a>(checks: &[&'a PoolCheck]) -> Option<&'a PoolCheck> {
    // Only the first of those that ask the same is counted.
    let mut counts: Vec<(&PoolCheck, usize)> = Vec::new();
    for own in checks {
        match counts.iter_mut().find(|(one, _)| same_question(&one.check, &own.check)) {
            Some((_, count)) => *count += 1,
            None => counts.push((own, 1)),
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max()?;
    counts.into_iter().find(|(_, count)| *count == most).map(|(one, _)| one)
}

/// True if two checks ask the same, however often.
fn same_question(a: &Check, b: &Check) -> bool {
    a.kind == b.kind && a.port == b.port
}
