//! The kernel's table as `status` and the metrics show it: whole, in order, with what is cvipd's own.

use std::collections::BTreeSet;

use super::settings::service_key;
use crate::ipvs::{Client, DestinationEntry, IpvsError, ServiceEntry};
use crate::store::ServiceKey;

/// Each service, its destinations, and whether cvipd owns it.
pub type OwnedTable = Vec<(ServiceEntry, Vec<DestinationEntry>, bool)>;

/// Reads the whole table, given the services that cvipd owns.
///
/// # Errors
/// This process may not ask the kernel, or there is no IPVS.
pub fn read_owned_table(owned: &BTreeSet<ServiceKey>) -> Result<OwnedTable, IpvsError> {
    let mut client = Client::open()?;
    let services = client.services()?;
    let ids: Vec<_> = services.iter().map(|entry| entry.service.id).collect();
    let destinations = client.destinations_of(&ids)?;
    let table = services.into_iter().zip(destinations).map(|(entry, mut list)| {
        list.sort_unstable_by_key(|d| d.destination.id);
        let ours = service_key(entry.service.id).is_some_and(|key| owned.contains(&key));
        (entry, list, ours)
    });
    let mut table: OwnedTable = table.collect();
    table.sort_by_key(|(entry, ..)| entry.service.id);
    Ok(table)
}
