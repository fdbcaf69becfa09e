//! What the server asks of the machine: disk, sockets, clock, randomness, tasks; and how its shards reach other members.
//!
//! Two forms: [`real`] on glommio, [`sim`] deterministic from one seed and able to hold several
//! members. Nothing else on the way of a request touches the kernel or names the executor. Everything here belongs to one core:
//! futures are neither `Send` nor shared.

use std::{
    future::Future,
    io,
    ops::{Deref, Range},
    path::Path,
    time::Duration,
};

use bytes::Bytes;

mod begun;
mod beside;
mod failure;
mod joined;
mod law;
mod links;
pub mod real;
mod removal;
pub mod sim;
mod sockets;
mod std_clock;

pub use begun::Begun;
pub use beside::Beside;
pub use failure::{DiskError, write_all};
pub use joined::{Joined, spawn_joined};
pub use law::Law;
pub use links::{Lane, Links, NoLinks, Peer};
pub use removal::remove_in_steps;
pub use sockets::{Listener, Socket};
pub use std_clock::{StdClock, StdInstant};

/// Monotonic time since an arbitrary start, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(pub u64);

impl Instant {
    /// Time passed since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `duration` later.
    pub fn after(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// One member's view of its machine. Cheap to clone.
pub trait Env: Clone + 'static {
    type Disk: Disk;
    type Listener: Listener<Socket = Self::Socket>;
    type Socket: Socket;
    type Sleep: Future<Output = ()> + Unpin + 'static;

    fn disk(&self) -> &Self::Disk;
    fn now(&self) -> Instant;
    /// The same as [`Env::now`], cheaper and up to a few milliseconds old.
    fn roughly(&self) -> Instant;
    /// Time of day, for people: since 1970.
    fn wall(&self) -> Duration;
    fn random_u64(&self) -> u64;
    /// Whether this machine breaks a law on purpose. Only a simulated one does, to show that somebody notices.
    #[inline(always)]
    fn breaks(&self, _: Law) -> bool {
        false
    }
    fn sleep(&self, duration: Duration) -> Self::Sleep;
    /// Schedules a task on this core; it never runs inside the caller.
    fn spawn(&self, task: impl Future<Output = ()> + 'static);
    /// A connection to a port of a machine that is given by its address or its name. A name is looked up each time, beside
    /// the core. How long that may take is the caller's to bound: dropping the future gives it up.
    fn connect(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = io::Result<Self::Socket>> + use<Self> + 'static;
    /// Does what would hold up the core beside it, one after another with whatever else is done there. Dropping the
    /// future does not recall it.
    fn offload<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static;
    /// The same for what takes a processor long: it is done apart from the above, and when nobody else needs a processor.
    fn set_aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static;
}

/// A file system. Paths are absolute or relative to the working directory.
///
/// [`Disk::rename`], [`Disk::remove`], [`Disk::sync_dir`], [`Disk::open`], [`Disk::map`] and
/// [`Disk::prefetch`] may be awaited while the core serves, and so may everything of a [`File`]; the rest
/// belongs to start-up and may block it.
pub trait Disk: Clone + 'static {
    type File: File;
    type Mapping: Mapping;
    /// Held for as long as the data directory is in use; dropping it releases the lock.
    type Lock: 'static;

    /// Creates a directory and its missing parents, durably, with mode 0700.
    fn create_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
    /// Names (not paths) in a directory, sorted; `NotFound` if it does not exist.
    fn list(&self, path: &Path) -> impl Future<Output = io::Result<Vec<String>>>;
    /// Opens an existing file, or creates an empty one (mode 0600), for direct reads and writes.
    /// `InvalidInput` if the file system cannot bypass the page cache.
    fn open(&self, path: &Path, options: OpenOptions) -> impl Future<Output = io::Result<Self::File>>;
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>>;
    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
    /// Makes creations, renames and removals in the directory durable.
    fn sync_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>>;
    /// A whole small file (at most 1 MiB), or `NotFound`.
    fn read_small(&self, path: &Path) -> impl Future<Output = io::Result<Vec<u8>>>;
    /// Replaces a small file atomically and durably.
    fn write_small(&self, path: &Path, content: &[u8]) -> impl Future<Output = io::Result<()>>;
    /// Maps a whole file, to be read where it lies; `NotFound` if there is none. Until the last of
    /// its bytes is dropped, nobody may write to the file or truncate it; removing its name is fine.
    fn map(&self, path: &Path) -> impl Future<Output = io::Result<Self::Mapping>>;
    /// Brings a range of a file into the page cache, so that a first look at it in a mapping does
    /// not wait for the disk. What is past the end of the file is ignored.
    fn prefetch(&self, path: &Path, offset: u64, len: u64) -> impl Future<Output = io::Result<()>>;
    /// Takes an exclusive lock without waiting; `WouldBlock` if another process holds it.
    fn lock(&self, path: &Path) -> impl Future<Output = io::Result<Self::Lock>>;
    /// Name of the file system that holds `path`, for messages: "ext4".
    fn file_system(&self, path: &Path) -> String;
}

/// A file in memory that never changes.
pub trait Mapping: 'static {
    fn bytes(&self) -> &[u8];
    /// Makes all of it resident and has it looked at, beside the core. It begins when it is first polled,
    /// and then goes on by itself.
    fn examine<T: Send + 'static, L: FnOnce(&[u8]) -> T + Send + 'static>(
        &self,
        look: L,
    ) -> impl Future<Output = io::Result<T>> + use<Self, T, L>;
    /// A part that keeps the mapping alive.
    fn slice(&self, range: Range<usize>) -> Bytes;
    /// Nobody holds a slice of it any more.
    fn is_unique(&self) -> bool;
    /// Takes its pages out of this process's resident set, beside the core; they come back from the page cache or
    /// the disk when they are looked at again. Before, it is best read from its start to its end; from
    /// now on in any order. Until it returns the mapping is not unique.
    fn release(&self) -> impl Future<Output = io::Result<()>> + use<Self>;
    /// Gives it up, beside the core: unmapping many pages takes long.
    fn unmap(self) -> impl Future<Output = ()>;
}

#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    pub create: bool,
    /// Every completed write is on stable storage (O_DSYNC).
    pub data_sync: bool,
}

