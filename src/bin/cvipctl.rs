//! cvipctl
fn main() {}
