//! The kernel's table as `status`, `doctor` and the metrics show it: whole, in order, and with what is
//! cvipd's own.

use std::collections::BTreeSet;

use super::settings::service_key;
use crate::ipvs::{Client, DestinationEntry, IpvsError, ServiceEntry};
use crate::store::ServiceKey;

/// The services of a kernel's table, each with its destinations.
pub type KernelServices = Vec<(ServiceEntry, Vec<DestinationEntry>)>;

/// Each service, its destinations, and whether cvipd owns it.
pub type OwnedTable = Vec<(ServiceEntry, Vec<DestinationEntry>, bool)>;

/// Reads the table's services in order, each with its destinations in order.
///
/// # Errors
/// The kernel does not let this user read it, or does not answer.
pub fn read_services(client: &mut Client) -> Result<KernelServices, IpvsError> {
    let services = client.services()?;
    let ids: Vec<_> = services.iter().map(|entry| entry.service.id).collect();
    let destinations = client.destinations_of(&ids)?;
    let mut table: KernelServices = services.into_iter().zip(destinations).collect();
    for (_, list) in &mut table {
        list.sort_unstable_by_key(|entry| entry.destination.id);
    }
    table.sort_by_key(|(entry, _)| entry.service.id);
    Ok(table)
}

/// The same services with what is known of who owns them.
pub fn owned_table(services: KernelServices, owned: &BTreeSet<ServiceKey>) -> OwnedTable {
    let row = |(entry, list): (ServiceEntry, Vec<DestinationEntry>)| {
        let is_ours = service_key(entry.service.id).is_some_and(|key| owned.contains(&key));
        (entry, list, is_ours)
    };
    services.into_iter().map(row).collect()
}

/// Reads the whole table, given the services that cvipd owns.
///
/// # Errors
/// This process may not ask the kernel, or there is no IPVS.
pub fn read_owned_table(owned: &BTreeSet<ServiceKey>) -> Result<OwnedTable, IpvsError> {
    Ok(owned_table(read_services(&mut Client::open()?)?, owned))
}
