//! The fuzz targets, as plain functions: any bytes at all must neither panic nor hang.
//!
//! `cargo xtask fuzz --smoke` runs them with mutations of its own, cargo-fuzz through `fuzz/`.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use crate::ipvs::fuzzing::{decode, decode_control, encode};
use crate::ipvs::{Change, DestinationEntry, Info, ServiceEntry, ServiceId, SyncDaemon, Timeouts};
use crate::ipvsadm::args::{OptionValue, parse};
use crate::ipvsadm::invocation::Invocation;
use crate::ipvsadm::names::Numbers;
use crate::ipvsadm::table::{Table, TableError};
use crate::ipvsadm::watch::Clock;
use crate::ipvsadm::{Call, ToolStreams, change_line, run};
use crate::netlink::route;

/// The parser of rules: the bytes as a restore, and as the words of a command line, separated by
/// NUL bytes. Every change that comes out fits into a message, and can be told as a command.
pub fn rules(data: &[u8]) {
    let words: Vec<&OsStr> = data.split(|byte| *byte == 0).map(OsStr::from_bytes).collect();
    let program = OsStr::new("ipvsadm");
    for posix in [false, true] {
        let setting = OptionValue { program, posix, restoring: false };
        if let Ok(Invocation::Change(change)) = parse(setting, &words, &mut Numbers) {
            check(&change);
        }
    }
    let status = run(
        Call { program, words: &["-R".into()], posix: false },
        ToolStreams {
            stdin: &mut &*data,
            out: &mut io::sink(),
            err: &mut io::sink(),
            err_is_terminal: false,
        },
        &mut Numbers,
        &mut NoTime,
        || Ok(Empty),
    );
    assert!(matches!(status, 0 | 1 | 2 | 255), "status {status}");
}

/// A clock on which waiting takes no time.
struct NoTime;

impl Clock for NoTime {
    fn now(&mut self) -> Instant {
        Instant::now()
    }

    fn sleep(&mut self, _time: Duration) {}
}

/// The decoder of the kernel's replies.
pub fn replies(data: &[u8]) {
    std::hint::black_box(decode(data));
}

/// The decoder of the kernel's replies that tell of no service: the family's number, version,
/// time-outs and sync daemons. The bytes are attributes; gives how many could be read.
pub fn control(data: &[u8]) -> usize {
    decode_control(data)
}

/// The decoder of rtnetlink's messages: a byte that chooses the type, and the body; gives how many
/// things could be read.
pub fn rtnetlink(data: &[u8]) -> usize {
    // RTM_NEWLINK, RTM_NEWADDR, RTM_NEWROUTE, and something else.
    const KINDS: [u16; 4] = [16, 20, 24, 99];
    let Some((kind, body)) = data.split_first() else { return 0 };
    route::read_anything(KINDS[usize::from(kind % 4)], body)
}

/// What rules say, as messages: where mutations of replies may begin, since a reply is made
/// of the same attributes.
#[must_use]
pub fn as_messages(rules: &str) -> Vec<Vec<u8>> {
    let setting = OptionValue { program: OsStr::new("ipvsadm"), posix: false, restoring: true };
    let changes = rules.lines().filter_map(|line| {
        let words: Vec<&OsStr> = line.split_whitespace().map(OsStr::new).collect();
        match parse(setting, &words, &mut Numbers) {
            Ok(Invocation::Change(change)) => Some(encode(&change)),
            _ => None,
        }
    });
    changes.collect()
}

fn check(change: &Change) {
    std::hint::black_box(encode(change));
    std::hint::black_box(change_line(change));
}

/// A table that takes every change and keeps none.
struct Empty;

impl Table for Empty {
    fn info(&mut self) -> Result<Info, TableError> {
        Ok(Info { version: (1, 2, 1), connection_table_size: 4096 })
    }

    fn services(&mut self) -> Result<Vec<ServiceEntry>, TableError> {
        Ok(Vec::new())
    }

    fn service(&mut self, _: &ServiceId) -> Result<ServiceEntry, TableError> {
        Err(TableError::Refused(nix::libc::ESRCH))
    }

    fn destinations(&mut self, _: &ServiceId) -> Result<Vec<DestinationEntry>, TableError> {
        Ok(Vec::new())
    }

    fn apply(&mut self, changes: &[Change]) -> Result<Vec<(usize, i32)>, TableError> {
        changes.iter().for_each(check);
        Ok(Vec::new())
    }

    fn timeouts(&mut self) -> Result<Timeouts, TableError> {
        Ok(Timeouts { tcp: 900, tcp_fin: 120, udp: 300 })
    }

    fn daemons(&mut self) -> Result<Vec<SyncDaemon>, TableError> {
        Ok(Vec::new())
    }

    fn connections(&mut self) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(io::empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutations_begin_with_what_can_be_read() {
        let rules = "-A -t 10.0.0.1:80 -s rr\n-a -f 1 -6 -r [2001:db8::1]:80\n--set 1 2 3\n\
                     --start-daemon master --mcast-interface lo\n";
        let messages = as_messages(rules);
        assert_eq!(messages.len(), 4);
        for message in messages {
            assert!(decode(&message) > 0, "{message:?}");
        }
    }

    #[test]
    fn the_targets_take_nothing_and_anything() {
        for data in [&b""[..], b"\0", b"-A", b"-A\0-t\0\xff", &[0xff; 300]] {
            rules(data);
            replies(data);
            let _ = (control(data), rtnetlink(data));
        }
    }
}
