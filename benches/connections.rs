//! What `-Lnc` adds to a long list of connections: the kernel's text is made up here, as fast as
//! it can be copied, so that only the reading, the filtering and the writing are measured. Needs
//! neither root nor IPVS.
//!
//! ```text
//! cargo bench --bench connections [-- CONNECTIONS]
//! ```

use std::fmt::Write as _;
use std::io::{self, BufReader, Read, Write};
use std::time::Instant;

use cvip::ipvsadm::columns::ColumnText;
use cvip::ipvsadm::connections::for_each;
use cvip::ipvsadm::names::Numbers;
use cvip_lab::process::status;
use nix::unistd::Pid;

/// The kernel's file, a page at a time, with this many lines left.
struct File {
    page: String,
    left: usize,
}

/// How many lines a page has.
const LINES: usize = 60;

impl File {
    fn of(connections: usize) -> File {
        let mut page = String::new();
        for n in 0..LINES {
            let _ = writeln!(
                page,
                "TCP 0A0000{n:02X} {:04X} C0000201 0050 C6336401 0050 ESTABLISHED     898",
                40_000 + n
            );
        }
        File { page, left: connections }
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left < LINES {
            return Ok(0);
        }
        self.left -= LINES;
        buffer[..self.page.len()].copy_from_slice(self.page.as_bytes());
        Ok(self.page.len())
    }
}

fn main() -> io::Result<()> {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<usize>().ok());
    let connections = numbers.next().unwrap_or(1_000_000);
    for connections in [connections / 100, connections] {
        let start = Instant::now();
        let copied = io::copy(
            &mut BufReader::with_capacity(64 * 1024, File::of(connections)),
            &mut io::sink(),
        )?;
        let floor = start.elapsed();
        let (mut shown, mut bytes, mut line) = (0u64, 0u64, ColumnText::new());
        let start = Instant::now();
        for_each(BufReader::with_capacity(64 * 1024, File::of(connections)), |connection| {
            connection.push_line(&mut line, false, &mut Numbers);
            io::sink().write_all(line.as_bytes())?;
            (shown, bytes) = (shown + 1, bytes + line.as_bytes().len() as u64);
            line.clear();
            Ok(())
        })?;
        let took = start.elapsed();
        println!(
            "{shown} connections: {copied} bytes copied in {floor:.1?}, listed as {bytes} bytes in \
             {took:.1?}; VmHWM {} KiB",
            status(Pid::this(), "VmHWM:").unwrap_or_default()
        );
    }
    Ok(())
}
