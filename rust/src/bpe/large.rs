//! Tables that are read at random places. They use huge pages where the system has them, so that a TLB miss does not
//! cost more than the read itself.

/// Make a table of `len` copies of an entry.
pub fn table<T: Copy>(entry: T, len: usize) -> Box<[T]> {
    let mut entries = Vec::with_capacity(len);
    ask_for_large_pages(entries.as_mut_ptr(), len);
    entries.resize(len, entry);
    entries.into_boxed_slice()
}

/// Advise the system to use huge pages. If it does not, only the speed changes.
#[cfg(target_os = "linux")]
fn ask_for_large_pages<T>(first: *mut T, len: usize) {
    const PAGE: usize = 4096;
    let unaligned = first.addr().wrapping_neg() % PAGE;
    if let Some(num_bytes) = (len * size_of::<T>()).checked_sub(unaligned) {
        // SAFETY: the range is in the allocation; the advice changes how its pages are backed, not their content.
        unsafe { libc::madvise(first.byte_add(unaligned).cast(), num_bytes, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_large_pages<T>(_first: *mut T, _len: usize) {}
