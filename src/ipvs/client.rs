//! The conversation with the kernel: questions, dumps, and changes in one pipelined batch.
//!
//! ipvsadm opens a socket and looks the family up anew for every message; here both are done
//! once. Changes are packed into sends of about 64 KiB, and none of them asks for an
//! acknowledgement, because the kernel answers a failure in any case: one barrier at the end
//! of a send says that all of it was handled.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::SockProtocol;

use super::codec::{self, Query};
use super::error::{ChangeFailure, IpvsError, Operation};
use super::types::*;
use super::wire::{self, Malformed};
use crate::netlink::{Body, Dump, HEADER, NetlinkSocket, short_dumps, write_barrier};

/// How many dumps are compared at most, until one has what the one before had.
const COMPARED_DUMPS: usize = 6;

/// Seconds until a missing answer counts as lost. Answers stand there when `send` returns.
const PATIENCE: i64 = 10;

/// The kernel's IPVS table, of one network namespace.
///
/// One conversation at a time, in the order of the calls: nothing is shared, so a program
/// that wants to read in parallel opens several.
pub struct Client {
    socket: NetlinkSocket,
    family: u16,
    outgoing: Vec<u8>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("family", &self.family).finish_non_exhaustive()
    }
}

impl Client {
    /// Opens the table of the calling thread's network namespace. The namespace is fixed
    /// here: a thread may enter another one (setns(2)) before `open` or after it, and use
    /// the client from there.
    ///
    /// Where the kernel has no IPVS yet, the module `ip_vs` is loaded, by the kernel's own
    /// desired setting or by modprobe(8).
    ///
    /// # Errors
    /// [`IpvsError::NoIpvs`], and [`IpvsError::Permission`] for everybody but root of the initial user
    /// namespace.
    pub fn open() -> Result<Client, IpvsError> {
        let socket =
            // A table is read in as many dumps as it has services, most of them short.
            NetlinkSocket::open(SockProtocol::NetlinkGeneric, PATIENCE, short_dumps()).map_err(
                |errno| match errno {
                    Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT => IpvsError::NoIpvs(String::new()),
                    errno => errno.into(),
                },
            )?;
        let mut client = Client { socket, family: 0, outgoing: Vec::new() };
        client.family = match client.find_family() {
            Err(IpvsError::NoIpvs(_)) => {
                let said = load_module();
                client.find_family().map_err(|error| match error {
                    IpvsError::NoIpvs(_) => IpvsError::NoIpvs(said.to_owned()),
                    other => other,
                })
            }
            found => found,
        }?;
        // Looking up needs no privilege; whatever comes next does. Better told here.
        client.info()?;
        Ok(client)
    }

    /// The lookup itself makes the kernel ask for the module by the family's name.
    fn find_family(&mut self) -> Result<u16, IpvsError> {
        match self.ask(Operation::FindFamily, Query::Family, codec::read_family) {
            Err(IpvsError::Kernel { errno: libc::ENOENT, .. }) => {
                Err(IpvsError::NoIpvs(String::new()))
            }
            found => found,
        }
    }

    /// The version of IPVS and the size of its connection table.
    pub fn info(&mut self) -> Result<Info, IpvsError> {
        self.ask(Operation::GetInfo, Query::Info, codec::read_info)
    }

    /// The connection time-outs, in seconds.
    pub fn timeouts(&mut self) -> Result<Timeouts, IpvsError> {
        self.ask(Operation::GetTimeouts, Query::Timeouts, codec::read_timeouts)
    }

    /// The sync daemons that run.
    pub fn daemons(&mut self) -> Result<Vec<SyncDaemon>, IpvsError> {
        Ok(self.dump(Operation::ListDaemons, Query::Daemons, codec::read_daemon)?.rows)
    }

