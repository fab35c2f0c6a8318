//! Zeroed memory for weights: large buffers on wide pages, where the system grants them.

/// Alignment of every buffer: a cache line, and a vector.
const LINE: usize = 64;

/// A buffer of zeroed bytes that begins on a cache line.
pub(crate) struct Pages {
    at: *mut u8,
    len: usize,
    source: Source,
}

/// Who gave the memory.
enum Source {
    Allocator,
    /// A mapping, from its first byte and over its whole length.
    #[cfg(target_os = "linux")]
    Mapping(*mut libc::c_void, usize),
}

// SAFETY: the buffer is owned, like a `Box<[u8]>`.
unsafe impl Send for Pages {}
// SAFETY: as above; shared access only reads.
unsafe impl Sync for Pages {}

impl Pages {
    /// `len` zero bytes.
    pub(crate) fn zeroed(len: usize) -> Self {
        #[cfg(target_os = "linux")]
        if let Some(pages) = Self::mapped(len) {
            return pages;
        }
        let layout = Self::layout(len);
        // SAFETY: the layout has at least a byte.
        let at = unsafe { std::alloc::alloc_zeroed(layout) };
        if at.is_null() {
            std::alloc::handle_alloc_error(layout);
        }
        Self { at, len, source: Source::Allocator }
    }

    /// A mapping whose whole wide pages are asked for as such: reading weights in order is faster then, since
    /// neither address translation nor prefetching stops every 4 KiB. The rest stays narrow, so nothing is rounded up.
    #[cfg(target_os = "linux")]
    fn mapped(len: usize) -> Option<Self> {
        const WIDE: usize = 2 << 20;
        if len < WIDE {
            return None;
        }
        let total = len + WIDE;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new private mapping at an address of the system's choice.
        let first = unsafe { libc::mmap(std::ptr::null_mut(), total, access, kind, -1, 0) };
        if first == libc::MAP_FAILED {
            return None;
        }
        let skip = first.cast::<u8>().align_offset(WIDE);
        // SAFETY: `skip` is below `WIDE`, so this and `len` bytes after it lie inside the mapping.
        let at = unsafe { first.cast::<u8>().add(skip) };
        // SAFETY: the range is ours. It is advice: a system without wide pages refuses, and nothing changes.
        let _advice = unsafe { libc::madvise(at.cast(), len / WIDE * WIDE, libc::MADV_HUGEPAGE) };
        Some(Self { at, len, source: Source::Mapping(first, total) })
    }

    fn layout(len: usize) -> std::alloc::Layout {
        std::alloc::Layout::from_size_align(len.max(1), LINE).expect("a buffer is below isize::MAX")
    }
}

impl std::ops::Deref for Pages {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes that live as long as `self`.
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }
}

impl std::ops::DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        match self.source {
            // SAFETY: allocated with this layout.
            Source::Allocator => unsafe { std::alloc::dealloc(self.at, Self::layout(self.len)) },
            #[cfg(target_os = "linux")]
            Source::Mapping(first, total) => {
                // SAFETY: the mapping of `mapped`, unmapped once. It cannot fail for a range that is mapped.
                let _done = unsafe { libc::munmap(first, total) };
            }
        }
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_zero_aligned_and_writable() {
        let lengths = [0, 1, 63, 4096, (2 << 20) - 1, 2 << 20, (5 << 20) + 7];
        // Miri is slow, and has no wide pages.
        for len in lengths.into_iter().filter(|len| *len <= 4096 || !cfg!(miri)) {
            let mut pages = Pages::zeroed(len);
            assert_eq!((pages.len(), pages.as_ptr().align_offset(LINE)), (len, 0));
            assert!(pages.iter().all(|b| *b == 0));
            pages.fill(7);
            assert!(pages.iter().all(|b| *b == 7));
        }
    }
}
