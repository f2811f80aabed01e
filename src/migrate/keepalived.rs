//! keepalived.conf: its virtual servers, and what its VRRP instances say of directors.

use super::error::MigrationError;
use super::ledger::Ledger;
use super::pool::Plan;
use super::values::Budget;
use crate::ipvsadm::names::Names;

mod check;
mod director;
mod reasons;
mod server;
mod statement;

use statement::Statement;

/// Reads a keepalived.conf.
///
/// # Errors
/// Its blocks are not balanced, or too deep.
pub(super) fn read(
    text: &str,
    ledger: &mut Ledger,
    names: &mut dyn Names,
) -> Result<Plan, MigrationError> {
    let statements = statement::parse(text, ledger)?;
    let mut plan = Plan::default();
    let is = |keyword: &'static str| move |s: &&Statement| s.is(keyword);
    let groups: Vec<&Statement> = statements.iter().filter(is("virtual_server_group")).collect();
    let mut budget = Budget::default();
    for own in statements.iter().filter(is("virtual_server")) {
        plan.pools.extend(server::pool(own, &groups, &mut budget, ledger, names));
    }
    server::unused_groups(&groups, &plan.pools, ledger);
    director::read(&statements, &mut plan, ledger);
    reasons::explain(&statements, ledger);
    Ok(plan)
}
