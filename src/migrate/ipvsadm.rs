//! Rules of ipvsadm, as `ipvsadm -S` prints them: each line is carried out on a table in memory,
//! which then is the plan.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use super::error::MigrationError;
use super::ledger::{Ledger, StatementId};
use super::pool::{Plan, PoolServer, PoolTarget, ServerPool, Stated};
use crate::conf::Routing;
use crate::ipvs::limits::MAX_SECONDS;
use crate::ipvs::{Change, DestinationId, Forwarding, Service, ServiceId, Tunnel, service_flags};
use crate::ipvsadm::args::{OptionValue, parse};
use crate::ipvsadm::errors::{self, FailedOperation};
use crate::ipvsadm::invocation::Invocation;
use crate::ipvsadm::names::Names;
use crate::ipvsadm::popt::Popt;
use crate::ipvsadm::rules::{RuleError, Rules};

/// The options of a line, by their long names.
type Options = BTreeMap<&'static str, StatementId>;

/// Reads rules.
///
/// # Errors
/// None: a line that is no rule is noted.
pub(super) fn read(
    text: &str,
    ledger: &mut Ledger,
    names: &mut dyn Names,
) -> Result<Plan, MigrationError> {
    let mut rules = Rules::default();
    let mut reader = RuleReader::default();
    let mut plan = Plan::default();
    for (number, line) in text.lines().enumerate() {
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with('#') {
            continue;
        }
        let column = line.chars().take_while(|c| c.is_whitespace()).count() + 1;
        let mut words: Vec<&OsStr> = bare.split_whitespace().map(OsStr::new).collect();
        let first = words[0].to_string_lossy();
        if first.rsplit('/').next() == Some("ipvsadm") {
            words.remove(0);
        } else if !first.starts_with('-') {
            let id = ledger.enter((number + 1, column), &first, bare);
            ledger.not_carried(id, "it is no command of ipvsadm: import what `ipvsadm -Sn` prints");
            continue;
        }
        let options = enter(&words, (number + 1, column), bare, ledger);
        let ids: Vec<StatementId> = options.values().copied().collect();
        let setting = OptionValue { program: OsStr::new("ipvsadm"), posix: false, restoring: true };
        let change = match parse(setting, &words, names) {
            Ok(Invocation::Change(change)) => change,
            Ok(_) => {
                ledger.withdraw(ids, "it shows, saves or restores, and sets nothing");
                continue;
            }
            Err(error) => {
                let why = error.to_string();
                let hint = if bare.contains('$') {
                    ": variables are not known here, import what `ipvsadm -Sn` prints"
                } else {
                    ""
                };
                ledger.withdraw(ids, &format!("{}{hint}", why.trim()));
                continue;
            }
        };
        if let Err(error) = rules.change(&change) {
            let why = match error {
                RuleError::Refused(errno) => errors::text(FailedOperation::of(&change), errno),
                RuleError::NoRule => "it leaves no trace in the table".to_owned(),
            };
            ledger.withdraw(ids, &why);
            continue;
        }
        reader.note(&change, options, &mut plan, ledger);
    }
    reader.plan(rules, plan, ledger)
}

/// Enters the options of a line; one that cannot be read ends it.
fn enter(words: &[&OsStr], place: (usize, usize), line: &str, ledger: &mut Ledger) -> Options {
    let mut options = Options::new();
    let mut popt = Popt::new(words, false);
    while let Some(Ok(given)) = popt.next() {
        let name = given.entry.long;
        let shown = match given.argument {
            Some(argument) => format!("--{name} {}", argument.to_string_lossy()),
            None => format!("--{name}"),
        };
        options.insert(name, ledger.enter(place, &format!("--{name}"), &shown));
    }
    if options.is_empty() {
        options.insert("", ledger.enter(place, line.split(' ').next().unwrap_or(line), line));
    }
    options
}

/// Which line made what stands in the table.
#[derive(Default)]
struct RuleReader {
    services: BTreeMap<ServiceId, Options>,
    destinations: BTreeMap<ServiceId, BTreeMap<DestinationId, Options>>,
    /// The services in the order of the text.
    order: Vec<ServiceId>,
}

impl RuleReader {
    /// Notes what a change that was carried out came from.
    fn note(&mut self, change: &Change, options: Options, plan: &mut Plan, ledger: &mut Ledger) {
        let gone = "a later line takes it away or in its place";
        let ids = || options.values().copied();
        match change {
            Change::AddService(service) | Change::EditService(service) => {
                ids().for_each(|id| ledger.carried(id));
                match self.services.insert(service.id, options) {
                    Some(old) => ledger.withdraw(old.into_values(), gone),
                    None => self.order.push(service.id),
                }
            }
            Change::AddDestination(service, destination)
            | Change::EditDestination(service, destination) => {
                ids().for_each(|id| ledger.carried(id));
                let own = self.destinations.entry(*service).or_default();
                if let Some(old) = own.insert(destination.id, options) {
                    ledger.withdraw(old.into_values(), gone);
                }
            }
            Change::DeleteService(_) | Change::DeleteDestination(..) | Change::Flush => {
                // What is no longer in the table at the end is withdrawn there.
                ledger.withdraw(
                    ids().collect::<Vec<_>>(),
                    "it takes something away: nothing is left of it",
                );
            }
            Change::StartDaemon(daemon) => {
                plan.sync_interface.get_or_insert_with(|| daemon.interface.clone());
                let how = "its interface is carried: cvipd runs the daemon on the active director \
                           and on the others";
                ids().for_each(|id| ledger.changed(id, how));
            }
            Change::SetTimeouts(_) => {
                let why = "the kernel's time-outs are the host's: `ipvsadm --set`, at boot";
                ledger.withdraw(ids().collect::<Vec<_>>(), why);
            }
            _ => ledger.withdraw(ids().collect::<Vec<_>>(), "it leaves no trace in the table"),
        }
    }

