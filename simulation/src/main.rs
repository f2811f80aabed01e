//! `cargo xtask simulate`.

fn main() {}
