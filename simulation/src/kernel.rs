//! One machine's kernel: its IPVS table, addresses, settings and sockets.
