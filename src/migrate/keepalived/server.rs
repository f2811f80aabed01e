//! `virtual_server` and `virtual_server_group` of keepalived.conf.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::check;
use super::statement::Statement;
use crate::checks::settings::Check;
use crate::conf::Routing;
use crate::ipvs::SchedulerFlag;
use crate::ipvs::limits::{ENGINE_MAX_LEN, MAX_INT, MAX_SECONDS};
use crate::ipvsadm::names::Names;
use crate::migrate::ledger::{Ledger, StatementId};
use crate::migrate::pool::{Plan, PoolCheck, PoolServer, PoolTarget, ServerPool, Stated};
use crate::migrate::values::{self, Budget, FoundAddress};
use crate::protocol::Protocol;

const BY_MARK: &str = "it is found by a firewall mark, which cvip.conf has not: write a service for \
                       each address and port that the firewall marks";

/// Statements of a virtual server and of a real server that say how it is checked, where a check
/// does not say so itself.
const CHECK_DEFAULTS: [&str; 6] =
    ["delay_loop", "connect_timeout", "retry", "nb_get_retry", "delay_before_retry", "virtualhost"];

/// A `virtual_server` as a pool; none where it names no address, which is then noted.
pub(super) fn pool(
    own: &Statement,
    groups: &[&Statement],
    budget: &mut Budget,
    ledger: &mut Ledger,
    names: &mut dyn Names,
) -> Option<ServerPool> {
    // keepalived masquerades where nothing is said.
    let mut pool = ServerPool::new(own.id, Routing::Nat);
    pool.statements = own.all();
    pool.protocol = protocol(own, ledger);
    let targets = targets(own, groups, pool.protocol, (budget, ledger, names));
    let room = budget.take(own.block.iter().filter(|setting| setting.is("real_server")).count());
    let mut defaults = Check::new(crate::checks::settings::Kind::Tcp);
    let mut host = None;
    for setting in own.block.iter().filter(|s| CHECK_DEFAULTS.contains(&s.keyword())) {
        check::default(setting, &mut defaults, &mut host, ledger);
        pool.check_settings.push(setting.id);
    }
    for setting in &own.block {
        if setting.is("real_server") {
            let server = real_server(setting, (&defaults, host.as_ref()), &pool, ledger, names);
            pool.servers.extend(server);
        } else if !CHECK_DEFAULTS.contains(&setting.keyword()) {
            service_setting(setting, &mut pool, ledger, names);
        }
    }
    match room.and(targets) {
        Ok(targets) => {
            ledger.carried(own.id);
            pool.targets = targets;
            Some(pool)
        }
        Err(why) => {
            ledger.withdraw(pool.statements, &why);
            None
        }
    }
}

/// Notes the groups that no virtual server has.
pub(super) fn unused_groups(groups: &[&Statement], pools: &[ServerPool], ledger: &mut Ledger) {
    let used: BTreeSet<StatementId> =
        pools.iter().flat_map(|pool| &pool.targets).map(|target| target.at).collect();
    for group in groups {
        match group.block.iter().any(|line| used.contains(&line.id)) {
            true => ledger.carried(group.id),
            false => {
                ledger.withdraw(group.all(), "no virtual server that is carried has this group")
            }
        }
    }
}

/// The protocol; it is asked for first, since ports have names by protocol.
fn protocol(own: &Statement, ledger: &mut Ledger) -> Protocol {
    let mut protocol = Protocol::Tcp;
    for setting in own.block.iter().filter(|setting| setting.is("protocol")) {
        match Protocol::ALL.into_iter().find(|p| p.name().eq_ignore_ascii_case(setting.value())) {
            Some(known) => {
                protocol = known;
                ledger.carried(setting.id);
            }
            None => ledger.not_carried(setting.id, "it is none of TCP, UDP and SCTP: TCP is taken"),
        }
    }
    protocol
}

fn targets(
    own: &Statement,
    groups: &[&Statement],
    protocol: Protocol,
    (budget, ledger, names): (&mut Budget, &mut Ledger, &mut dyn Names),
) -> Result<Vec<PoolTarget>, String> {
    match own.value() {
        "fwmark" => Err(BY_MARK.to_owned()),
        "group" => {
            let name = own.values().get(1).map_or("", String::as_str);
            let group = groups.iter().find(|group| group.value() == name);
            let group = group.ok_or_else(|| format!("there is no virtual_server_group {name}"))?;
            let mut targets = Vec::new();
            budget.take(group.block.len())?;
            for line in &group.block {
                match group_targets(line, protocol, budget, names) {
                    Ok(own) => {
                        ledger.carried(line.id);
                        targets.extend(own);
                    }
                    Err(why) => ledger.not_carried(line.id, why),
                }
            }
            match targets.is_empty() {
                true => Err(format!("no address of the group {name} can be carried")),
                false => Ok(targets),
            }
        }
        addr => {
            let FoundAddress { addr, .. } = values::address(addr, names)?;
            let port = match own.values().get(1) {
                Some(port) => values::port(port, protocol, names)?,
                None => 0,
            };
            Ok(vec![PoolTarget { at: own.id, addr, start: port, end: port }])
        }
    }
}

