//! What the program does, a file for each command.

pub(crate) mod cluster;
pub(crate) mod election;
