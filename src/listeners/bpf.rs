//! The socket events' programs, assembled by hand: some thirty instructions each, no compiler, no
//! ELF.
//!
//! Pure: what comes out is instructions; `sys` loads them and the kernel's verifier proves them.
//! Each program filters in the kernel and writes one record to the ring buffer. None changes a
//! socket, sets a callback flag or refuses anything: each returns 1 (go on) on every path.
//! In particular `listening` leaves `bpf_sock_ops_cb_flags` alone, which accepted connections
//! would inherit, and `reply`, which belongs to other programs at the same cgroup.
//!
//! Offsets are those of `struct bpf_sock_ops` and `struct bpf_sock` (linux/bpf.h), a stable
//! interface that the kernel translates to its own structures.

use std::fmt;

use crate::protocol::Protocol;

/// `enum bpf_prog_type`.
const PROG_CGROUP_SOCK: u32 = 9;
const PROG_SOCK_OPS: u32 = 13;
/// `enum bpf_attach_type`.
const ATTACH_SOCK_OPS: u32 = 3;
const ATTACH_INET4_POST_BIND: u32 = 12;
const ATTACH_INET6_POST_BIND: u32 = 13;
const ATTACH_INET_SOCK_RELEASE: u32 = 34;

/// `BPF_SOCK_OPS_TCP_LISTEN_CB`: after a listen() that succeeded, with the socket in the table.
const TCP_LISTEN_CB: i32 = 11;
/// `offsetof(struct bpf_sock_ops, ...)`.
const OPS_OP: i16 = 0;
const OPS_LOCAL_PORT: i16 = 68;
/// `offsetof(struct bpf_sock, ...)`.
const SOCK_PROTOCOL: i16 = 12;
const SOCK_SRC_PORT: i16 = 44;
const SOCK_STATE: i16 = 72;
/// `TCP_CLOSE` (UDP's only state but connected), `TCP_LISTEN`, `IPPROTO_MPTCP`.
const STATE_CLOSE: i32 = 7;
const STATE_LISTEN: i32 = 10;
const PROTOCOL_MPTCP: i32 = 262;

/// Helpers: `enum bpf_func_id`.
const MAP_LOOKUP_ELEM: i32 = 1;
const GET_SOCKET_COOKIE: i32 = 46;
const GET_NETNS_COOKIE: i32 = 122;
const RINGBUF_OUTPUT: i32 = 130;

/// Size of a record: two words, the kind of socket event and a socket cookie.
pub(super) const RECORD: usize = 16;
/// Words of the port map, of 64 ports each: TCP's, then UDP's.
pub(super) const PORT_WORDS: usize = 2 * WORDS_PER_PROTOCOL;
const WORDS_PER_PROTOCOL: usize = 65536 / 64;

/// What was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketEvent {
    /// A socket on a port that matters took its place: a TCP listen() or a UDP bind().
    Arrival(Protocol),
    /// The last descriptor of a remembered socket was closed, or of an MPTCP listener.
    Departure {
        /// The socket's cookie.
        cookie: u64,
    },
    /// More than the ring buffer holds: any event may be lost.
    Overflow,
}

/// First words of records. Arrivals carry their protocol's number.
const DEPARTURE: u64 = 0x100;

impl SocketEvent {
    /// Reads a record; `None` for one that no program here writes.
    pub(super) fn read(record: [u64; 2]) -> Option<SocketEvent> {
        match record {
            [DEPARTURE, cookie] => Some(SocketEvent::Departure { cookie }),
            [number, _] => {
                u16::try_from(number).ok().and_then(Protocol::from_number).map(SocketEvent::Arrival)
            }
        }
    }
}

/// The word of the port map in which a port's bit stands, and the bit; `None` for a protocol
/// whose arrivals are not reported.
pub(super) fn port_bit(protocol: Protocol, port: u16) -> Option<(usize, u64)> {
    let first = match protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => WORDS_PER_PROTOCOL,
        Protocol::Sctp => return None,
    };
    Some((first + usize::from(port >> 6), 1 << (port & 63)))
}

/// What the programs refer to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maps {
    /// Array of [`PORT_WORDS`] words: one bit for each port that matters.
    pub(super) ports: i32,
    /// Hash with the cookies of the last dump's sockets as keys.
    pub(super) cookies: i32,
    /// The ring buffer.
    pub(super) ring: i32,
}