/// A line of a group: an address or a range of them, and a port or a range of them.
fn group_targets(
    line: &Statement,
    protocol: Protocol,
    budget: &mut Budget,
    names: &mut dyn Names,
) -> Result<Vec<PoolTarget>, String> {
    if line.is("fwmark") {
        return Err(BY_MARK.to_owned());
    }
    let addrs = addresses(line.keyword(), budget, names)?;
    let port = match line.value() {
        "" => return Err("it names no port, and cvip.conf names ports".to_owned()),
        port => port,
    };
    let (start, end) = match port.split_once('-') {
        Some((start, end)) if start.bytes().all(|b| b.is_ascii_digit()) => {
            (values::port(start, protocol, names)?, values::port(end, protocol, names)?)
        }
        _ => {
            let port = values::port(port, protocol, names)?;
            (port, port)
        }
    };
    if start > end {
        return Err(format!("{start} to {end} is no range of ports"));
    }
    Ok(addrs.into_iter().map(|addr| PoolTarget { at: line.id, addr, start, end }).collect())
}

/// `10.0.0.1`, `10.0.0.1-9` (the last number only) or `10.0.0.1-10.0.0.9`.
fn addresses(
    text: &str,
    budget: &mut Budget,
    names: &mut dyn Names,
) -> Result<Vec<IpAddr>, String> {
    let Some((first, last)) = text.split_once('-') else {
        return Ok(vec![values::address(text, names)?.addr]);
    };
    let Ok(first) = first.parse::<IpAddr>() else {
        // A host's name may have a dash.
        return Ok(vec![values::address(text, names)?.addr]);
    };
    let no = || format!("`{text}` is no range of addresses");
    let last = match last.parse::<IpAddr>() {
        Ok(last) => last,
        Err(_) => match first {
            IpAddr::V4(first) => {
                let [a, b, c, _] = first.octets();
                IpAddr::from([a, b, c, last.parse().map_err(|_| no())?])
            }
            IpAddr::V6(first) => {
                let mut segments = first.segments();
                segments[7] = u16::from_str_radix(last, 16).map_err(|_| no())?;
                IpAddr::from(segments)
            }
        },
    };
    values::range(first, last, budget)
}

/// A number of a statement, within bounds.
fn number(setting: &Statement, least: u32, most: u32) -> Result<u32, String> {
    let number = setting.value().parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("it is no number from {least} to {most}"))
}

/// What a value became: it is carried, or it is not.
fn note<T>(id: StatementId, value: Result<T, String>, ledger: &mut Ledger) -> Option<T> {
    match value {
        Ok(value) => {
            ledger.carried(id);
            Some(value)
        }
        Err(why) => {
            ledger.not_carried(id, why);
            None
        }
    }
}

fn routing(word: &str) -> Result<Routing, String> {
    let known = Routing::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(word));
    known.ok_or_else(|| format!("`{word}` is no forwarding method of cvip.conf: DR, NAT or TUN"))
}

fn service_setting(
    setting: &Statement,
    pool: &mut ServerPool,
    ledger: &mut Ledger,
    names: &mut dyn Names,
) {
    let id = setting.id;
    match setting.keyword() {
        "lb_algo" | "lvs_sched" => {
            pool.scheduler = note(id, values::scheduler(setting.value()), ledger);
        }
        "lb_kind" | "lvs_method" => {
            let method = routing(setting.value());
            if setting.values().len() > 1 && method.is_ok() {
                ledger
                    .changed(id, "tunnels are IPIP ones: the words behind the method are left out");
                pool.routing = method.unwrap_or(pool.routing);
            } else {
                pool.routing = note(id, method, ledger).unwrap_or(pool.routing);
            }
        }
        "mh-fallback" | "mh-port" | "sh-fallback" | "sh-port" | "flag-1" | "flag-2" | "flag-3" => {
            let flag = SchedulerFlag::named(setting.keyword());
            let scheduler = pool.scheduler.as_deref().unwrap_or_default();
            match flag.filter(|flag| flag.fits(scheduler)) {
                Some(flag) => {
                    pool.scheduler_flags |= flag.bit;
                    ledger.carried(id);
                }
                None => {
                    ledger.not_carried(id, "it is a flag of another scheduler than the service's")
                }
            }
        }
        "persistence_timeout" => match setting.value() {
            "0" => ledger.carried(id),
            // The time that keepalived takes where it is left out.
            "" => {
                pool.persistence = Some(360);
                ledger.carried(id);
            }
            _ => pool.persistence = note(id, number(setting, 1, MAX_SECONDS), ledger),
        },
        "persistence_granularity" => {
            pool.persistence_netmask = Some(Stated { value: setting.value().to_owned(), at: id });
        }
        "persistence_engine" => {
            let engine = setting.value();
            let fits = !engine.is_empty()
                && engine.len() <= ENGINE_MAX_LEN
                && engine.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
            match fits {
                true => pool.persistence_engine = Some(Stated { value: engine.to_owned(), at: id }),
                false => ledger.not_carried(id, "it is no persistence engine"),
            }
        }
        "quorum" => pool.quorum = note(id, number(setting, 1, MAX_INT), ledger),
        "hysteresis" => {
            let hysteresis = note(id, number(setting, 0, MAX_INT), ledger);
            pool.hysteresis = hysteresis.map(|value| Stated { value, at: id });
        }
        "ops" => {
            pool.one_packet = Some(id);
            ledger.carried(id);
        }
        "sorry_server" => {
            let server = server(setting, pool.protocol, ledger, names);
            pool.sorry_servers.extend(server);
        }
        _ => {}
    }
}

