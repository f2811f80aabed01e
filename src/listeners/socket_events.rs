//! The socket events: programs on the root cgroup that report when a socket on a port that matters
//! comes or goes.
//!
//! A socket event only wakes: what is true, the next dump says. Several may arrive as one, some not
//! at all; nothing but latency may depend on them. Each daemon attaches its own set and reads its
//! own network namespace; the programs die with the descriptors held here.

use std::fs::{self, File};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::Ranges;
use super::bpf::{self, BpfProgram, Maps, PORT_WORDS};
use super::state::EventCoverage;
use super::sys::{self, Map, Ring};
use crate::protocol::Protocol;

pub use super::bpf::SocketEvent;

/// Sockets whose release is reported. Releases of further sockets are found by the poll.
const REMEMBERED: u32 = 16 * 1024;

/// Why no program can be attached: what is missing, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoSocketEvents {
    /// There is no cgroup to attach them to.
    #[error("no cgroup v2 in this kernel, or no privilege to mount it")]
    NoCgroup,
    /// The cgroup is mounted, but cannot be opened.
    #[error("cannot open {}: {errno}", path.display())]
    Cgroup {
        /// Where it is mounted.
        path: PathBuf,
        /// Why not.
        errno: Errno,
    },
    /// The kernel, a container or lockdown forbids it.
    #[error("not allowed to load BPF: it needs CAP_BPF and CAP_NET_ADMIN, and no lockdown")]
    Forbidden,
    /// The kernel is too old or was built without.
    #[error("no BPF ring buffers in this kernel ({0}): they need Linux 5.8 and CONFIG_BPF_SYSCALL")]
    TooOld(Errno),
    /// Not one program could be attached.
    #[error("no program could be attached to the root cgroup: {0}")]
    None(String),
}

/// A set of socket events, and the ring buffer from which they are read.
#[derive(Debug)]
pub struct SocketEvents {
    ring: Ring,
    ports: Map,
    cookies: Map,
    /// What the maps hold.
    port_words: Vec<u64>,
    remembered: Vec<u64>,
    /// Attachments; they end when these are closed.
    links: Vec<OwnedFd>,
    covered: EventCoverage,
    attached: Vec<&'static str>,
    missing: Vec<String>,
}

impl SocketEvents {
    /// Attaches what this kernel allows, for the calling thread's network namespace. No port
    /// matters yet and no socket is remembered. It is enough that one program can be attached:
    /// [`SocketEvents::covered`] says for which protocols arrivals and departures are reported.
    pub fn open() -> Result<SocketEvents, NoSocketEvents> {
        let cgroup = open_root_cgroup()?;
        let mut missing = Vec::new();
        let netns = own_netns();
        if netns.is_err() {
            missing.push("filtering by network namespace: Linux 5.14".to_owned());
        }
        let netns = netns.ok();
        let ring = with_memory(|| Ring::new("cvip_events")).map_err(why)?;
        let ports = || Map::new(sys::MAP_ARRAY, 4, 8, PORT_WORDS as u32, 0, "cvip_ports");
        let ports = with_memory(ports).map_err(why)?;
        let flags = sys::NO_PREALLOC;
        let cookies = || Map::new(sys::MAP_HASH, 8, 1, REMEMBERED, flags, "cvip_cookies");
        let cookies = with_memory(cookies).map_err(why)?;
        let maps = Maps {
            ports: ports.as_fd().as_raw_fd(),
            cookies: cookies.as_fd().as_raw_fd(),
            ring: ring.as_fd().as_raw_fd(),
        };
        let mut socket_events = SocketEvents {
            ring,
            ports,
            cookies,
            port_words: vec![0; PORT_WORDS],
            remembered: Vec::new(),
            links: Vec::new(),
            covered: EventCoverage::default(),
            attached: Vec::new(),
            missing,
        };
        let releasing =
            socket_events.attach(&cgroup, BpfProgram::releasing(maps, netns), "sock_release");
        let mut listening =
            socket_events.attach(&cgroup, BpfProgram::listening(maps, netns), "sock_ops");
        if !listening && netns.is_some() {
            // The helper that tells namespaces apart came to sock_ops later (5.15).
            listening =
                socket_events.attach(&cgroup, BpfProgram::listening(maps, None), "sock_ops");
        }
        let bound =
            socket_events.attach(&cgroup, BpfProgram::bound(maps, netns, false), "post_bind4");
        let bound6 =
            socket_events.attach(&cgroup, BpfProgram::bound(maps, netns, true), "post_bind6");
        socket_events.covered =
            EventCoverage { tcp: releasing && listening, udp: releasing && bound && bound6 };
        if !is_whole(&cgroup) {
            socket_events.covered = EventCoverage::default();
            socket_events.missing.push("sees this container's processes only".to_owned());
        }
        if socket_events.links.is_empty() {
            return Err(NoSocketEvents::None(socket_events.missing.join("; ")));
        }
        Ok(socket_events)
    }

