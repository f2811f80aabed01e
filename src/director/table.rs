//! Reads what the kernel has of the services of a pass: one by one when they are few, by one dump when
//! they are many.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read};

use super::desired::Inputs;
use super::drains::DrainState;
use super::fingerprint::{self, Print};
use super::kernel_table::{Actual, KernelTable};
use super::reconcile::{Plans, concerned, plans};
use super::settings::{service_id, service_key};
use crate::ipvs::{Client, DestinationEntry, IpvsError, ServiceEntry, ServiceId, proc_net};
use crate::store::{ServiceKey, StoreState};

/// From this many services on, one dump of all costs less than a question for each.
const DUMP_FROM: usize = 32;

/// Room for the table's text that is made at once, in bytes.
const READ_AHEAD: usize = 64 * 1024;

/// A table that can be read: the kernel's, or a simulated one.
pub trait TableReader {
    /// Every virtual service.
    ///
    /// # Errors
    /// The table cannot be read.
    fn services(&mut self) -> Result<Vec<ServiceEntry>, IpvsError>;

    /// One virtual service; `None` if there is none.
    ///
    /// # Errors
    /// As [`TableReader::services`].
    fn service(&mut self, id: &ServiceId) -> Result<Option<ServiceEntry>, IpvsError>;

    /// The destinations of a virtual service; none if there is no such service.
    ///
    /// # Errors
    /// As [`TableReader::services`].
    fn destinations(&mut self, id: &ServiceId) -> Result<Vec<DestinationEntry>, IpvsError>;
}

impl TableReader for Client {
    fn services(&mut self) -> Result<Vec<ServiceEntry>, IpvsError> {
        Client::services(self)
    }

    fn service(&mut self, id: &ServiceId) -> Result<Option<ServiceEntry>, IpvsError> {
        Client::service(self, id)
    }

    fn destinations(&mut self, id: &ServiceId) -> Result<Vec<DestinationEntry>, IpvsError> {
        Client::destinations(self, id)
    }
}

/// The services of a full pass, and what the kernel has of them.
///
/// # Errors
/// The kernel could not be read.
pub fn read_all(
    reader: &mut dyn TableReader,
    inputs: Inputs<'_>,
    state: &StoreState,
) -> Result<(BTreeSet<ServiceKey>, KernelTable), IpvsError> {
    let standing = by_key(reader.services()?);
    let services = concerned(standing.keys(), inputs, state);
    let table = read(reader, &services, standing)?;
    Ok((services, table))
}

/// What the kernel has of some services.
///
/// # Errors
/// The kernel could not be read.
pub fn read_some(
    reader: &mut dyn TableReader,
    services: &BTreeSet<ServiceKey>,
) -> Result<KernelTable, IpvsError> {
    let mut entries: Vec<ServiceEntry> = Vec::new();
    if services.len() < DUMP_FROM {
        for key in services {
            entries.extend(reader.service(&service_id(*key))?);
        }
    } else {
        entries = reader.services()?;
    }
    read(reader, services, by_key(entries))
}

/// The fingerprints of all services.
///
/// # Errors
/// The kernel does not show its table as text.
pub(super) fn read_prints() -> io::Result<HashMap<ServiceKey, Print>> {
    // The kernel gives a page for each call, and begins anew by counting services, those of other network
    // namespaces too: what comes and goes there in between can hide a service. So no call is for less.
    let mut text = Vec::with_capacity(READ_AHEAD);
    proc_net::open("ip_vs")?.read_to_end(&mut text)?;
    Ok(fingerprint::prints(&text))
}

/// True if the kernel shows no service at all: the table was flushed. Costs the same for every table.
pub(super) fn is_flushed() -> bool {
    let mut text = [0; 1024];
    let Ok(length) = proc_net::open("ip_vs").and_then(|mut file| file.read(&mut text)) else {
        return false;
    };
    length < text.len() && !fingerprint::has_service(&text[..length])
}

/// Reads the destinations of those services that stand.
fn read(
    reader: &mut dyn TableReader,
    services: &BTreeSet<ServiceKey>,
    mut standing: HashMap<ServiceKey, ServiceEntry>,
) -> Result<KernelTable, IpvsError> {
    let mut table = KernelTable::new();
    for key in services {
        if let Some(entry) = standing.remove(key) {
            let destinations = reader.destinations(&entry.service.id)?.into_iter();
            let destinations = destinations.map(|d| (d.destination.id, d)).collect();
            table.insert(*key, Actual { service: entry.service, destinations });
        }
    }
    Ok(table)
}

fn by_key(entries: Vec<ServiceEntry>) -> HashMap<ServiceKey, ServiceEntry> {
    let keyed = |entry: ServiceEntry| Some((service_key(entry.service.id)?, entry));
    entries.into_iter().filter_map(keyed).collect()
}

/// Plans a full pass; nothing is changed.
///
/// # Errors
/// The kernel could not be read.
pub fn plan_all(
    reader: &mut dyn TableReader,
    inputs: Inputs<'_>,
    state: &StoreState,
    drains: &mut DrainState,
) -> Result<Plans, IpvsError> {
    let (services, table) = read_all(reader, inputs, state)?;
    Ok(plans(&services, &table, inputs, drains))
}
