//! ipvsadm-rs
fn main() {}