/// A file read and written past the page cache. Offsets, lengths and buffers are multiples of
/// [`File::unit`].
pub trait File: 'static {
    /// Memory aligned for the device.
    type Buffer: AsRef<[u8]> + AsMut<[u8]> + 'static;
    /// What was read.
    type Read: Deref<Target = [u8]> + 'static;

    /// Smallest write the device takes, in bytes: a power of two, at least 512.
    fn unit(&self) -> usize;
    /// Memory of `len` bytes for [`File::write_at`] that starts with `content`; the rest is zero.
    fn buffer(&self, content: &[u8], len: usize) -> Self::Buffer;
    /// Bytes written; a short count is the caller's to refuse. The future owns the buffer and what
    /// it needs of the file. Dropping it does not recall the write.
    fn write_at(
        &self,
        buffer: Self::Buffer,
        offset: u64,
    ) -> impl Future<Output = io::Result<usize>> + use<Self> + 'static;
    /// Exactly `len` bytes, or fewer at the end of the file.
    fn read_at(&self, offset: u64, len: usize) -> impl Future<Output = io::Result<Self::Read>>;
    fn size(&self) -> impl Future<Output = io::Result<u64>>;
    /// Reserves space for the first `len` bytes and sets the size; what was there stays.
    /// `Unsupported` if the file system cannot.
    fn allocate(&self, len: u64) -> impl Future<Output = io::Result<()>>;
    /// Sets the size; what was beyond it is gone, and a crash may undo that until the file is synced.
    /// Large files go in steps: giving back a lot of space at once holds up other writes.
    fn truncate(&self, len: u64) -> impl Future<Output = io::Result<()>>;
    fn sync(&self) -> impl Future<Output = io::Result<()>>;
    /// Fails while a write is in flight.
    fn close(self) -> impl Future<Output = io::Result<()>>;
}
