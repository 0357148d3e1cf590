//! Memory for what one hook reads. It grows to what a hook needs and stays, so that after a while
//! no hook allocates.

use std::cell::UnsafeCell;

use crate::abi::Errno;

const FIRST: usize = 4 << 10;
/// A chunk over this size is given back once its hook has returned.
const KEPT: usize = 256 << 10;
/// How often a host function is called until its answer fits. The length changes between two calls
/// only if the host is broken.
pub(crate) const TRIES: usize = 3;

pub(crate) struct Arena {
    inner: UnsafeCell<Inner>,
}

struct Inner {
    chunks: Vec<Chunk>,
    used: usize, // of the last chunk
}

/// A chunk of zeroed memory. It is no Box, because a Box may have no other reference to its
/// memory, and answers are handed out while the rest is still being filled.
struct Chunk {
    start: *mut u8,
    size: usize,
}

impl Chunk {
    fn new(size: usize) -> Chunk {
        Chunk {
            start: Box::into_raw(vec![0u8; size].into_boxed_slice()) as *mut u8,
            size,
        }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // Start and size are those of the slice that new made.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.start, self.size)) })
    }
}

impl Arena {
    pub const fn new() -> Arena {
        Arena {
            inner: UnsafeCell::new(Inner {
                chunks: Vec::new(),
                used: 0,
            }),
        }
    }

    /// Calls a host function that fills a buffer, with room for `least` bytes at first and more if
    /// it asks for more. The answer stays until the arena is cleared. `call` must not use the
    /// arena.
    pub fn fill(&self, mut least: usize, call: impl Fn(&mut [u8]) -> i32) -> Result<&[u8], Errno> {
        // No other reference to Inner exists: it is private, call does not use the arena, and
        // what is handed out refers to the chunks.
        let inner = unsafe { &mut *self.inner.get() };
        for _ in 0..TRIES {
            let (start, free) = inner.free(least);
            // This part of the chunk was not handed out, and no other part is touched.
            let n = call(unsafe { std::slice::from_raw_parts_mut(start, free) });
            if n < 0 {
                return Err(Errno(n));
            }
            least = n as usize;
            if least <= free {
                inner.used += least;
                return Ok(unsafe { std::slice::from_raw_parts(start, least) });
            }
        }
        Err(Errno::EIO)
    }

    /// Forgets every answer, which nobody refers to any more.
    pub fn clear(&mut self) {
        let inner = self.inner.get_mut();
        inner.used = 0;
        if inner.chunks.len() > 1 || inner.chunks.iter().any(|c| c.size > KEPT) {
            // A chunk is at least twice as large as the one before, so the last is the largest.
            let last = inner.chunks.pop();
            inner.chunks.clear();
            inner.chunks.extend(last.filter(|c| c.size <= KEPT));
        }
    }
}

impl Inner {
    /// Returns free memory of at least that many bytes.
    fn free(&mut self, least: usize) -> (*mut u8, usize) {
        if let Some(c) = self.chunks.last() {
            if c.size - self.used >= least {
                // Used is at most size, so the address is inside the chunk.
                return (unsafe { c.start.add(self.used) }, c.size - self.used);
            }
        }
        self.grow(least)
    }

    #[cold]
    fn grow(&mut self, least: usize) -> (*mut u8, usize) {
        let before = self.chunks.last().map_or(0, |c| c.size);
        let c = Chunk::new(least.max(FIRST).max(2 * before));
        let free = (c.start, c.size);
        self.chunks.push(c);
        self.used = 0;
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &'static [u8]) -> impl Fn(&mut [u8]) -> i32 {
        move |buf| {
            if let Some(room) = buf.get_mut(..text.len()) {
                room.copy_from_slice(text);
            }
            text.len() as i32
        }
    }

    #[test]
    fn answers_stay_while_others_come() {
        let mut arena = Arena::new();
        for _ in 0..3 {
            let small = arena.fill(16, answer(b"small")).unwrap();
            let large = arena.fill(16, answer(&[7; 3 * FIRST])).unwrap();
            let empty = arena.fill(16, answer(b"")).unwrap();
            let other = arena.fill(16, answer(b"other")).unwrap();
            assert_eq!(
                (small, large.len(), empty, other),
                (&b"small"[..], 3 * FIRST, &b""[..], &b"other"[..])
            );
            assert!(large.iter().all(|&b| b == 7));
            arena.clear();
        }
        assert_eq!(arena.inner.get_mut().chunks.len(), 1);
    }

    #[test]
    fn large_chunks_are_given_back() {
        let mut arena = Arena::new();
        arena.fill(2 * KEPT, answer(b"x")).unwrap();
        arena.clear();
        assert_eq!(arena.inner.get_mut().chunks.len(), 0);
    }

    #[test]
    fn failures_of_the_host() {
        let arena = Arena::new();
        assert_eq!(arena.fill(1, |_| Errno::EBADF.0), Err(Errno::EBADF));
        assert_eq!(arena.fill(1, |buf| buf.len() as i32 + 1), Err(Errno::EIO));
    }
}
