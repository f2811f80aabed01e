//! What a keepalived.conf says of directors: its VRRP instances, and the synchronisation of
//! connections.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::server::virtual_addresses;
use super::statement::Statement;
use crate::migrate::ledger::Ledger;
use crate::migrate::pool::{Plan, Stated};

/// The most directors that are taken.
const MOST_DIRECTORS: usize = 64;

/// Takes directors, interfaces and the synchronisation of connections into the plan.
pub(super) fn read(statements: &[Statement], plan: &mut Plan, ledger: &mut Ledger) {
    let cvips: BTreeSet<IpAddr> = virtual_addresses(plan).collect();
    for instance in statements.iter().filter(|own| own.is("vrrp_instance")) {
        vrrp_instance(instance, &cvips, plan, ledger);
    }
    for globals in statements.iter().filter(|own| own.is("global_defs")) {
        for setting in globals.block.iter().filter(|own| own.is("lvs_sync_daemon")) {
            synchronised(setting, plan, ledger);
        }
    }
}

fn vrrp_instance(own: &Statement, cvips: &BTreeSet<IpAddr>, plan: &mut Plan, ledger: &mut Ledger) {
    let find = |keyword: &str| own.block.iter().find(|setting| setting.is(keyword));
    let interface = find("interface");
    let mut is_used = false;
    for list in
        own.block.iter().filter(|setting| setting.keyword().starts_with("virtual_ipaddress"))
    {
        let mut carried = false;
        for line in &list.block {
            carried |= virtual_address(line, interface, cvips, plan, ledger);
        }
        match carried {
            true => ledger.carried(list.id),
            false => {
                ledger.not_carried(list.id, "no virtual server that is carried is on its addresses")
            }
        }
        is_used |= carried;
    }
    if let Some(interface) = interface {
        if plan.interface.is_none() {
            plan.interface = Some(interface.value().to_owned());
        }
        match is_used {
            true => ledger.carried(interface.id),
            false => {
                ledger.not_carried(interface.id, "its instance has no address of a virtual server")
            }
        }
    }
    match is_used {
        true => {
            ledger.changed(own.id, "directors elect the one that carries the CVIPs, without VRRP")
        }
        false => {
            ledger.not_carried(own.id, "it has no address of a virtual server that is carried")
        }
    }
    directors(own, plan, ledger);
    for setting in &own.block {
        if matches!(setting.keyword(), "lvs_sync_daemon_interface" | "lvs_sync_daemon_inteface") {
            synchronised(setting, plan, ledger);
        }
    }
}

/// An address that an instance carries; whether it is a CVIP of the draft.
fn virtual_address(
    line: &Statement,
    interface: Option<&Statement>,
    cvips: &BTreeSet<IpAddr>,
    plan: &mut Plan,
    ledger: &mut Ledger,
) -> bool {
    let text = line.keyword().split('/').next().unwrap_or_default();
    let Ok(addr) = text.parse::<IpAddr>() else {
        ledger.not_carried(line.id, "it is no address");
        return false;
    };
    if !cvips.contains(&addr) {
        let why = "no virtual server that is carried has this address: if real servers have it as \
                   their default route with NAT, give it as `gateway` of their CVIP; if its services \
                   are found by a firewall mark, add a `cvip` for it";
        ledger.not_carried(line.id, why);
        return false;
    }
    plan.addresses.push(Stated { value: addr, at: line.id });
    let words = line.values();
    let device = words.iter().position(|word| word == "dev").and_then(|at| words.get(at + 1));
    let name = device.map(String::as_str).or(interface.map(Statement::value));
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        plan.interfaces.push((addr, name.to_owned()));
    }
    let more = words.iter().any(|word| word != "dev" && Some(word) != device);
    match more || line.keyword().contains('/') {
        true => ledger.changed(
            line.id,
            "a CVIP is carried as an address of its own, without prefix length, label and scope",
        ),
        false => ledger.carried(line.id),
    }
    true
}

/// The directors' addresses, where an instance tells them.
fn directors(own: &Statement, plan: &mut Plan, ledger: &mut Ledger) {
    let mut addrs: Vec<(IpAddr, &Statement)> = Vec::new();
    let is_own =
        |setting: &&Statement| matches!(setting.keyword(), "unicast_src_ip" | "mcast_src_ip");
    for setting in own.block.iter().filter(is_own) {
        addrs.extend(setting.value().parse().ok().map(|addr| (addr, setting)));
    }
    let is_first =
        own.block.iter().any(|setting| setting.is("state") && setting.value() == "MASTER");
    let mut peers = Vec::new();
    for list in own.block.iter().filter(|setting| setting.is("unicast_peer")) {
        ledger.carried(list.id);
        peers.extend(
            list.block.iter().filter_map(|line| Some((line.keyword().parse().ok()?, line))),
        );
    }
    match is_first {
        true => addrs.append(&mut peers),
        false => addrs = [peers, addrs].concat(),
    }
    for (addr, setting) in addrs {
        if plan.directors.len() >= MOST_DIRECTORS {
            ledger.not_carried(setting.id, format!("there are {MOST_DIRECTORS} directors already"));
            continue;
        }
        ledger.carried(setting.id);
        if !plan.directors.iter().flatten().any(|known| *known == addr) {
            plan.directors.push(vec![addr]);
        }
    }
}

/// `lvs_sync_daemon`: the interface, and what cvipd decides by itself.
fn synchronised(setting: &Statement, plan: &mut Plan, ledger: &mut Ledger) {
    if setting.value().is_empty() {
        ledger.not_carried(setting.id, "it names no interface");
        return;
    }
    plan.sync_interface.get_or_insert_with(|| setting.value().to_owned());
    match setting.values().len() {
        1 => ledger.carried(setting.id),
        _ => ledger.changed(
            setting.id,
            "the interface is carried: cvipd runs the daemon on the active director and on the others",
        ),
    }
}