/// The address and the port of a `real_server` or a `sorry_server`.
fn server(
    own: &Statement,
    protocol: Protocol,
    ledger: &mut Ledger,
    names: &mut dyn Names,
) -> Option<PoolServer> {
    let found = values::address(own.value(), names).and_then(|found| {
        let port = own.values().get(1).map(|port| values::port(port, protocol, names));
        Ok((found, port.transpose()?))
    });
    match found {
        Ok((FoundAddress { addr, by_name }, port)) => {
            match by_name {
                true => ledger.changed(own.id, format!("{} is {addr} here, now", own.value())),
                false => ledger.carried(own.id),
            }
            let mut server = PoolServer::new(own.id, addr, port);
            server.statements = own.all();
            Some(server)
        }
        Err(why) => {
            ledger.withdraw(own.all(), &why);
            None
        }
    }
}

fn real_server(
    own: &Statement,
    (defaults, host): (&Check, Option<&crate::checks::settings::HostName>),
    pool: &ServerPool,
    ledger: &mut Ledger,
    names: &mut dyn Names,
) -> Option<PoolServer> {
    let mut real = server(own, pool.protocol, ledger, names);
    let (mut defaults, mut host) = (defaults.clone(), host.cloned());
    let mut ids = Vec::new();
    for setting in own.block.iter().filter(|s| CHECK_DEFAULTS.contains(&s.keyword())) {
        check::default(setting, &mut defaults, &mut host, ledger);
        ids.push(setting.id);
    }
    let mut found: Option<PoolCheck> = None;
    for setting in &own.block {
        let id = setting.id;
        match setting.keyword() {
            "weight" => {
                let weight = note(id, number(setting, 0, u16::MAX.into()), ledger);
                if let (Some(real), Some(weight)) = (&mut real, weight) {
                    real.weight = weight;
                }
            }
            "lb_kind" | "lvs_method" => {
                let method = note(id, routing(setting.value()), ledger);
                if let (Some(real), Some(value)) = (&mut real, method) {
                    real.routing = Some(Stated { value, at: id });
                }
            }
            "uthreshold" | "lthreshold" => {
                let value = note(id, number(setting, 0, MAX_INT), ledger);
                let given = value.filter(|value| *value > 0).map(|value| Stated { value, at: id });
                match &mut real {
                    Some(real) if setting.is("uthreshold") => real.upper = given,
                    Some(real) => real.lower = given,
                    None => {}
                }
            }
            keyword if check::is_check(keyword) => {
                let check = check::read(setting, &defaults, host.as_ref(), ledger);
                match (&found, check) {
                    (None, Some(check)) => found = Some(check),
                    (Some(first), Some(check)) => {
                        let line = first.statements.first().map_or(0, |id| ledger.line(*id));
                        let why = format!(
                            "a service has one check in cvip.conf, here that of line {line}: put \
                             both into a program, as an exec check"
                        );
                        ledger.withdraw(check.statements, &why);
                    }
                    (_, None) => {}
                }
            }
            _ => {}
        }
    }
    match &mut found {
        Some(found) => found.statements.extend(ids),
        None => ledger.withdraw(ids, "this server has no check that cvip.conf can say"),
    }
    let mut real = real?;
    real.check = found;
    // What was withdrawn with its server stays so.
    if !ledger.is_in_the_draft(own.id) {
        ledger.withdraw(own.all(), "its server is not carried");
    }
    Some(real)
}

/// What pools say of the addresses that they have: those that directors carry.
pub(super) fn virtual_addresses(plan: &Plan) -> impl Iterator<Item = IpAddr> {
    plan.pools.iter().flat_map(|pool| &pool.targets).map(|target| target.addr)
}
