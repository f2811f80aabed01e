//! cvipd
fn main() {}
