//! setport_weight
fn main() {}
