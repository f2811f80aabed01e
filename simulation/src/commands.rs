//! What the program does, a file for each command.

pub(crate) mod election;
