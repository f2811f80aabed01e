//! The kernel's table, and which of its services are cvipd's by the store.

use std::collections::BTreeSet;

use crate::director::owned_table::{KernelServices, OwnedTable, owned_table, read_owned_table};
use crate::ipvs::IpvsError;
use crate::store::{ServiceKey, StoreState};

/// This host's table, in order.
///
/// # Errors
/// The kernel does not let this user read it, or does not answer.
pub(in crate::cli::cvipctl) fn read_table(state: &StoreState) -> Result<OwnedTable, IpvsError> {
    read_owned_table(&services_of(state))
}

/// The same table with what the store says of each service.
pub(super) fn owned(services: KernelServices, state: &StoreState) -> OwnedTable {
    owned_table(services, &services_of(state))
}

fn services_of(state: &StoreState) -> BTreeSet<ServiceKey> {
    state.owned.values().flatten().copied().collect()
}
