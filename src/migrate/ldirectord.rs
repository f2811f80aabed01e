//! ldirectord.cf: lines of `key=value`, those of a virtual service indented below it.

use std::net::IpAddr;

use super::error::MigrationError;
use super::ledger::Ledger;
use super::pool::{Plan, PoolServer, PoolTarget, ServerPool, Stated};
use super::values::{self, Budget, FoundAddress};
use crate::conf::Routing;
use crate::ipvs::limits::MAX_SECONDS;
use crate::ipvsadm::names::Names;
use crate::protocol::Protocol;

mod check;
mod line;
mod reasons;

use check::CheckSettings;
use line::{LdirectordLine, lines, unquoted};

/// Reads an ldirectord.cf.
///
/// # Errors
/// None: a line that is none of its grammar is noted.
pub(super) fn read(
    text: &str,
    ledger: &mut Ledger,
    names: &mut dyn Names,
) -> Result<Plan, MigrationError> {
    let lines = lines(text, ledger);
    let mut globals: Vec<&LdirectordLine> = Vec::new();
    let mut sections: Vec<(&LdirectordLine, Vec<&LdirectordLine>)> = Vec::new();
    for line in &lines {
        match (line.key.as_str(), sections.last_mut()) {
            ("virtual" | "virtual6", _) => sections.push((line, Vec::new())),
            (_, Some((_, section))) if line.is_indented => section.push(line),
            // A line at the margin is of all services, wherever it stands.
            _ => globals.push(line),
        }
    }
    let mut defaults = CheckSettings::default();
    let mut fallback = None;
    for line in &globals {
        match line.key.as_str() {
            "fallback" | "fallback6" => fallback = Some(*line),
            _ if defaults.take(line, true, ledger) => {}
            _ => reasons::explain(line, ledger),
        }
    }
    let mut plan = Plan::default();
    let mut budget = Budget::default();
    for (line, section) in sections {
        plan.pools.extend(pool(line, &section, (&defaults, fallback), &mut budget, ledger, names));
    }
    defaults.settle_globals(&plan.pools, ledger);
    if let Some(line) = fallback
        && ledger.is_unjudged(line.id)
    {
        ledger.not_carried(line.id, "no service that is carried has it");
    }
    Ok(plan)
}

fn pool(
    own: &LdirectordLine,
    section: &[&LdirectordLine],
    (globals, fallback): (&CheckSettings, Option<&LdirectordLine>),
    budget: &mut Budget,
    ledger: &mut Ledger,
    names: &mut dyn Names,
) -> Option<ServerPool> {
    let mut pool = ServerPool::new(own.id, Routing::Dr);
    pool.statements.extend(section.iter().map(|line| line.id));
    pool.protocol = protocol(section, ledger);
    let target = target(own, pool.protocol, ledger, names);
    let mut checks = globals.for_a_service();
    let mut own_fallback = None;
    for line in section {
        match line.key.as_str() {
            "real" | "real6" => {
                let servers = real(line, pool.protocol, budget, ledger, names);
                pool.servers.extend(servers);
            }
            "fallback" | "fallback6" => own_fallback = Some(*line),
            _ if service_setting(line, &mut pool, ledger) => {}
            _ if checks.take(line, false, ledger) => {}
            _ => reasons::explain(line, ledger),
        }
    }
    if let Some(method) = pool.servers.iter().find_map(|server| server.routing.as_ref()) {
        pool.routing = method.value;
    }
    let target = match target {
        Ok(target) => target,
        Err(why) => {
            ledger.withdraw(pool.statements, &why);
            return None;
        }
    };
    ledger.carried(own.id);
    if let Some(line) = own_fallback.or(fallback) {
        sorry_server(line, own_fallback.is_some(), &mut pool, ledger, names);
    }
    checks.into_pool(&mut pool, &target, ledger);
    pool.targets.push(target);
    Some(pool)
}

/// The protocol; it is asked for first, since ports have names by protocol.
fn protocol(section: &[&LdirectordLine], ledger: &mut Ledger) -> Protocol {
    let mut protocol = Protocol::Tcp;
    for line in section.iter().filter(|line| line.key == "protocol") {
        let word = unquoted(&line.value);
        match Protocol::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(word)) {
            Some(known) => {
                protocol = known;
                ledger.carried(line.id);
            }
            None => ledger.not_carried(line.id, "it is none of tcp, udp and sctp: tcp is taken"),
        }
    }
    protocol
}

fn target(
    own: &LdirectordLine,
    protocol: Protocol,
    ledger: &mut Ledger,
    names: &mut dyn Names,
) -> Result<PoolTarget, String> {
    let text = unquoted(&own.value);
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(
            "it is found by a firewall mark, which cvip.conf has not: write a service for \
                    each address and port that the firewall marks"
                .to_owned(),
        );
    }
    let (addr, port) = values::split_port(text);
    let FoundAddress { addr, by_name } = values::address(addr, names)?;
    let port = port.map_or(Ok(0), |port| values::port(port, protocol, names))?;
    if by_name {
        ledger.changed(own.id, format!("its name is {addr} here, now"));
    }
    Ok(PoolTarget { at: own.id, addr, start: port, end: port })
}

