//! The least process that fills an IPVS table: it sends messages that were built before.
//!
//! `cargo xtask bench ipvsadm` measures ipvsadm-rs beside it, whole process against whole
//! process; the file comes from [`cvip_lab::floor::Floor::restore_writes`].

fn main() {
    let file = std::env::args_os().nth(1).expect("the file of the messages");
    cvip_lab::floor::send_file(&std::fs::read(file).expect("the messages"));
}