/// One program, ready to be loaded and attached.
#[derive(Debug)]
pub(super) struct BpfProgram {
    /// Short name, for messages and `bpftool`.
    pub(super) name: &'static str,
    /// `enum bpf_prog_type`.
    pub(super) prog_type: u32,
    /// `enum bpf_attach_type`.
    pub(super) attach_type: u32,
    instructions: Vec<BpfInstruction>,
}

impl BpfProgram {
    /// The instructions as the kernel reads them.
    pub(super) fn encode(&self) -> Vec<u64> {
        self.instructions.iter().map(|i| i.encode()).collect()
    }

    /// Reports a TCP listen() that succeeded, with the port that the socket really got.
    ///
    /// `netns` restricts it to one network namespace (5.15).
    pub(super) fn listening(maps: Maps, netns: Option<u64>) -> BpfProgram {
        let mut code = Assembly::new();
        code.load_word(R2, R6, OPS_OP);
        code.leave_unless(R2, TCP_LISTEN_CB);
        code.leave_unless_in(netns);
        code.load_word(R7, R6, OPS_LOCAL_PORT);
        code.leave_unless_port_matters(maps, Protocol::Tcp);
        code.output(maps, u64::from(Protocol::Tcp.number()));
        code.finish("cvip_listening", PROG_SOCK_OPS, ATTACH_SOCK_OPS)
    }

    /// Reports a UDP bind() that succeeded; `v6` says which family's hook it is for.
    pub(super) fn bound(maps: Maps, netns: Option<u64>, v6: bool) -> BpfProgram {
        let mut code = Assembly::new();
        code.load_word(R2, R6, SOCK_PROTOCOL);
        code.leave_unless(R2, i32::from(Protocol::Udp.number()));
        code.leave_unless_in(netns);
        code.load_word(R7, R6, SOCK_SRC_PORT);
        code.leave_unless_port_matters(maps, Protocol::Udp);
        code.output(maps, u64::from(Protocol::Udp.number()));
        let (name, attach_type) = if v6 {
            ("cvip_bound6", ATTACH_INET6_POST_BIND)
        } else {
            ("cvip_bound4", ATTACH_INET4_POST_BIND)
        };
        code.finish(name, PROG_CGROUP_SOCK, attach_type)
    }

    /// Reports that the last descriptor of a socket is closed that is in the cookie map, whatever
    /// its protocol. This hook may not read the port, and runs while the socket is still in the
    /// kernel's table.
    ///
    /// An MPTCP listener (every Go server since 1.24) is closed by a parent socket with a cookie
    /// that no dump shows: those are reported in any case.
    pub(super) fn releasing(maps: Maps, netns: Option<u64>) -> BpfProgram {
        let mut code = Assembly::new();
        // Connections, the mass of all sockets, go first: neither helper nor map is asked.
        code.load_word(R2, R6, SOCK_STATE);
        code.push(BpfInstruction::jump_if_equal(R2, STATE_LISTEN, 1));
        code.leave_unless(R2, STATE_CLOSE);
        code.push(BpfInstruction::copy(R1, R6));
        code.push(BpfInstruction::call(GET_SOCKET_COOKIE));
        code.push(BpfInstruction::store(COOKIE, R0));
        code.lookup(maps.cookies, COOKIE);
        code.push(BpfInstruction::jump_unless_equal(R0, 0, 4));
        code.load_word(R2, R6, SOCK_PROTOCOL);
        code.leave_unless(R2, PROTOCOL_MPTCP);
        code.load_word(R2, R6, SOCK_STATE);
        code.leave_unless(R2, STATE_LISTEN);
        code.leave_unless_in(netns);
        code.output_with_cookie(maps, DEPARTURE);
        code.finish("cvip_releasing", PROG_CGROUP_SOCK, ATTACH_INET_SOCK_RELEASE)
    }
}

