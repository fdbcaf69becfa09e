//! A simulated disk: files that survive crashes as far as they were synced, and faults on demand.
//!
//! Fault model: a write that was not durable when the machine crashed is kept, lost or torn at sector
//! granularity, each sector on its own; creations, renames and removals not yet synced are lost from
//! some point on; so is a truncation, as a whole; a write may fail, end short or run into a full or
//! read-only disk, or land elsewhere or nowhere; any other operation may fail, and what a failed sync was for is then
//! durable or lost, whatever is synced later; any stored byte may be flipped; everything may take longer, or not end. Not
//! modelled: a disk that lies about the durability of what it has.
//!
//! Cheap to clone; all clones are the same disk. It outlives crashes, open files do not.

mod media;
#[cfg(test)]
mod tests;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::{Future, poll_fn},
    io,
    ops::Range,
    path::{Path, PathBuf},
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;

use self::media::{Begun, Media};
use super::Sim;
use crate::env::{Disk, File, Mapping, OpenOptions};

/// How long an operation takes: usually 50 to 250 microseconds, sometimes up to 20 ms.
const LATENCY_MIN_US: u64 = 50;
const LATENCY_SPREAD_US: u64 = 200;
const SLOW_PERMILLE: u64 = 5;
const SLOW_SPREAD_US: u64 = 20_000;

/// What happens to one write instead of success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFault {
    /// Nothing is written and the call fails with this errno.
    Errno(i32),
    /// Only this many bytes are written, and the call says so.
    Short(usize),
    /// What was written is so many bytes further in the file, or nowhere if it ends before; the call succeeds.
    Misdirected(u64),
}

#[derive(Clone)]
pub struct SimDisk {
    sim: Sim,
    media: Rc<RefCell<Media>>,
}

impl SimDisk {
    /// An empty disk that takes writes of 512 bytes.
    pub fn new(sim: &Sim) -> Self {
        Self { sim: sim.clone(), media: Rc::default() }
    }

    /// Smallest write from now on, for files opened from now on.
    pub fn set_unit(&self, bytes: usize) {
        assert!(bytes.is_power_of_two() && bytes >= media::SECTOR_BYTES);
        self.media.borrow_mut().unit = bytes;
    }

    /// Power is gone: what was not durable is kept, lost or torn as the seed says, locks are free, and
    /// files opened before fail from now on. Stop the member's tasks first.
    pub fn crash(&self) {
        self.media.borrow_mut().crash(&mut |bound| self.sim.below(bound));
    }

    /// Everything takes so many times as long from now on.
    pub fn set_slowness(&self, factor: u32) {
        self.media.borrow_mut().slowness = factor;
    }

    /// Whether nothing ends from now on; when that is over, everything does.
    pub fn set_hanging(&self, hangs: bool) {
        let mut media = self.media.borrow_mut();
        media.hangs = hangs;
        let waiting = std::mem::take(&mut media.waiting);
        drop(media);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Lets `after` writes succeed and then fails one.
    pub fn fail_write(&self, after: u64, fault: WriteFault) {
        self.media.borrow_mut().fail_write(after, fault);
    }

    /// So many of a thousand operations fail from now on: all that change something, but durable writes, and bringing
    /// files into memory.
    pub fn set_failing(&self, permille: u64) {
        self.media.borrow_mut().failing_permille = permille;
    }

    /// Operations that failed for that reason.
    pub fn failures(&self) -> u64 {
        self.media.borrow().failures
    }

    /// Whether files cannot be read from now on.
    pub fn set_unreadable(&self, unreadable: bool) {
        self.media.borrow_mut().unreadable = unreadable;
    }

    /// Bytes by which files may still grow; `None` is no limit.
    pub fn set_free_bytes(&self, bytes: Option<u64>) {
        self.media.borrow_mut().free_bytes = bytes;
    }

    pub fn set_read_only(&self, read_only: bool) {
        self.media.borrow_mut().read_only = read_only;
    }

    /// Whether files can be opened past the page cache.
    pub fn set_direct_io(&self, possible: bool) {
        self.media.borrow_mut().buffered_only = !possible;
    }

    /// Flips bits of a stored byte. False if the file does not exist or is shorter.
    pub fn corrupt(&self, path: &Path, offset: u64, flip: u8) -> bool {
        self.media.borrow_mut().corrupt(path, offset, flip)
    }

    /// Everything below a directory, or one file, as somebody finds it who looks at the disk while nobody uses it.
    pub fn copy(&self, path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        self.media.borrow().copy(path)
    }

    /// Puts such a copy, or nothing, in place of what is there; `path` holds all of it. Durable.
    pub fn put(&self, path: &Path, content: &BTreeMap<PathBuf, Vec<u8>>) {
        self.media.borrow_mut().put(path, content);
    }

    /// Files and their sizes, by path.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        self.media.borrow().files()
    }

