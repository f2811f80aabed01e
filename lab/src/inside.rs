//! Whether this is the lab, and what `cargo xtask test` tells the tests that it runs there.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether this process runs in the lab.
#[must_use]
pub fn in_lab() -> bool {
    std::env::var_os("CVIP_LAB").is_some()
}

/// For the start of a test that needs a kernel with IPVS.
///
/// # Panics
/// Outside the lab, with a word on how to get there.
pub fn require() {
    assert!(in_lab(), "this test needs a kernel with IPVS: run `cargo xtask test`");
}

/// The folder of the built programs.
///
/// # Panics
/// If nobody says where they are.
#[must_use]
pub fn built_programs() -> PathBuf {
    let folder = std::env::var_os("CVIP_TEST_PROGRAMS");
    folder.expect("CVIP_TEST_PROGRAMS names the folder of the built programs").into()
}

/// A name for a cluster that no other has, in this process and beside it.
#[must_use]
pub fn unique_name(start: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{start}{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