/// Shows the disassembly, one instruction a line, in the kernel verifier's words.
impl fmt::Display for BpfProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.instructions.iter().enumerate();
        // A jump's offset counts from the next instruction; shown is where it lands.
        let target = |at: usize, off: i16| at as i64 + 1 + i64::from(off);
        while let Some((at, instruction)) = rest.next() {
            write!(f, "{at}: {instruction}")?;
            if instruction.is_jump() {
                write!(f, "{}", target(at, instruction.off))?;
            }
            if instruction.code != LOAD_WIDE {
                writeln!(f)?;
                continue;
            }
            // Its second half is an instruction of its own.
            let high = rest.next().map_or(0, |(_, half)| half.imm);
            if instruction.src == MAP_FD {
                writeln!(f, "map[{}]", instruction.imm)?;
            } else {
                let value = u64::from(instruction.imm as u32) | u64::from(high as u32) << 32;
                writeln!(f, "{value:#x} ll")?;
            }
        }
        Ok(())
    }
}

/// Registers: r0 takes results, r1 to r5 arguments and are lost in calls, r6 to r9 survive them,
/// r10 is the end of the stack.
const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const R4: u8 = 4;
const R6: u8 = 6;
const R7: u8 = 7;
const R10: u8 = 10;

/// Where things stand on the stack, from r10: the record and its second word, an array index.
const KIND: i16 = -16;
const COOKIE: i16 = -8;
const INDEX: i16 = -24;

/// Operation codes (linux/bpf_common.h, linux/bpf.h): class, size or operation, mode or source.
const LOAD_WIDE: u8 = 0x18;
const LOAD_32: u8 = 0x61;
const LOAD_64: u8 = 0x79;
const STORE_IMM_64: u8 = 0x7a;
const STORE_32: u8 = 0x63;
const STORE_64: u8 = 0x7b;
const COPY: u8 = 0xbf;
const SET: u8 = 0xb7;
const ADD: u8 = 0x07;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const SHIFT_RIGHT_BY: u8 = 0x7f;
const JUMP_EQ: u8 = 0x15;
const JUMP_NE: u8 = 0x55;
const JUMP_NE_REG: u8 = 0x5d;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// `BPF_PSEUDO_MAP_FD`: the constant is a map's descriptor.
const MAP_FD: u8 = 1;

/// `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct BpfInstruction {
    code: u8,
    dst: u8,
    src: u8,
    off: i16,
    imm: i32,
}

impl BpfInstruction {
    /// As in memory: the registers are bit fields, whose order follows the byte order.
    fn encode(self) -> u64 {
        let registers = if cfg!(target_endian = "big") {
            self.dst << 4 | self.src
        } else {
            self.src << 4 | self.dst
        };
        let [o0, o1] = self.off.to_ne_bytes();
        let [i0, i1, i2, i3] = self.imm.to_ne_bytes();
        u64::from_ne_bytes([self.code, registers, o0, o1, i0, i1, i2, i3])
    }

    fn with_imm(code: u8, dst: u8, imm: i32) -> BpfInstruction {
        BpfInstruction { code, dst, imm, ..BpfInstruction::default() }
    }

    fn is_jump(self) -> bool {
        matches!(self.code, JUMP_EQ | JUMP_NE | JUMP_NE_REG)
    }

    fn copy(dst: u8, src: u8) -> BpfInstruction {
        BpfInstruction { code: COPY, dst, src, ..BpfInstruction::default() }
    }

    fn call(helper: i32) -> BpfInstruction {
        BpfInstruction::with_imm(CALL, 0, helper)
    }

    /// A word to the stack.
    fn store(off: i16, src: u8) -> BpfInstruction {
        BpfInstruction { code: STORE_64, dst: R10, src, off, imm: 0 }
    }

    fn jump_if_equal(dst: u8, imm: i32, off: i16) -> BpfInstruction {
        BpfInstruction { code: JUMP_EQ, dst, off, imm, ..BpfInstruction::default() }
    }

    fn jump_unless_equal(dst: u8, imm: i32, off: i16) -> BpfInstruction {
        BpfInstruction { code: JUMP_NE, dst, off, imm, ..BpfInstruction::default() }
    }
}