    /// Writes completed so far.
    pub fn writes(&self) -> u64 {
        self.media.borrow().writes
    }

    async fn pause(&self) {
        let sim = &self.sim;
        let slow = if sim.chance(SLOW_PERMILLE) { sim.below(SLOW_SPREAD_US) } else { 0 };
        let micros = LATENCY_MIN_US + sim.below(LATENCY_SPREAD_US) + slow;
        let slowness = self.media.borrow().slowness;
        sim.sleep(Duration::from_micros(micros) * slowness).await;
        poll_fn(|context| {
            let mut media = self.media.borrow_mut();
            if media.hangs {
                media.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// The error of an operation whose turn to fail it is.
    fn failure(&self) -> io::Result<()> {
        let mut media = self.media.borrow_mut();
        if media.failing_permille == 0 || !self.sim.chance(media.failing_permille) {
            return Ok(());
        }
        media.failures += 1;
        Err(eio())
    }
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

impl Disk for SimDisk {
    type File = SimFile;
    type Mapping = SimMapping;
    type Lock = SimLock;

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.pause().await;
        self.media.borrow_mut().create_dir(path)
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.pause().await;
        self.media.borrow().list(path)
    }

    async fn open(&self, path: &Path, options: OpenOptions) -> io::Result<SimFile> {
        self.pause().await;
        let mut media = self.media.borrow_mut();
        if media.buffered_only {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let inode = media.open(path, options.create)?;
        drop(media);
        // What was created by then stays.
        self.failure()?;
        let media = self.media.borrow();
        Ok(SimFile {
            disk: self.clone(),
            inode,
            unit: media.unit,
            data_sync: options.data_sync,
            life: media.life,
        })
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.pause().await;
        self.failure()?;
        self.media.borrow_mut().rename(from, to)
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.pause().await;
        self.failure()?;
        self.media.borrow_mut().remove(path)
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.pause().await;
        self.failure()?;
        self.media.borrow_mut().sync_dir(path)
    }

    async fn read_small(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.pause().await;
        let media = self.media.borrow();
        let inode = media.lookup(path)?;
        Ok(media.read(inode, 0, usize::MAX))
    }

    async fn write_small(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.pause().await;
        self.media.borrow_mut().replace(path, content)
    }

    async fn map(&self, path: &Path) -> io::Result<SimMapping> {
        self.pause().await;
        self.failure()?;
        let media = self.media.borrow();
        let inode = media.lookup(path)?;
        Ok(SimMapping { content: Bytes::from(media.read(inode, 0, usize::MAX)) })
    }

    async fn prefetch(&self, path: &Path, _offset: u64, _len: u64) -> io::Result<()> {
        self.pause().await;
        self.failure()?;
        self.media.borrow().lookup(path).map(drop)
    }

    async fn lock(&self, path: &Path) -> io::Result<SimLock> {
        self.pause().await;
        let mut media = self.media.borrow_mut();
        media.open(path, true)?;
        media.lock(path)?;
        Ok(SimLock { disk: self.clone(), path: path.to_path_buf(), life: media.life })
    }

    fn file_system(&self, _path: &Path) -> String {
        "simfs".into()
    }
}

/// The content a file had when it was mapped.
pub struct SimMapping {
    content: Bytes,
}

impl Mapping for SimMapping {
    fn bytes(&self) -> &[u8] {
        &self.content
    }

    fn examine<T: Send + 'static, L: FnOnce(&[u8]) -> T + Send + 'static>(
        &self,
        look: L,
    ) -> impl Future<Output = io::Result<T>> + use<T, L> {
        let content = self.content.clone();
        async move { Ok(look(&content)) }
    }

    fn slice(&self, range: Range<usize>) -> Bytes {
        self.content.slice(range)
    }

    fn is_unique(&self) -> bool {
        self.content.is_empty() || self.content.is_unique()
    }

    fn release(&self) -> impl Future<Output = io::Result<()>> + use<> {
        async { Ok(()) }
    }

    async fn unmap(self) {}
}

/// A held lock.
pub struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    life: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.media.borrow_mut().unlock(&self.path, self.life);
    }
}

/// An open file. After a crash it only fails.
pub struct SimFile {
    disk: SimDisk,
    inode: u64,
    unit: usize,
    data_sync: bool,
    life: u64,
}

impl SimFile {
    fn alive(&self) -> io::Result<()> {
        alive(&self.disk, self.life)
    }
}

fn alive(disk: &SimDisk, life: u64) -> io::Result<()> {
    if disk.media.borrow().life == life { Ok(()) } else { Err(eio()) }
}

impl File for SimFile {
    type Buffer = Vec<u8>;
    type Read = Vec<u8>;

    fn unit(&self) -> usize {
        self.unit
    }

    fn buffer(&self, content: &[u8], len: usize) -> Vec<u8> {
        assert!(content.len() <= len && len > 0 && len.is_multiple_of(self.unit));
        let mut buffer = Vec::with_capacity(len);
        buffer.extend_from_slice(content);
        buffer.resize(len, 0);
        buffer
    }

    fn write_at(
        &self,
        buffer: Vec<u8>,
        offset: u64,
    ) -> impl Future<Output = io::Result<usize>> + use<> + 'static {
        assert!(offset.is_multiple_of(self.unit as u64) && buffer.len().is_multiple_of(self.unit));
        let (disk, inode, data_sync, life) = (self.disk.clone(), self.inode, self.data_sync, self.life);
        async move {
            alive(&disk, life)?;
            let started = disk.media.borrow_mut().begin_write(inode, offset, &buffer);
            disk.pause().await;
            alive(&disk, life)?;
            let Begun { at, told } = started?;
            if !data_sync {
                disk.failure()?;
            }
            let mut media = disk.media.borrow_mut();
            media.writes += 1;
            if let (true, Some(at)) = (data_sync, at) {
                media.make_durable(inode, at, told);
            }
            Ok(told)
        }
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        assert!(offset.is_multiple_of(self.unit as u64) && len.is_multiple_of(self.unit));
        self.disk.pause().await;
        self.alive()?;
        let media = self.disk.media.borrow();
        if media.unreadable { Err(eio()) } else { Ok(media.read(self.inode, offset, len)) }
    }

    async fn size(&self) -> io::Result<u64> {
        self.alive()?;
        Ok(self.disk.media.borrow().size(self.inode))
    }

    async fn allocate(&self, len: u64) -> io::Result<()> {
        self.disk.pause().await;
        self.alive()?;
        self.disk.failure()?;
        self.disk.media.borrow_mut().allocate(self.inode, len)
    }

    async fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.pause().await;
        self.alive()?;
        self.disk.failure()?;
        self.disk.media.borrow_mut().truncate(self.inode, len)
    }

    async fn sync(&self) -> io::Result<()> {
        self.disk.pause().await;
        self.alive()?;
        let failure = self.disk.failure();
        let mut media = self.disk.media.borrow_mut();
        match &failure {
            Ok(()) => media.sync(self.inode),
            Err(_) => media.fail_sync(self.inode, &mut |bound| self.disk.sim.below(bound)),
        }
        failure
    }

    async fn close(self) -> io::Result<()> {
        self.alive()
    }
}