    /// Loads and attaches one program; what fails is noted.
    fn attach(&mut self, cgroup: &File, program: BpfProgram, name: &'static str) -> bool {
        match load(&program).and_then(|loaded| {
            sys::attach(loaded.as_fd(), cgroup.as_fd(), program.attach_type)
                .map_err(|errno| format!("cannot be attached: {errno}"))
        }) {
            Ok(link) => {
                self.links.push(link);
                self.attached.push(name);
                true
            }
            Err(why) => {
                self.missing.push(format!("no {name}: {why}"));
                false
            }
        }
    }

    /// For which protocols arrivals and departures are reported.
    pub fn covered(&self) -> EventCoverage {
        self.covered
    }

    /// What is attached, for status to show: `cgroup BPF (sock_release, sock_ops, ...)`, and what
    /// this kernel does not support.
    pub fn describe(&self) -> String {
        let mut text = format!("cgroup BPF ({})", self.attached.join(", "));
        for missing in &self.missing {
            text.push_str("; ");
            text.push_str(missing);
        }
        text
    }

    /// On which ports arrivals are reported from now on. SCTP's never are.
    pub fn watch(&mut self, ranges: &Ranges) {
        let mut words = vec![0u64; PORT_WORDS];
        for protocol in Protocol::ALL {
            for port in ranges.of(protocol).iter().flat_map(|(start, end)| *start..=*end) {
                if let Some((word, bit)) = bpf::port_bit(protocol, port) {
                    words[word] |= bit;
                }
            }
        }
        for (index, (old, new)) in self.port_words.iter_mut().zip(words).enumerate() {
            let key = (index as u32).to_ne_bytes();
            // An array's words are there from the start; setting one allocates nothing.
            if *old != new && self.ports.set(&key, &new.to_ne_bytes()).is_ok() {
                *old = new;
            }
        }
    }

    /// Whose release is reported from now on: the first of these cookies, as many as the map holds.
    pub fn remember(&mut self, cookies: impl IntoIterator<Item = u64>) {
        let wanted = wanted(cookies, REMEMBERED as usize);
        if wanted == self.remembered {
            return;
        }
        let map = &self.cookies;
        self.remembered = update(
            mem::take(&mut self.remembered),
            wanted,
            // Nothing but "not there" can be wrong, and that is what is wanted.
            |gone| {
                let _ = map.remove(&gone.to_ne_bytes());
            },
            |new| map.set(&new.to_ne_bytes(), &[1]).is_ok(),
        );
    }

    /// Takes the events since the last call. As much as the ring buffer holds, at most.
    pub fn drain(&mut self) -> Vec<SocketEvent> {
        let mut came = Vec::new();
        let taken = self.ring.drain(|record| came.extend(SocketEvent::read(record)));
        // There was no space for one record more.
        if taken + bpf::RECORD + sys::RECORD_HEADER > self.ring.size() {
            came.push(SocketEvent::Overflow);
        }
        came
    }
}

