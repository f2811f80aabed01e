//! A service of the kernel's table on a director, and waiting for its changes.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cvip::ipvs::{Client, ServiceId};
use cvip_lab::{Namespace, since_when};

/// A service, there or not.
pub(crate) struct Table {
    client: Client,
    id: ServiceId,
    /// How long a change may take.
    patience: Duration,
    /// How often it is looked at while something is awaited.
    pace: Duration,
}

impl Table {
    pub(crate) fn open(
        host: &Namespace,
        id: ServiceId,
        patience: Duration,
        pace: Duration,
    ) -> Result<Table> {
        Ok(Table { client: host.enter(Client::open)?, id, patience, pace })
    }

    /// The real servers that get new connections.
    pub(crate) fn weighed(&mut self) -> Result<Vec<IpAddr>> {
        let mut destinations = self.client.destinations(&self.id)?;
        destinations.retain(|entry| entry.destination.weight > 0);
        Ok(destinations.into_iter().map(|entry| entry.destination.id.addr).collect())
    }

    /// Waits until a real server gets new connections, or none any more; since when.
    pub(crate) fn until(&mut self, server: IpAddr, gets: bool) -> Result<Instant> {
        let (patience, pace) = (self.patience, self.pace);
        since_when(patience, pace, || Ok(self.weighed()?.contains(&server) == gets))
            .with_context(|| format!("{server} did not change"))
    }

    /// Waits until the service is gone; finished connections hold it for some seconds.
    pub(crate) fn until_gone(&mut self) -> Result<Instant> {
        since_when(2 * self.patience, self.pace, || Ok(self.client.service(&self.id)?.is_none()))
            .with_context(|| format!("{} stayed", self.id))
    }
}
