//! The QEMU machines and how they are started, driven and observed.