/// The first cookies, at most `most`, in order of their numbers. More are not even tried: in a
/// full map each would cost a system call at every dump.
fn wanted(cookies: impl IntoIterator<Item = u64>, most: usize) -> Vec<u64> {
    let mut wanted: Vec<u64> = cookies.into_iter().take(most).collect();
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

/// Makes a map hold what is wanted instead of what it held before; returns what it holds then.
/// Both are sorted. The first that cannot be added ends the additions: the map is full, and the
/// poll finds what is not reported.
fn update(
    before: Vec<u64>,
    mut wanted: Vec<u64>,
    remove: impl FnMut(u64),
    mut add: impl FnMut(u64) -> bool,
) -> Vec<u64> {
    let is_absent = |set: &[u64], cookie: &u64| set.binary_search(cookie).is_err();
    before.iter().copied().filter(|cookie| is_absent(&wanted, cookie)).for_each(remove);
    let mut full = false;
    wanted.retain(|cookie| {
        let held = !is_absent(&before, cookie);
        full |= !held && !full && !add(*cookie);
        held || !full
    });
    wanted
}

impl AsFd for SocketEvents {
    /// Readable when there are events that were not drained.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

/// Loads a program; if it is refused, the verifier's last word is the reason.
fn load(program: &BpfProgram) -> Result<OwnedFd, String> {
    let instructions = program.encode();
    let try_load = |log: &mut [u8]| {
        sys::load_program(program.prog_type, program.attach_type, &instructions, program.name, log)
    };
    try_load(&mut []).map_err(|errno| {
        let mut log = vec![0; 64 * 1024];
        // The log may be too short for all; it is its text that counts.
        let _ = try_load(&mut log).map(drop);
        let text = String::from_utf8_lossy(log.split(|b| *b == 0).next().unwrap_or_default());
        let reason = text.lines().rev().find(|l| !l.is_empty() && !l.starts_with("processed "));
        match reason {
            Some(reason) => format!("refused: {errno} ({reason})"),
            None => format!("refused: {errno}"),
        }
    })
}

/// Before 5.11 maps count as locked memory, of which a process may have 64 KiB.
fn with_memory<T>(make: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    match make() {
        Err(Errno::EPERM) => {
            setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)?;
            make()
        }
        result => result,
    }
}

fn why(errno: Errno) -> NoSocketEvents {
    match errno {
        Errno::EPERM | Errno::EACCES => NoSocketEvents::Forbidden,
        errno => NoSocketEvents::TooOld(errno),
    }
}

/// The cookie of the calling thread's network namespace.
fn own_netns() -> Result<u64, Errno> {
    let any = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    sys::netns_cookie(any.as_fd())
}

fn open_root_cgroup() -> Result<File, NoSocketEvents> {
    let mounts =
        fs::read_to_string("/proc/self/mountinfo").map_err(|_| NoSocketEvents::NoCgroup)?;
    let Some(path) = root_cgroup(&mounts) else {
        return mount_privately().map_err(|_| NoSocketEvents::NoCgroup);
    };
    File::open(&path).map_err(|error| NoSocketEvents::Cgroup {
        path,
        errno: Errno::from_raw(error.raw_os_error().unwrap_or_default()),
    })
}

/// The root of the version 2 hierarchy where none is mounted, as in `ip netns exec`, which
/// mounts a /sys of its own. A thread with a mount namespace of its own mounts it, for as long
/// as it takes to open it: no other process sees that, and nothing is left behind.
fn mount_privately() -> io::Result<File> {
    const ANYWHERE: &str = "/sys";
    let open = || {
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(Some("none"), ANYWHERE, Some("cgroup2"), MsFlags::empty(), none)?;
        File::open(ANYWHERE)
    };
    thread::Builder::new().spawn(open)?.join().map_err(|_| io::ErrorKind::Other)?
}

/// Whether a cgroup is the machine's root. In a container the mounted root may be the
/// container's own, above which nothing is heard; kernfs numbers only the true root 1.
fn is_whole(cgroup: &File) -> bool {
    cgroup.metadata().is_ok_and(|m| m.ino() == 1)
}

/// Where the root of the version 2 hierarchy is mounted, alone or beside version 1
/// (proc_pid_mountinfo(5)): `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAG...] - TYPE ...`.
fn root_cgroup(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (root == "/" && filesystem.split(' ').next() == Some("cgroup2")).then(|| unescape(point))
    })
}

/// Blanks and the like stand in mountinfo as a backslash and three octal digits.
fn unescape(path: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    Path::new(std::ffi::OsStr::from_bytes(&bytes)).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
23 0 254:0 / / rw,relatime - ext4 /dev/root rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 master:1 - cgroup2 cgroup2 rw
";

    #[test]
    fn no_more_cookies_are_wanted_than_fit_and_the_first_are_preferred() {
        assert_eq!(wanted([9, 3, 7, 1], 3), [3, 7, 9]);
        assert_eq!(wanted([9, 9], 3), [9]);
    }

    #[test]
    fn a_map_is_told_only_what_changes_and_the_first_refusal_ends_the_additions() {
        let run = |before: &[u64], wanted: &[u64], room: usize| {
            let (mut removed, mut tried) = (Vec::new(), Vec::new());
            let held = update(
                before.to_vec(),
                wanted.to_vec(),
                |cookie| removed.push(cookie),
                |cookie| {
                    tried.push(cookie);
                    tried.len() <= room
                },
            );
            (held, removed, tried)
        };
        assert_eq!(run(&[1, 2, 3], &[2, 3, 4], 9), (vec![2, 3, 4], vec![1], vec![4]));
        let full = run(&[5], &[1, 2, 3, 4, 5], 1);
        assert_eq!(full, (vec![1, 5], vec![], vec![1, 2]), "3 and 4 are not tried");
    }

    #[test]
    fn the_version_2_root_is_found_alone_and_beside_version_1() {
        assert_eq!(root_cgroup(HYBRID), Some("/sys/fs/cgroup/unified".into()));
        let pure = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw,nsdelegate\n";
        assert_eq!(root_cgroup(pure), Some("/sys/fs/cgroup".into()));
    }

    #[test]
    fn a_part_of_the_hierarchy_mounted_elsewhere_is_not_its_root() {
        let part = "29 23 0:26 /user.slice /mnt rw - cgroup2 cgroup rw\n";
        assert_eq!(root_cgroup(part), None);
        assert_eq!(root_cgroup(""), None);
    }

    #[test]
    fn a_mount_point_with_a_blank_is_read_as_such() {
        let odd = "29 23 0:26 / /my\\040cgroup\\134 rw - cgroup2 cgroup rw\n";
        assert_eq!(root_cgroup(odd), Some("/my cgroup\\".into()));
    }
}