impl fmt::Display for BpfInstruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BpfInstruction { code, dst, src, off, imm } = self;
        match *code {
            LOAD_WIDE => write!(f, "r{dst} = "),
            LOAD_32 => write!(f, "r{dst} = *(u32 *)(r{src} {off:+})"),
            LOAD_64 => write!(f, "r{dst} = *(u64 *)(r{src} {off:+})"),
            STORE_32 => write!(f, "*(u32 *)(r{dst} {off:+}) = r{src}"),
            STORE_64 => write!(f, "*(u64 *)(r{dst} {off:+}) = r{src}"),
            STORE_IMM_64 => write!(f, "*(u64 *)(r{dst} {off:+}) = {imm}"),
            COPY => write!(f, "r{dst} = r{src}"),
            SET => write!(f, "r{dst} = {imm}"),
            ADD => write!(f, "r{dst} += {imm}"),
            AND => write!(f, "r{dst} &= {imm}"),
            SHIFT_RIGHT => write!(f, "r{dst} >>= {imm}"),
            SHIFT_RIGHT_BY => write!(f, "r{dst} >>= r{src}"),
            JUMP_EQ => write!(f, "if r{dst} == {imm} goto "),
            JUMP_NE => write!(f, "if r{dst} != {imm} goto "),
            JUMP_NE_REG => write!(f, "if r{dst} != r{src} goto "),
            CALL => write!(
                f,
                "call {}",
                match *imm {
                    MAP_LOOKUP_ELEM => "map_lookup_elem",
                    GET_SOCKET_COOKIE => "get_socket_cookie",
                    GET_NETNS_COOKIE => "get_netns_cookie",
                    RINGBUF_OUTPUT => "ringbuf_output",
                    _ => "?",
                }
            ),
            EXIT => f.write_str("exit"),
            _ => write!(f, "?{code:#x}"),
        }
    }
}

/// A program in the making: the context in r6, and jumps to its end that are still open.
struct Assembly {
    instructions: Vec<BpfInstruction>,
    leaving: Vec<usize>,
}

impl Assembly {
    fn new() -> Assembly {
        Assembly { instructions: vec![BpfInstruction::copy(R6, R1)], leaving: Vec::new() }
    }

    fn push(&mut self, instruction: BpfInstruction) {
        self.instructions.push(instruction);
    }

    /// Pushes a jump to the program's end.
    fn leave(&mut self, instruction: BpfInstruction) {
        self.leaving.push(self.instructions.len());
        self.push(instruction);
    }

    fn leave_unless(&mut self, register: u8, value: i32) {
        self.leave(BpfInstruction::jump_unless_equal(register, value, 0));
    }

    fn load_word(&mut self, dst: u8, src: u8, off: i16) {
        self.push(BpfInstruction { code: LOAD_32, dst, src, off, imm: 0 });
    }

    /// A 64-bit constant, or a map by its descriptor: two instructions.
    fn load_wide(&mut self, dst: u8, kind: u8, value: u64) {
        let (low, high) = (value as u32 as i32, (value >> 32) as u32 as i32);
        self.push(BpfInstruction { code: LOAD_WIDE, dst, src: kind, off: 0, imm: low });
        self.push(BpfInstruction { imm: high, ..BpfInstruction::default() });
    }

    fn load_map(&mut self, dst: u8, fd: i32) {
        self.load_wide(dst, MAP_FD, u64::from(fd as u32));
    }

    /// Leaves unless the socket is in this network namespace; r1 to r5 are lost.
    fn leave_unless_in(&mut self, netns: Option<u64>) {
        let Some(cookie) = netns else { return };
        self.push(BpfInstruction::copy(R1, R6));
        self.push(BpfInstruction::call(GET_NETNS_COOKIE));
        self.load_wide(R1, 0, cookie);
        self.leave(BpfInstruction { code: JUMP_NE_REG, dst: R0, src: R1, off: 0, imm: 0 });
    }

    /// r0 = the address of the value whose key stands on the stack, or 0.
    fn lookup(&mut self, map: i32, key: i16) {
        self.push(BpfInstruction::copy(R2, R10));
        self.push(BpfInstruction::with_imm(ADD, R2, key.into()));
        self.load_map(R1, map);
        self.push(BpfInstruction::call(MAP_LOOKUP_ELEM));
    }

