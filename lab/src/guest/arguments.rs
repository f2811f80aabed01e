//! What a lab's programs, its kernels and this program call one another by.

/// The argument with which a program that boots labs is called inside; it must hand over to [`main`](super::main) then.
pub const ARGUMENT: &str = "lab-guest";

/// After [`ARGUMENT`]: run a program, on the host, that can write to no file system.
pub(crate) const READ_ONLY: &str = "read-only";

/// After [`ARGUMENT`]: be the first process of a process namespace, and run a program in it.
pub(crate) const FIRST: &str = "first";

/// After [`ARGUMENT`]: make a lab of namespaces on this machine's kernel.
pub(crate) const NAMESPACES: &str = "namespaces";

/// After [`ARGUMENT`]: be the first process in them.
pub(crate) const NAMESPACES_INSIDE: &str = "namespaces-inside";

/// The kernel parameter (so a variable of PID 1's environment) that names the channel to the host.
pub(crate) const CHANNEL: &str = "CVIP_LAB_CHANNEL";

/// The name of QEMU's virtio port to the host.
pub(crate) const PORT: &str = "cvip.lab";

/// The kernel parameter that names the folder with this kernel's modules, as the host sees it.
pub(crate) const MODULES: &str = "CVIP_LAB_MODULES";