    /// One virtual service; `None` if there is none.
    pub fn service(&mut self, id: &ServiceId) -> Result<Option<ServiceEntry>, IpvsError> {
        match self.ask(Operation::GetService, Query::Service(id), codec::read_service) {
            Ok(entry) => Ok(Some(entry)),
            Err(IpvsError::Kernel { errno: libc::ESRCH, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every virtual service, in the kernel's order.
    ///
    /// The kernel finds its place between two datagrams by counting, and does not say when
    /// the table changed under it: while others come and go, a service can come twice or not
    /// at all. So a dump of more than one datagram is repeated until two in a row have the
    /// same services, a few times; a service that only an earlier one had is asked for. Each
    /// that stands throughout is given exactly once.
    pub fn services(&mut self) -> Result<Vec<ServiceEntry>, IpvsError> {
        let settled = self.settle(
            |client| client.dump(Operation::ListServices, Query::Services, codec::read_service),
            |client| client.dump(Operation::ListServices, Query::Services, codec::read_service_id),
            |entry| entry.service.id,
        )?;
        let Settled { mut latest, lost } = settled;
        for id in lost.into_keys() {
            latest.extend(self.service(&id)?);
        }
        Ok(latest)
    }

    /// The destinations of a virtual service, in the kernel's order; none if there is no
    /// such service, for the kernel tells no difference. A table that changes is dealt with
    /// as by [`Client::services`]; only that a destination cannot be asked for, so that one
    /// that went away meanwhile can be among them.
    pub fn destinations(&mut self, id: &ServiceId) -> Result<Vec<DestinationEntry>, IpvsError> {
        let family = id.family();
        let (operation, query) = (Operation::ListDestinations, Query::Destinations(id));
        let settled = self.settle(
            |client| client.dump(operation, query, |a| codec::read_destination(a, family)),
            |client| client.dump(operation, query, |a| codec::read_destination_id(a, family)),
            |entry| entry.destination.id,
        )?;
        let Settled { mut latest, lost } = settled;
        latest.extend(lost.into_values().flatten());
        Ok(latest)
    }

    /// Dumps until the table stands still, or often enough: `dump` gives what there is, `names`
    /// only what it is called, which `name` tells of an entry.
    fn settle<T, K: Copy + Eq + Hash>(
        &mut self,
        dump: impl Fn(&mut Client) -> Result<Dump<T>, IpvsError>,
        names: impl Fn(&mut Client) -> Result<Dump<K>, IpvsError>,
        name: impl Fn(&T) -> K,
    ) -> Result<Settled<K, T>, IpvsError> {
        let Dump { rows: entries, datagrams } = dump(self)?;
        let mut lost: HashMap<K, Option<T>> = HashMap::new();
        if datagrams <= 1 {
            return Ok(Settled { latest: entries, lost });
        }
        let compared = names(self)?.rows;
        let same = entries.iter().map(&name).eq(compared.iter().copied());
        let mut latest = without_doubles(entries, &name);
        if same {
            return Ok(Settled { latest, lost });
        }
        let mut compared: HashSet<K> = compared.into_iter().collect();
        let are = |entries: &[T], names: &HashSet<K>| {
            entries.len() == names.len() && entries.iter().all(|e| names.contains(&name(e)))
        };
        if !are(&latest, &compared) {
            for _ in 2..COMPARED_DUMPS {
                let next = without_doubles(dump(self)?.rows, &name);
                let before = std::mem::replace(&mut latest, next);
                lost.extend(before.into_iter().map(|entry| (name(&entry), Some(entry))));
                if are(&latest, &compared) {
                    break;
                }
                let seen = std::mem::replace(&mut compared, latest.iter().map(&name).collect());
                for name in seen {
                    lost.entry(name).or_insert(None);
                }
            }
            for entry in &latest {
                lost.remove(&name(entry));
            }
        }
        Ok(Settled { latest, lost })
    }

    /// The destinations of many virtual services, each as [`Client::destinations`] gives
    /// them, in the order of `ids`.
    pub fn destinations_of(
        &mut self,
        ids: &[ServiceId],
    ) -> Result<Vec<Vec<DestinationEntry>>, IpvsError> {
        ids.iter().map(|id| self.destinations(id)).collect()
    }

    /// Makes every change, in the order given, and tells those that the kernel refused, in
    /// that order too. A refused change stops nothing: those behind it are made.
    ///
    /// This lasts as long as the kernel needs for all of them; a server that must not be
    /// away for long uses [`Client::apply_part`].
    ///
    /// # Errors
    /// [`IpvsError::RepliesLost`]: some changes were made, and the table has to be read to know
    /// which. Nothing is ever sent twice.
    pub fn apply(&mut self, changes: &[Change]) -> Result<Vec<ChangeFailure>, IpvsError> {
        let mut failures = Vec::new();
        let mut done = 0;
        while done < changes.len() {
            let part = self.apply_part(&changes[done..])?;
            let shifted = part
                .failures
                .into_iter()
                .map(|failure| ChangeFailure { index: done + failure.index, ..failure });
            failures.extend(shifted);
            done += part.done;
        }
        Ok(failures)
    }

    /// Makes as many of the first changes as one send carries (some 400, in a few
    /// milliseconds) and tells how many that were; the caller goes on behind them when it
    /// likes. Indices in the failures are those of `changes`.
    ///
    /// # Errors
    /// As [`Client::apply`].
    pub fn apply_part(&mut self, changes: &[Change]) -> Result<AppliedPart, IpvsError> {
        if changes.is_empty() {
            return Ok(AppliedPart { done: 0, failures: Vec::new() });
        }
        let first = self.socket.sequence().wrapping_add(1);
        let done = self.pack(changes);
        self.socket.send(&self.outgoing)?;
        let failures = self.collect_failures(first, &changes[..done]);
        if failures.is_err() {
            self.socket.drain();
        }
        Ok(AppliedPart { done, failures: failures? })
    }

    /// Packs the first changes into one send, as many as fit, with a barrier behind them;
    /// gives their number.
    fn pack(&mut self, changes: &[Change]) -> usize {
        self.outgoing.clear();
        let most = self.socket.answers_that_fit();
        let room = self.socket.send_limit() - codec::LARGEST_CHANGE - HEADER;
        let mut packed = 0;
        for change in changes.iter().take(most) {
            if self.outgoing.len() > room {
                break;
            }
            let sequence = self.socket.next_sequence();
            codec::write_change(&mut self.outgoing, self.family, sequence, change);
            packed += 1;
        }
        let sequence = self.socket.next_sequence();
        write_barrier(&mut self.outgoing, sequence);
        packed
    }

    /// Reads answers up to that of the barrier behind `changes`, whose sequence numbers begin
    /// with `first`. They come in the order of the requests.
    fn collect_failures(
        &mut self,
        first: u32,
        changes: &[Change],
    ) -> Result<Vec<ChangeFailure>, IpvsError> {
        let mut failures = Vec::new();
        self.socket.receive_until(|message| {
            let index = message.sequence.wrapping_sub(first) as usize;
            match (message.body, changes.get(index)) {
                (Body::Overrun, _) => return Err(IpvsError::RepliesLost),
                (Body::Done, None) if index == changes.len() => return Ok(Some(())),
                (Body::Refused(error), Some(change)) => failures.push(ChangeFailure {
                    index,
                    operation: Operation::of(change),
                    errno: error.errno,
                    text: error.text,
                }),
                _ => {} // an answer to something that was given up
            }
            Ok(None)
        })?;
        Ok(failures)
    }

    /// Asks for one thing that one message answers.
    fn ask<T>(
        &mut self,
        operation: Operation,
        query: Query<'_>,
        read: impl Fn(&[u8]) -> Result<T, Malformed>,
    ) -> Result<T, IpvsError> {
        let family = self.family;
        let answer = self.socket.ask(
            |buffer, sequence| codec::write_query(buffer, family, sequence, query),
            |error| IpvsError::refused(operation, error),
            |_, reply| Ok::<_, IpvsError>(Some(read(wire::attributes(reply)?)?)),
        )?;
        answer.ok_or(Malformed::Missing("content").into())
    }

    /// Asks for many things.
    fn dump<T>(
        &mut self,
        operation: Operation,
        query: Query<'_>,
        read: impl Fn(&[u8]) -> Result<T, Malformed>,
    ) -> Result<Dump<T>, IpvsError> {
        let family = self.family;
        self.socket.dump(
            |buffer, sequence| codec::write_query(buffer, family, sequence, query),
            |error| IpvsError::refused(operation, error),
            |_, reply| Ok(Some(read(wire::attributes(reply)?)?)),
        )
    }
}

/// What several dumps of one table come to.
struct Settled<K, T> {
    /// The last one.
    latest: Vec<T>,
    /// What others had and it has not; without an entry, where only its name was read.
    lost: HashMap<K, Option<T>>,
}

/// What [`Client::apply_part`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedPart {
    /// The number of changes that the kernel has seen, from the first on.
    pub done: usize,
    /// Those of them that it refused.
    pub failures: Vec<ChangeFailure>,
}

/// Keeps one entry of each name: where the first stood, what the last said.
fn without_doubles<T, K: Eq + Hash>(mut entries: Vec<T>, name: impl Fn(&T) -> K) -> Vec<T> {
    let mut names = HashSet::with_capacity(entries.len());
    if entries.iter().all(|entry| names.insert(name(entry))) {
        return entries;
    }
    let mut places = HashMap::new();
    let mut kept = 0;
    for at in 0..entries.len() {
        let place = *places.entry(name(&entries[at])).or_insert(kept);
        entries.swap(place, at);
        kept += usize::from(place == kept);
    }
    entries.truncate(kept);
    entries
}

/// Asks modprobe(8) for the module, once in a process's life: what it cannot do the first
/// time it cannot do later. What it says of its failure is for [`IpvsError::NoIpvs`].
fn load_module() -> &'static str {
    static SAID: OnceLock<String> = OnceLock::new();
    SAID.get_or_init(|| {
        let mut said = String::new();
        for modprobe in ["/sbin/modprobe", "/usr/sbin/modprobe"] {
            let run = Command::new(modprobe).args(["--", "ip_vs"]).stdin(Stdio::null()).output();
            match run {
                Ok(output) if output.status.success() => return String::new(),
                Ok(output) => said = String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                Err(_) => {}
            }
        }
        said
    })
}

#[cfg(test)]
mod tests;
