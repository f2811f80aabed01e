//! The only unsafe code of this module: bpf(2), which nix does not know, the mapped ring buffer,
//! and one socket option.
//!
//! Nothing here decides anything. Structures are those of linux/bpf.h; the kernel takes a
//! shorter `union bpf_attr` than its own and reads the rest as zero.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::{SysconfVar, sysconf};

/// Commands of bpf(2): `enum bpf_cmd`.
const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_DELETE_ELEM: libc::c_long = 3;
const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;

/// Kinds of maps: `enum bpf_map_type`.
pub(super) const MAP_HASH: u32 = 1;
pub(super) const MAP_ARRAY: u32 = 2;
const MAP_RINGBUF: u32 = 27;
/// `BPF_F_NO_PREALLOC`: a hash takes memory for what it holds, not for what it might.
pub(super) const NO_PREALLOC: u32 = 1;

/// `BPF_RINGBUF_BUSY_BIT`, `BPF_RINGBUF_DISCARD_BIT`, `BPF_RINGBUF_HDR_SZ`.
const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;
pub(super) const RECORD_HEADER: usize = 8;

/// `BPF_OBJ_NAME_LEN`.
const NAME: usize = 16;

/// The head of `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; NAME],
}

/// The head of `union bpf_attr` for `BPF_MAP_*_ELEM`.
#[repr(C)]
struct MapElement {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; NAME],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The head of `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}

/// Calls bpf(2).
///
/// # Safety
/// `T` must be the head of `union bpf_attr` that `command` reads, and every address in it must
/// be good for what the kernel does with it under that command.
unsafe fn bpf<T>(command: libc::c_long, attributes: &mut T) -> Result<i32, Errno> {
    // SAFETY: the structure lives through the call and its true size is given; what it points
    // to is the caller's promise.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    };
    Errno::result(result).map(|value| value as i32)
}

/// Takes a descriptor that a bpf(2) command has just made.
fn own(fd: i32) -> OwnedFd {
    // SAFETY: only called with the result of a successful command that returns a new
    // descriptor, which no other code has seen.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn descriptor(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).expect("descriptors are not negative")
}

/// At most 15 letters of a name, for `bpftool` to show.
fn object_name(name: &str) -> [u8; NAME] {
    let mut out = [0; NAME];
    let length = name.len().min(NAME - 1);
    out[..length].copy_from_slice(&name.as_bytes()[..length]);
    out
}

/// A map in the kernel, with keys and values of fixed sizes.
#[derive(Debug)]
pub(super) struct Map {
    fd: OwnedFd,
    key_size: usize,
    value_size: usize,
}

impl Map {
    /// Makes a map; sizes in bytes, none for a ring buffer.
    pub(super) fn new(
        map_type: u32,
        key_size: usize,
        value_size: usize,
        max_entries: u32,
        map_flags: u32,
        name: &str,
    ) -> Result<Map, Errno> {
        let mut attributes = MapCreate {
            map_type,
            key_size: key_size as u32,
            value_size: value_size as u32,
            max_entries,
            map_flags,
            inner_map_fd: 0,
            numa_node: 0,
            map_name: object_name(name),
        };
        // SAFETY: the structure is BPF_MAP_CREATE's and holds no address.
        let fd = own(unsafe { bpf(MAP_CREATE, &mut attributes) }?);
        Ok(Map { fd, key_size, value_size })
    }

    /// Sets a key's value.
    pub(super) fn set(&self, key: &[u8], value: &[u8]) -> Result<(), Errno> {
        assert_eq!((key.len(), value.len()), (self.key_size, self.value_size));
        let mut attributes = self.element(key.as_ptr(), value.as_ptr());
        // SAFETY: the structure is BPF_MAP_UPDATE_ELEM's; the kernel reads key_size bytes of
        // the key and value_size of the value, which is what the slices were just seen to have.
        unsafe { bpf(MAP_UPDATE_ELEM, &mut attributes) }.map(drop)
    }

    /// Takes a key out.
    pub(super) fn remove(&self, key: &[u8]) -> Result<(), Errno> {
        assert_eq!(key.len(), self.key_size);
        let mut attributes = self.element(key.as_ptr(), std::ptr::null());
        // SAFETY: the structure is BPF_MAP_DELETE_ELEM's; the kernel reads key_size bytes of
        // the key, and no value.
        unsafe { bpf(MAP_DELETE_ELEM, &mut attributes) }.map(drop)
    }

    fn element(&self, key: *const u8, value: *const u8) -> MapElement {
        let map_fd = descriptor(self.fd.as_fd());
        MapElement { map_fd, pad: 0, key: key as u64, value: value as u64, flags: 0 }
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Loads a program of encoded instructions. The kernel's verifier proves it before it may run;
/// `log` takes what the verifier says, if it is not empty.
pub(super) fn load_program(
    prog_type: u32,
    expected_attach_type: u32,
    instructions: &[u64],
    name: &str,
    log: &mut [u8],
) -> Result<OwnedFd, Errno> {
    // No helper that these programs call is reserved for GPL programs.
    const LICENSE: &CStr = c"MIT";
    let mut attributes = ProgLoad {
        prog_type,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log_buf: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        kern_version: 0,
        prog_flags: 0,
        prog_name: object_name(name),
        prog_ifindex: 0,
        expected_attach_type,
    };
    // SAFETY: the structure is BPF_PROG_LOAD's; the kernel reads insn_cnt instructions of eight
    // bytes each and the terminated licence, and writes at most log_size bytes of the log,
    // which is borrowed mutably.
    unsafe { bpf(PROG_LOAD, &mut attributes) }.map(own)
}

/// Attaches a program to a cgroup, beside what others have attached there. The attachment ends
/// when the returned descriptor is closed, also by a crash.
pub(super) fn attach(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> Result<OwnedFd, Errno> {
    let mut attributes = LinkCreate {
        prog_fd: descriptor(program),
        target_fd: descriptor(cgroup),
        attach_type,
        flags: 0,
    };
    // SAFETY: the structure is BPF_LINK_CREATE's and holds no address.
    unsafe { bpf(LINK_CREATE, &mut attributes) }.map(own)
}

/// `SO_NETNS_COOKIE`: the cookie of the network namespace in which a socket was made.
pub(super) fn netns_cookie(socket: BorrowedFd<'_>) -> Result<u64, Errno> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to the cookie, and the length.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    Errno::result(result).map(|_| cookie)
}

/// The reader's end of a BPF ring buffer.
///
/// The kernel maps one page with the reader's position, one with the writers' position, and the
/// data twice in a row, so that no record is ever split (kernel/bpf/ringbuf.c).
#[derive(Debug)]
pub(super) struct Ring {
    map: Map,
    size: usize,
    reader: Mapping,
    writers: Mapping,
    page: usize,
}

/// A part of a file in memory, until dropped.
#[derive(Debug)]
struct Mapping {
    address: NonNull<u8>,
    length: NonZeroUsize,
}

// SAFETY: a mapping belongs to the process, not to the thread that made it; it is reached
// through atomic operations only.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(
        fd: BorrowedFd<'_>,
        length: NonZeroUsize,
        protection: libc::c_int,
        offset: usize,
    ) -> Result<Mapping, Errno> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that
        // Rust knows of.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length.get(),
                protection,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                offset as libc::off_t,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        Ok(Mapping { address: NonNull::new(address.cast()).ok_or(Errno::EFAULT)?, length })
    }

    /// The word at an offset, which the kernel may change at any time.
    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.length.get());
        // SAFETY: the offset was just seen to be aligned (mappings begin at pages) and inside;
        // the mapping lives as long as self, and it is accessed by atomic operations alone.
        unsafe { AtomicU64::from_ptr(self.address.as_ptr().add(offset).cast()) }
    }

    /// The first half of a word: see [`Mapping::word`].
    fn half_word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.length.get());
        // SAFETY: as in `word`, for four bytes.
        unsafe { AtomicU32::from_ptr(self.address.as_ptr().add(offset).cast()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by mmap with this length, and no reference outlives self.
        unsafe { libc::munmap(self.address.as_ptr().cast(), self.length.get()) };
    }
}

impl Ring {
    /// Makes a ring buffer of one page, the smallest there is.
    pub(super) fn new(name: &str) -> Result<Ring, Errno> {
        let page = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|p| usize::try_from(p).ok());
        let page = page.and_then(NonZeroUsize::new).ok_or(Errno::EINVAL)?;
        let size = page.get();
        let map = Map::new(MAP_RINGBUF, 0, 0, size as u32, 0, name)?;
        let reader = Mapping::new(map.as_fd(), page, libc::PROT_READ | libc::PROT_WRITE, 0)?;
        let all = page.saturating_mul(const { NonZeroUsize::new(3).unwrap() });
        let writers = Mapping::new(map.as_fd(), all, libc::PROT_READ, size)?;
        Ok(Ring { map, size, reader, writers, page: size })
    }

    /// Takes every record out; each is given by its first two words, records that have fewer
    /// are skipped. Returns how many bytes were taken.
    pub(super) fn drain(&mut self, mut on_record: impl FnMut([u64; 2])) -> usize {
        let position = self.reader.word(0);
        let begin = position.load(Ordering::Relaxed) as usize;
        let end = self.writers.word(0).load(Ordering::Acquire) as usize;
        let mut at = begin;
        // Never more than one round, whatever the positions say.
        while at != end && end.wrapping_sub(at) <= self.size {
            let offset = self.page + (at & (self.size - 1));
            let header = self.writers.half_word(offset).load(Ordering::Acquire);
            if header & BUSY != 0 {
                break;
            }
            let length = (header & !DISCARD) as usize;
            if header & DISCARD == 0 && (16..=self.size).contains(&length) {
                let word = |n| self.writers.word(offset + RECORD_HEADER + n);
                on_record([word(0).load(Ordering::Relaxed), word(8).load(Ordering::Relaxed)]);
            }
            at = at.wrapping_add((length + RECORD_HEADER).next_multiple_of(8));
        }
        position.store(at as u64, Ordering::Release);
        at.wrapping_sub(begin)
    }

    /// The ring buffer's size in bytes.
    pub(super) fn size(&self) -> usize {
        self.size
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}
