//! The whole table in one reading of `/proc/net/ip_vs`.
//!
//! Netlink has no dump of all destinations, only one of each service's. A listing that shows no
//! more than addresses, forwarding, weights and connections finds all of it in this file, which
//! takes a thousand round trips less for a thousand services. It is a second snapshot and says
//! less than netlink: its user compares service by service, and asks netlink for those
//! that the two do not agree on, for firewall marks (the file does not say of which family) and
//! for what the file does not have.

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::ops::Range;

use crate::ipvs::proc_net::ProcLine;
use crate::ipvs::{Destination, DestinationEntry, DestinationId, Forwarding, ServiceId, Stats};

/// The longest line that is one of the file's, in bytes; the kernel's are shorter.
const LONGEST_LINE: u64 = 4096;

/// What stands in the file, by service.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ProcTable {
    services: HashMap<ServiceId, ProcSeen>,
    /// The destinations of all services: those of one stand together.
    destinations: Vec<Short>,
}

#[derive(Debug, PartialEq, Eq)]
struct ProcSeen {
    scheduler: Box<str>,
    destinations: Range<usize>,
}

/// A destination as the file shows it; there may be very many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Short {
    id: DestinationId,
    forward: Forwarding,
    weight: u32,
    active: u32,
    inactive: u32,
}

impl ProcTable {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is something else.
    pub fn read(mut file: impl BufRead) -> io::Result<ProcTable> {
        let mut proc_table = ProcTable::default();
        // The service whose destinations come; none for one that is not kept.
        let mut current = None;
        let mut line = Vec::new();
        loop {
            line.clear();
            if io::Read::take(&mut file, LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
                proc_table.close(current);
                return Ok(proc_table);
            }
            let text = std::str::from_utf8(&line).map_err(io::Error::other)?;
            match ProcLine::parse(text) {
                Some(ProcLine::Destination { id, forward, weight, active, inactive }) => {
                    if current.is_some() {
                        let short = Short { id, forward, weight, active, inactive };
                        proc_table.destinations.push(short);
                    }
                }
                Some(ProcLine::Service { id, scheduler, .. }) => {
                    proc_table.close(current.take());
                    let start = proc_table.destinations.len();
                    let scheduler = scheduler.into();
                    current = Some((id, ProcSeen { scheduler, destinations: start..start }));
                }
                Some(ProcLine::Mark) => proc_table.close(current.take()),
                Some(ProcLine::Title) => {}
                None => return Err(io::Error::other("this is not /proc/net/ip_vs")),
            }
        }
    }

    /// Keeps a service with all destinations that came since it did.
    fn close(&mut self, service: Option<(ServiceId, ProcSeen)>) {
        if let Some((id, mut seen)) = service {
            seen.destinations.end = self.destinations.len();
            // Listed twice in a table that changes: the last one counts.
            self.services.insert(id, seen);
        }
    }

    /// The destinations of a service, in the kernel's order, without the counters that the file
    /// does not have; `None` if it is not there or has another scheduler.
    pub fn take(&mut self, id: &ServiceId, scheduler: &str) -> Option<Vec<DestinationEntry>> {
        let seen = self.services.remove(id).filter(|seen| *seen.scheduler == *scheduler)?;
        let entry = |short: &Short| DestinationEntry {
            destination: Destination::new(
                short.id.addr,
                short.id.port,
                short.forward,
                short.weight,
            ),
            active: short.active,
            inactive: short.inactive,
            persistent: 0,
            stats: Stats::default(),
        };
        Some(self.destinations[seen.destinations].iter().map(entry).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::Protocol;

    const FILE: &str = "IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C0000201:0050 wlc persistent 360 FFFFFFFF
  -> C6336402:0050      Masq    2147483647 3          4
  -> [2001:0db8:0000:0000:0000:0000:0000:0011]:0050      Tunnel  1      0          0
UDP  C0000201:0035 rr ops
FWM  00000001 wlc
  -> C6336401:0000      Route   1      0          0
TCP  [2001:0db8:0000:0000:0000:0000:0000:0001]:0050 sh
  -> [2001:0db8:0000:0000:0000:0000:0000:0010]:1F90      Masq    0      0          0
";

    fn id(protocol: Protocol, addr: &str, port: u16) -> ServiceId {
        ServiceId::Address { protocol, addr: addr.parse().unwrap(), port }
    }

    #[test]
    fn services_and_their_destinations_are_read_in_the_kernels_order() {
        let mut proc_table = ProcTable::read(FILE.as_bytes()).unwrap();
        let web = proc_table.take(&id(Protocol::Tcp, "192.0.2.1", 80), "wlc").unwrap();
        let mut first =
            Destination::new([198, 51, 100, 2].into(), 80, Forwarding::Masquerade, i32::MAX as u32);
        assert_eq!((web[0].destination, web[0].active, web[0].inactive), (first, 3, 4));
        assert_eq!(web[1].destination.forward, Forwarding::Tunnel);
        assert_eq!(web.len(), 2);
        assert_eq!(proc_table.take(&id(Protocol::Udp, "192.0.2.1", 53), "rr"), Some(vec![]));
        let six = proc_table.take(&id(Protocol::Tcp, "2001:db8::1", 80), "sh").unwrap();
        first = Destination::new("2001:db8::10".parse().unwrap(), 8080, Forwarding::Masquerade, 0);
        assert_eq!(six.iter().map(|entry| entry.destination).collect::<Vec<_>>(), [first]);
    }

    #[test]
    fn what_does_not_agree_is_not_taken_and_marks_are_never() {
        let mut proc_table = ProcTable::read(FILE.as_bytes()).unwrap();
        assert_eq!(proc_table.take(&id(Protocol::Tcp, "192.0.2.1", 80), "rr"), None);
        assert_eq!(proc_table.take(&id(Protocol::Tcp, "192.0.2.1", 81), "wlc"), None);
        assert_eq!(proc_table.services.len(), 2);
    }

    #[test]
    fn another_file_is_an_error() {
        for text in ["TCP x wlc\n", "  -> C6336401:0000 Magic 1 0 0\n", "root:x:0:0\n"] {
            assert!(ProcTable::read(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "(\\PC{0,9}[ :\n]|TCP|->|C0000201:0050){0,20}") {
            let _ = ProcTable::read(text.as_bytes());
        }
    }
}
