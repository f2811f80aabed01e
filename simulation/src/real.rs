//! What the test on real kernels (`simulation/tests/model.rs`) decides: which steps are made, and
//! which table they lead to. Pure.

pub mod schedule;
pub mod world;
