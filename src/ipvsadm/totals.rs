//! The counters of all services together, which the kernel keeps in `/proc/net/ip_vs_stats`.
//!
//! Two tables of five hexadecimal numbers each, the totals and the same per second, between
//! titles (net/netfilter/ipvs/ip_vs_ctl.c, `ip_vs_stats_show`).

use crate::ipvs::Stats;

/// Reads the file's text; `None` if it is something else.
pub fn parse(text: &str) -> Option<Stats> {
    let mut lines = text.lines().filter_map(numbers);
    let [connections, in_packets, out_packets, in_bytes, out_bytes] = lines.next()?;
    let [cps, in_pps, out_pps, in_bps, out_bps] = lines.next()?;
    Some(Stats {
        connections,
        in_packets,
        out_packets,
        in_bytes,
        out_bytes,
        cps,
        in_pps,
        out_pps,
        in_bps,
        out_bps,
    })
}

fn numbers(line: &str) -> Option<[u64; 5]> {
    let numbers: Option<Vec<u64>> =
        line.split_ascii_whitespace().map(|word| u64::from_str_radix(word, 16).ok()).collect();
    numbers?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "   Total Incoming Outgoing         Incoming         Outgoing
   Conns  Packets  Packets            Bytes            Bytes
       A      1F4        0         FFFFFFFF                0

 Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s
       1        2        3                4                5
";

    #[test]
    fn totals_and_rates_are_read_from_their_tables() {
        let stats = parse(FILE).unwrap();
        assert_eq!((stats.connections, stats.in_packets, stats.in_bytes), (10, 500, 0xffff_ffff));
        assert_eq!((stats.cps, stats.in_pps, stats.out_pps), (1, 2, 3));
        assert_eq!((stats.in_bps, stats.out_bps), (4, 5));
        assert_eq!(parse("1 2 3 4 5"), None);
        assert_eq!(parse(""), None);
    }
}