    /// Leaves unless the port in r7 (host order) has its bit in the port map.
    fn leave_unless_port_matters(&mut self, maps: Maps, protocol: Protocol) {
        let (first, _) = port_bit(protocol, 0).expect("a protocol whose arrivals are reported");
        self.push(BpfInstruction::copy(R2, R7));
        self.push(BpfInstruction::with_imm(SHIFT_RIGHT, R2, 6));
        self.push(BpfInstruction::with_imm(ADD, R2, first as i32));
        self.push(BpfInstruction { code: STORE_32, dst: R10, src: R2, off: INDEX, imm: 0 });
        self.lookup(maps.ports, INDEX);
        self.leave(BpfInstruction::jump_if_equal(R0, 0, 0));
        self.push(BpfInstruction { code: LOAD_64, dst: R1, src: R0, off: 0, imm: 0 });
        self.push(BpfInstruction::with_imm(AND, R7, 63));
        self.push(BpfInstruction { code: SHIFT_RIGHT_BY, dst: R1, src: R7, off: 0, imm: 0 });
        self.push(BpfInstruction::with_imm(AND, R1, 1));
        self.leave(BpfInstruction::jump_if_equal(R1, 0, 0));
    }

    /// Writes a record without a cookie.
    fn output(&mut self, maps: Maps, kind: u64) {
        self.push(BpfInstruction { code: STORE_IMM_64, dst: R10, src: 0, off: COOKIE, imm: 0 });
        self.output_with_cookie(maps, kind);
    }

    /// Writes a record; the cookie stands on the stack. A full ring buffer drops it, and is
    /// seen by its reader to be full. The reader is woken if it had read everything before.
    fn output_with_cookie(&mut self, maps: Maps, kind: u64) {
        let imm = kind as i32;
        self.push(BpfInstruction { code: STORE_IMM_64, dst: R10, src: 0, off: KIND, imm });
        self.load_map(R1, maps.ring);
        self.push(BpfInstruction::copy(R2, R10));
        self.push(BpfInstruction::with_imm(ADD, R2, KIND.into()));
        self.push(BpfInstruction::with_imm(SET, R3, RECORD as i32));
        self.push(BpfInstruction::with_imm(SET, R4, 0));
        self.push(BpfInstruction::call(RINGBUF_OUTPUT));
    }

