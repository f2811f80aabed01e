//! One machine's kernel: its IPVS table, network and sockets.

pub mod ipvs;
pub mod network;
pub mod sockets;

use std::net::IpAddr;

use crate::time::SimTime;
use ipvs::IpvsTable;
use network::Network;
use sockets::Sockets;

/// A machine's kernel.
#[derive(Debug)]
pub struct Kernel {
    ipvs: IpvsTable,
    /// Interfaces, addresses, sysctls.
    pub network: Network,
    /// Listeners and connections.
    pub sockets: Sockets,
}

impl Kernel {
    /// The kernel of a machine that has just started, with these interfaces, their addresses and
    /// prefix lengths. A reboot is another kernel.
    pub fn new(interfaces: &[(&str, IpAddr, u8)]) -> Kernel {
        let (ipvs, sockets) = (IpvsTable::default(), Sockets::default());
        Kernel { ipvs, network: Network::new(interfaces), sockets }
    }

    /// The IPVS table, which heeds the sysctls as they are now.
    pub fn ipvs(&mut self) -> &mut IpvsTable {
        self.ipvs.settings = self.network.ipvs();
        &mut self.ipvs
    }

    /// The IPVS table, for those who judge.
    pub fn table(&self) -> &IpvsTable {
        &self.ipvs
    }

    /// When something ends by itself.
    pub fn due(&self) -> SimTime {
        self.ipvs.due().min(self.network.due()).min(self.sockets.due())
    }

    /// Ends what ends by itself.
    pub fn tick(&mut self, now: SimTime) {
        self.ipvs.tick(now);
        self.network.tick(now);
        self.sockets.tick(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_heeds_sysctls_that_were_written_after_it_was_made() {
        let mut kernel = Kernel::new(&[("eth0", [10, 0, 0, 1].into(), 24)]);
        assert!(!kernel.ipvs().settings.expire_nodest_conn);
        kernel.network.write_by_hand("net/ipv4/vs/expire_nodest_conn", "1");
        assert!(kernel.ipvs().settings.expire_nodest_conn);
        assert_eq!(kernel.due(), SimTime::NEVER);
    }
}
