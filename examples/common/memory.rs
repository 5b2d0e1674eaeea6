//! Memory that training frees and soon wants again.

/// Keeps freed memory in the process.
///
/// A training step allocates and frees tensors of tens of megabytes by the thousand. The GNU C library takes such blocks from
/// the operating system one by one and hands them straight back, so that every step pays again for clearing every page: at
/// the published size a seventh of its time. Other systems' allocators are left as they are.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: two integers, copied into the allocator's settings under its own lock; it may be called at any time, and a
    // setting that is refused leaves everything as it was.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0); // no mappings of single blocks
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1); // and nothing handed back from the end of the heap
    }
}