    /// Ends the program with *go on*, and ties the open jumps to that.
    fn finish(mut self, name: &'static str, prog_type: u32, attach_type: u32) -> BpfProgram {
        let end = self.instructions.len();
        for at in self.leaving {
            self.instructions[at].off = (end - at - 1) as i16;
        }
        self.instructions.push(BpfInstruction::with_imm(SET, R0, 1));
        self.instructions.push(BpfInstruction::with_imm(EXIT, 0, 0));
        BpfProgram { name, prog_type, attach_type, instructions: self.instructions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: Maps = Maps { ports: 5, cookies: 6, ring: 7 };

    #[test]
    fn the_listen_program_asks_event_namespace_and_port_before_it_writes() {
        let expected = "\
0: r6 = r1
1: r2 = *(u32 *)(r6 +0)
2: if r2 != 11 goto 33
3: r1 = r6
4: call get_netns_cookie
5: r1 = 0x100000002 ll
7: if r0 != r1 goto 33
8: r7 = *(u32 *)(r6 +68)
9: r2 = r7
10: r2 >>= 6
11: r2 += 0
12: *(u32 *)(r10 -24) = r2
13: r2 = r10
14: r2 += -24
15: r1 = map[5]
17: call map_lookup_elem
18: if r0 == 0 goto 33
19: r1 = *(u64 *)(r0 +0)
20: r7 &= 63
21: r1 >>= r7
22: r1 &= 1
23: if r1 == 0 goto 33
24: *(u64 *)(r10 -8) = 0
25: *(u64 *)(r10 -16) = 6
26: r1 = map[7]
28: r2 = r10
29: r2 += -16
30: r3 = 16
31: r4 = 0
32: call ringbuf_output
33: r0 = 1
34: exit
";
        assert_eq!(BpfProgram::listening(MAPS, Some(0x1_0000_0002)).to_string(), expected);
    }

    #[test]
    fn the_bind_program_is_for_udp_and_looks_into_the_second_half_of_the_port_map() {
        let expected = "\
0: r6 = r1
1: r2 = *(u32 *)(r6 +12)
2: if r2 != 17 goto 28
3: r7 = *(u32 *)(r6 +44)
4: r2 = r7
5: r2 >>= 6
6: r2 += 1024
7: *(u32 *)(r10 -24) = r2
8: r2 = r10
9: r2 += -24
10: r1 = map[5]
12: call map_lookup_elem
13: if r0 == 0 goto 28
14: r1 = *(u64 *)(r0 +0)
15: r7 &= 63
16: r1 >>= r7
17: r1 &= 1
18: if r1 == 0 goto 28
19: *(u64 *)(r10 -8) = 0
20: *(u64 *)(r10 -16) = 17
21: r1 = map[7]
23: r2 = r10
24: r2 += -16
25: r3 = 16
26: r4 = 0
27: call ringbuf_output
28: r0 = 1
29: exit
";
        for v6 in [false, true] {
            assert_eq!(BpfProgram::bound(MAPS, None, v6).to_string(), expected);
        }
    }

    #[test]
    fn the_release_program_writes_for_remembered_cookies_and_for_mptcp_listeners() {
        let expected = "\
0: r6 = r1
1: r2 = *(u32 *)(r6 +72)
2: if r2 == 10 goto 4
3: if r2 != 7 goto 30
4: r1 = r6
5: call get_socket_cookie
6: *(u64 *)(r10 -8) = r0
7: r2 = r10
8: r2 += -8
9: r1 = map[6]
11: call map_lookup_elem
12: if r0 != 0 goto 17
13: r2 = *(u32 *)(r6 +12)
14: if r2 != 262 goto 30
15: r2 = *(u32 *)(r6 +72)
16: if r2 != 10 goto 30
17: r1 = r6
18: call get_netns_cookie
19: r1 = 0x100000002 ll
21: if r0 != r1 goto 30
22: *(u64 *)(r10 -16) = 256
23: r1 = map[7]
25: r2 = r10
26: r2 += -16
27: r3 = 16
28: r4 = 0
29: call ringbuf_output
30: r0 = 1
31: exit
";
        assert_eq!(BpfProgram::releasing(MAPS, Some(0x1_0000_0002)).to_string(), expected);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn instructions_are_encoded_as_the_kernel_reads_them() {
        // From linux/bpf.h's struct bpf_insn: code, dst in the low half of the next byte and
        // src in the high one, a 16-bit offset, a 32-bit constant.
        let words = BpfProgram::listening(MAPS, Some(0x1_0000_0002)).encode();
        assert_eq!(words[0], 0x0000_0000_0000_16bf); // r6 = r1
        assert_eq!(words[1], 0x0000_0000_0000_6261); // r2 = *(u32 *)(r6 +0)
        assert_eq!(words[2], 0x0000_000b_001e_0255); // if r2 != 11 goto +30
        assert_eq!(words[5], 0x0000_0002_0000_0118); // r1 = ...2
        assert_eq!(words[6], 0x0000_0001_0000_0000); // ... and its high half
        assert_eq!(words[14], 0xffff_ffe8_0000_0207); // r2 += -24
        assert_eq!(words[15], 0x0000_0005_0000_1118); // r1 = map[5]
    }

    #[test]
    fn every_port_has_a_bit_of_its_own_in_the_port_map() {
        assert_eq!(port_bit(Protocol::Tcp, 0), Some((0, 1)));
        assert_eq!(port_bit(Protocol::Tcp, 65535), Some((1023, 1 << 63)));
        assert_eq!(port_bit(Protocol::Udp, 64), Some((1025, 1)));
        assert_eq!(port_bit(Protocol::Udp, 65535), Some((PORT_WORDS - 1, 1 << 63)));
        assert_eq!(port_bit(Protocol::Sctp, 80), None);
    }

    #[test]
    fn a_record_is_an_arrival_or_a_departure_or_nothing() {
        assert_eq!(SocketEvent::read([6, 0]), Some(SocketEvent::Arrival(Protocol::Tcp)));
        assert_eq!(SocketEvent::read([17, 0]), Some(SocketEvent::Arrival(Protocol::Udp)));
        assert_eq!(SocketEvent::read([0x100, 9]), Some(SocketEvent::Departure { cookie: 9 }));
        assert_eq!(SocketEvent::read([0, 0]), None);
        assert_eq!(SocketEvent::read([u64::MAX, 0]), None);
    }
}