/// A setting of the service itself; false if it is none.
fn service_setting(line: &LdirectordLine, pool: &mut ServerPool, ledger: &mut Ledger) -> bool {
    let value = unquoted(&line.value);
    match line.key.as_str() {
        "protocol" => {}
        "scheduler" => match values::scheduler(value) {
            Ok(scheduler) => {
                pool.scheduler = Some(scheduler);
                ledger.carried(line.id);
            }
            Err(why) => ledger.not_carried(line.id, why),
        },
        "persistent" => match value.parse::<u32>() {
            Ok(0) => ledger.carried(line.id),
            Ok(seconds) if seconds <= MAX_SECONDS => {
                pool.persistence = Some(seconds);
                ledger.carried(line.id);
            }
            _ => ledger.not_carried(line.id, format!("it is no number from 1 to {MAX_SECONDS}")),
        },
        "netmask" => {
            pool.persistence_netmask = Some(Stated { value: value.to_owned(), at: line.id });
        }
        "ops" => match value {
            "yes" => {
                pool.one_packet = Some(line.id);
                ledger.carried(line.id);
            }
            _ => ledger.carried(line.id),
        },
        _ => return false,
    }
    true
}

fn method(word: &str) -> Option<Routing> {
    Some(match word.to_ascii_lowercase().as_str() {
        "gate" => Routing::Dr,
        "masq" => Routing::Nat,
        "ipip" => Routing::Tun,
        _ => return None,
    })
}

/// `real=ADDRESS[->ADDRESS][:PORT] METHOD [WEIGHT] ["REQUEST", "RECEIVE"]`: the servers.
fn real(
    line: &LdirectordLine,
    protocol: Protocol,
    budget: &mut Budget,
    ledger: &mut Ledger,
    names: &mut dyn Names,
) -> Vec<PoolServer> {
    let mut words = line.value.split_whitespace();
    let found = addresses(words.next().unwrap_or_default(), protocol, budget, names);
    let (addrs, port, by_name) = match found {
        Ok(found) => found,
        Err(why) => {
            ledger.not_carried(line.id, why);
            return Vec::new();
        }
    };
    ledger.carried(line.id);
    if let Some(addr) = addrs.first().filter(|_| by_name) {
        ledger.changed(line.id, format!("its name is {addr} here, now"));
    }
    let (mut routing, mut weight, mut more) = (None, 1, false);
    for word in words {
        match (method(word), word.parse::<u32>()) {
            (Some(known), _) if routing.is_none() => routing = Some(known),
            (None, Ok(number)) if !more => weight = number,
            _ => more = true,
        }
    }
    if more {
        let how = "what the server is asked is the service's in cvip.conf: its request and answer \
                   here are left out";
        ledger.changed(line.id, how);
    }
    let server = |addr: IpAddr| {
        let mut server = PoolServer::new(line.id, addr, port);
        server.routing = routing.map(|value| Stated { value, at: line.id });
        server.weight = weight;
        server
    };
    addrs.into_iter().map(server).collect()
}

/// The addresses of `real=`, their port, and whether they were a name.
fn addresses(
    text: &str,
    protocol: Protocol,
    budget: &mut Budget,
    names: &mut dyn Names,
) -> Result<(Vec<IpAddr>, Option<u16>, bool), String> {
    let (first, last) = match text.split_once("->") {
        Some((first, last)) => (first, Some(last)),
        None => (text, None),
    };
    let (end, port) = values::split_port(last.unwrap_or(first));
    let first = if last.is_some() { values::split_port(first).0 } else { end };
    let FoundAddress { addr, by_name } = values::address(first, names)?;
    let port = port.map(|port| values::port(port, protocol, names)).transpose()?;
    match last {
        None => {
            budget.take(1)?;
            Ok((vec![addr], port, by_name))
        }
        Some(_) => {
            let end = values::address(end, names)?;
            Ok((values::range(addr, end.addr, budget)?, port, by_name || end.by_name))
        }
    }
}

/// `fallback=ADDRESS[:PORT] [METHOD]`, of the service or of all services.
fn sorry_server(
    line: &LdirectordLine,
    is_own: bool,
    pool: &mut ServerPool,
    ledger: &mut Ledger,
    names: &mut dyn Names,
) {
    let mut words = unquoted(&line.value).split_whitespace();
    let (addr, port) = values::split_port(words.next().unwrap_or_default());
    let found = values::address(addr, names).and_then(|found| {
        let port = port.map(|port| values::port(port, pool.protocol, names)).transpose()?;
        Ok((found.addr, port))
    });
    match found {
        Err(why) => ledger.not_carried(line.id, why),
        Ok((addr, _)) if addr.is_loopback() => ledger.not_carried(
            line.id,
            "it is the director itself: name another machine as sorry server",
        ),
        Ok((addr, port)) => {
            ledger.carried(line.id);
            let mut server = PoolServer::new(line.id, addr, port);
            server.routing = words.find_map(method).map(|value| Stated { value, at: line.id });
            if !is_own {
                // It stays for the services that can have it.
                server.statements.clear();
            }
            pool.sorry_servers.push(server);
        }
    }
}
