//! The kernel's table, and which of its services are cvipd's.

use std::collections::BTreeSet;

use crate::director::settings::service_key;
use crate::doctor::{self, KernelServices};
use crate::ipvs::{Client, DestinationEntry, IpvsError, ServiceEntry};
use crate::store::{ServiceKey, StoreState};

/// Each service, its destinations, and whether it is cvipd's.
pub(in crate::cli::cvipctl) type StatusTable = Vec<(ServiceEntry, Vec<DestinationEntry>, bool)>;

/// This host's table, in order.
///
/// # Errors
/// The kernel does not let this user read it, or does not answer.
pub(in crate::cli::cvipctl) fn read_table(state: &StoreState) -> Result<StatusTable, IpvsError> {
    Ok(owned(doctor::services(&mut Client::open()?)?, state))
}

/// The same table with what the store says of each service.
pub(super) fn owned(services: KernelServices, state: &StoreState) -> StatusTable {
    let owned: BTreeSet<ServiceKey> = state.owned.values().flatten().copied().collect();
    let row = |(entry, list): (ServiceEntry, Vec<DestinationEntry>)| {
        let is_ours = service_key(entry.service.id).is_some_and(|key| owned.contains(&key));
        (entry, list, is_ours)
    };
    services.into_iter().map(row).collect()
}