    /// The table as a plan.
    fn plan(
        mut self,
        rules: Rules,
        mut plan: Plan,
        ledger: &mut Ledger,
    ) -> Result<Plan, MigrationError> {
        let gone = "a later line takes it away";
        for id in self.order {
            let Some(options) = self.services.remove(&id) else { continue };
            let destinations = self.destinations.remove(&id).unwrap_or_default();
            let Some(own) = rules.services.get(&id) else {
                let all = destinations.into_values().flat_map(Options::into_values);
                ledger.withdraw(options.into_values().chain(all), gone);
                continue;
            };
            let pool = service(&own.service, &options, ledger);
            let mut pool = pool.map_err(|why| (why, options.clone()));
            for (at, options) in destinations {
                let Some(destination) = own.destinations.get(&at) else {
                    ledger.withdraw(options.into_values(), gone);
                    continue;
                };
                match &mut pool {
                    Ok(pool) => {
                        pool.statements.extend(options.values());
                        pool.servers.extend(server(destination, &options, ledger));
                    }
                    Err((why, _)) => ledger.withdraw(options.into_values(), why),
                }
            }
            match pool {
                Ok(mut pool) => {
                    let first = pool.servers.first().and_then(|server| server.routing.as_ref());
                    pool.routing = first.map_or(pool.routing, |method| method.value);
                    plan.pools.push(pool);
                }
                Err((why, options)) => ledger.withdraw(options.into_values(), &why),
            }
        }
        Ok(plan)
    }
}

fn service(own: &Service, options: &Options, ledger: &mut Ledger) -> Result<ServerPool, String> {
    use service_flags::{ONE_PACKET, PERSISTENT, SCHED1, SCHED2, SCHED3};
    let ServiceId::Address { protocol, addr, port } = own.id else {
        return Err(
            "it is found by a firewall mark, which cvip.conf has not: write a service for \
                    each address and port that the firewall marks"
                .to_owned(),
        );
    };
    let first = options.values().min().copied().unwrap_or(0);
    let at = |name: &str| options.get(name).copied().unwrap_or(first);
    let mut pool = ServerPool::new(first, Routing::Dr);
    pool.statements.extend(options.values());
    pool.protocol = protocol;
    pool.targets.push(PoolTarget { at: first, addr, start: port, end: port });
    pool.scheduler = Some(own.scheduler.clone());
    pool.scheduler_flags = own.flags & (SCHED1 | SCHED2 | SCHED3);
    pool.one_packet = (own.flags & ONE_PACKET != 0).then(|| at("ops"));
    if own.flags & PERSISTENT != 0 {
        match (1..=MAX_SECONDS).contains(&own.timeout) {
            true => pool.persistence = Some(own.timeout),
            false => ledger.not_carried(at("persistent"), "persistence of 0 seconds"),
        }
    }
    pool.persistence_netmask =
        own.partial_netmask().map(|value| Stated { value, at: at("netmask") });
    pool.persistence_engine = own.pe.clone().map(|value| Stated { value, at: at("pe") });
    Ok(pool)
}

fn server(
    own: &crate::ipvs::Destination,
    options: &Options,
    ledger: &mut Ledger,
) -> Option<PoolServer> {
    let first = options.values().min().copied().unwrap_or(0);
    let at = |name: &str| options.get(name).copied().unwrap_or(first);
    let mut server = PoolServer::new(first, own.id.addr, Some(own.id.port));
    server.statements.extend(options.values());
    let method = match own.forward {
        Forwarding::Masquerade => Routing::Nat,
        Forwarding::Route => Routing::Dr,
        Forwarding::Tunnel => Routing::Tun,
        _ => {
            ledger.withdraw(options.values().copied(), "its forwarding method is not in cvip.conf");
            return None;
        }
    };
    if own.tunnel != Tunnel::default() {
        ledger.withdraw(options.values().copied(), "its tunnel is of another kind than IPIP");
        return None;
    }
    server.routing = Some(Stated { value: method, at: first });
    server.weight = own.weight;
    server.upper = (own.upper > 0).then(|| Stated { value: own.upper, at: at("u-threshold") });
    server.lower = (own.lower > 0).then(|| Stated { value: own.lower, at: at("l-threshold") });
    Some(server)
}
