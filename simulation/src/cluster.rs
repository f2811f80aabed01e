//! A cluster: machines with a kernel each, the processes on them, the network between them, clients,
//! and the faults that meet them.

pub mod clients;
pub mod conf;
pub mod faults;
pub mod machine;
pub mod network;
pub mod operator;
pub mod packet;
pub mod process;
pub mod world;
