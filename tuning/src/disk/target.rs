//! What is written to, and the memory it is written from.

use std::{
    alloc::{Layout, alloc, handle_alloc_error},
    fs::File,
    path::PathBuf,
};

/// What the server zero-fills with.
pub const FILL_BYTES: u32 = 256 * 1024;
const POOL_BYTES: usize = 4 * 1024 * 1024;
const ALIGN_BYTES: usize = 4096;

/// Aligned bytes to write. They live as long as the process and are never written to, so the kernel
/// may read them whenever it likes, and writes may share them.
#[derive(Clone, Copy)]
pub struct Pool {
    noise: &'static [u8],
    zeros: &'static [u8],
}

impl Pool {
    /// For once in the life of a process: the memory is not given back.
    pub fn leak() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        // Not zeros, which some devices store as nothing.
        let noise = aligned(POOL_BYTES, || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        });
        Self { noise, zeros: aligned(FILL_BYTES as usize, || 0) }
    }

    /// `bytes` of noise for the write in place `slot`.
    pub fn noise(&self, slot: u32, bytes: u32) -> &'static [u8] {
        let bytes = bytes as usize;
        let places = self.noise.len() / bytes;
        let start = slot as usize % places * bytes;
        &self.noise[start..start + bytes]
    }

    pub fn zeros(&self, bytes: u32) -> &'static [u8] {
        &self.zeros[..bytes as usize]
    }
}

fn aligned(bytes: usize, mut next: impl FnMut() -> u8) -> &'static [u8] {
    let layout = Layout::from_size_align(bytes, ALIGN_BYTES).expect("sizes are constants");
    assert!(bytes > 0);
    // SAFETY: the layout is not empty.
    let start = unsafe { alloc(layout) };
    if start.is_null() {
        handle_alloc_error(layout);
    }
    for at in 0..bytes {
        // SAFETY: within the allocation, which nothing else knows of yet.
        unsafe { start.add(at).write(next()) };
    }
    // SAFETY: `bytes` initialised bytes that are never freed and never written again.
    unsafe { std::slice::from_raw_parts(start, bytes) }
}

/// A file, and where its next write goes.
pub struct Target {
    pub file: File,
    pub path: PathBuf,
    pub bytes: u64,
    pub position: u64,
}
