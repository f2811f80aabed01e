//! The kernel's table on a director, and how to wait for a change of it.

use std::net::IpAddr;
use std::thread::sleep;
use std::time::Instant;

use anyhow::{Result, ensure};
use cvip::ipvs::{Client, ServiceId};
use cvip::protocol::Protocol;
use cvip_lab::Deployment;

use super::{LOOK_EVERY, PATIENCE};

/// The kernel's table on the director, as the demo watches it.
pub(super) struct Table {
    client: Client,
}

/// A virtual service that is awaited.
pub(super) struct Watched {
    pub(super) protocol: Protocol,
    pub(super) cvip: IpAddr,
    pub(super) port: u16,
}

impl Watched {
    fn id(&self) -> ServiceId {
        ServiceId::Address { protocol: self.protocol, addr: self.cvip, port: self.port }
    }
}

impl Table {
    pub(super) fn open(site: &Deployment, director: u32) -> Result<Table> {
        Ok(Table { client: site.host(director).enter(Client::open)? })
    }

    /// Waits until a server's weight in a service (`None`: it is not there) is as asked.
    pub(super) fn until(
        &mut self,
        service: &Watched,
        server: IpAddr,
        holds: impl Fn(Option<u32>) -> bool,
    ) -> Result<Instant> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let destinations = self.client.destinations(&service.id())?;
            let now = Instant::now();
            let found = destinations.iter().find(|d| d.destination.id.addr == server);
            if holds(found.map(|d| d.destination.weight)) {
                return Ok(now);
            }
            ensure!(now < deadline, "the table did not change within {PATIENCE:?}");
            sleep(LOOK_EVERY);
        }
    }

    /// Waits until a service is gone; finished connections hold it for some seconds.
    pub(super) fn until_gone(&mut self, service: &Watched) -> Result<()> {
        let deadline = Instant::now() + 2 * PATIENCE;
        while self.client.service(&service.id())?.is_some() {
            ensure!(Instant::now() < deadline, "the service stayed");
            sleep(LOOK_EVERY);
        }
        Ok(())
    }
}
