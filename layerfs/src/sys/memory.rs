//! The allocator of a process that serves a filesystem.

/// Lets blocks of some megabytes come from the kernel and go back to it, however often there were such before
/// (`mallopt(3)`, `M_MMAP_THRESHOLD`): tables that grow would otherwise leave their former selves behind.
pub(crate) fn return_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes numbers and may be made at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 2 << 20);
    }
}
