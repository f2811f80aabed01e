//! A real IPVS kernel on any machine.
