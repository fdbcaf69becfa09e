//! Files through the executor's ring, past the page cache.
//!
//! Opening, renaming, removing and syncing go through glommio (ring or its helper thread), so the
//! log can prepare segments while the core serves. Everything about mappings, and prefetching, runs on
//! glommio's helper thread. Listing, locking, creating directories and small whole files are plain
//! blocking calls: start-up only.
//!
//! tmpfs has no direct I/O; glommio then goes through the page cache, which is where such files live
//! anyway. Every other file system without it is refused when the file is opened.

use std::{
    fs,
    future::Future,
    io::{self, Read, Write},
    ops::Range,
    os::{
        fd::BorrowedFd,
        unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    },
    path::Path,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use glommio::{
    GlommioError,
    io::{CloseResult, Directory, DmaBuffer, DmaFile, ReadResult},
};
use memmap2::{Advice, Mmap, UncheckedAdvice};
use rustix::{
    fs::{AtFlags, FlockOperation, StatxFlags},
    io::Errno,
};

use crate::env::{Disk, File, Mapping, OpenOptions};

/// Largest file [`Disk::read_small`] takes.
const SMALL_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// No device in use writes less than this at a time.
const UNIT_MIN: usize = 512;
/// What a device is assumed to need when the kernel does not say.
const UNIT_DEFAULT: usize = 4096;

/// How long a killed process's writes may take to end, and how often to look.
const DEAD_PATIENCE: Duration = Duration::from_secs(30);
const DEAD_PAUSE: Duration = Duration::from_millis(5);

/// Read into the page cache at a time, on the helper thread. The disk's answer is a pause for the processor it is on.
const PREFETCH_BYTES: u64 = 64 * 1024;

/// Of a mapping, given back at a time, and the pause after it.
const RELEASE_BYTES: usize = 2 * 1024 * 1024;
const RELEASE_PAUSE: Duration = Duration::from_micros(20);

/// This machine's file systems.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// An exclusive `flock`, released when the file is closed.
#[derive(Debug)]
pub struct RealLock {
    _file: fs::File,
}

impl Disk for RealDisk {
    type File = RealFile;
    type Mapping = RealMapping;
    type Lock = RealLock;

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut missing = Vec::new();
        for ancestor in path.ancestors().filter(|a| !a.as_os_str().is_empty()) {
            if ancestor.try_exists()? {
                break;
            }
            missing.push(ancestor);
        }
        for dir in missing.into_iter().rev() {
            fs::DirBuilder::new().mode(0o700).create(dir)?;
            sync_dir_blocking(parent(dir))?;
        }
        if !fs::metadata(path)?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        Ok(())
    }

    async fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    async fn open(&self, path: &Path, options: OpenOptions) -> io::Result<RealFile> {
        let prefilled = options.create && prefill_if_empty(path)?;
        let file = glommio::io::OpenOptions::new()
            .read(true)
            .write(true)
            .create(options.create)
            .mode(0o600)
            .custom_flags(if options.data_sync { libc::O_DSYNC } else { 0 })
            .dma_open(path)
            .await
            .map_err(os_error)?;
        if prefilled {
            file.truncate(0).await.map_err(os_error)?;
        }
        outlast_the_dead(&file).await?;
        let unit = write_unit(&file)?;
        Ok(RealFile { file: Rc::new(file), unit })
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        glommio::io::rename(from, to).await.map_err(os_error)
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        glommio::io::remove(path).await.map_err(os_error)
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let dir = Directory::open(path).await.map_err(os_error)?;
        dir.sync().await.map_err(os_error)?;
        dir.close().await.map_err(os_error)
    }

    async fn read_small(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = fs::File::open(path)?;
        let mut content = Vec::new();
        file.take(SMALL_FILE_BYTES_MAX + 1).read_to_end(&mut content)?;
        if content.len() as u64 > SMALL_FILE_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        Ok(content)
    }

    async fn write_small(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_dir_blocking(parent(path))
    }

    async fn map(&self, path: &Path) -> io::Result<RealMapping> {
        let path = path.to_path_buf();
        glommio::executor().spawn_blocking(move || map_blocking(&path)).await
    }

    async fn prefetch(&self, path: &Path, offset: u64, len: u64) -> io::Result<()> {
        let path = path.to_path_buf();
        glommio::executor().spawn_blocking(move || prefetch_blocking(&path, offset, len)).await
    }

    async fn lock(&self, path: &Path) -> io::Result<RealLock> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        Ok(RealLock { _file: file })
    }

    fn file_system(&self, path: &Path) -> String {
        match rustix::fs::statfs(path) {
            Ok(stat) => file_system_name(stat.f_type),
            Err(errno) => format!("unknown file system ({errno})"),
        }
    }
}

/// A mapped file; only [`RealDisk::map`] makes one.
#[derive(Debug)]
pub struct RealMapping {
    /// The kernel maps no empty file. Counted here because `Bytes` of an owner does not tell whether it is the last.
    map: Option<Arc<Mmap>>,
}

/// What a slice holds of its mapping.
struct MappingRef(Arc<Mmap>);

impl AsRef<[u8]> for MappingRef {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Mapping for RealMapping {
    fn bytes(&self) -> &[u8] {
        self.map.as_deref().map_or(&[], |map| &map[..])
    }

    fn examine<T: Send + 'static, L: FnOnce(&[u8]) -> T + Send + 'static>(
        &self,
        look: L,
    ) -> impl Future<Output = io::Result<T>> + use<T, L> {
        let map = self.map.clone();
        async move {
            let examine = move || match map {
                Some(map) => populate_blocking(&map).map(|()| look(&map)),
                None => Ok(look(&[])),
            };
            glommio::executor().spawn_blocking(examine).await
        }
    }

    fn slice(&self, range: Range<usize>) -> Bytes {
        match &self.map {
            Some(map) => Bytes::from_owner(MappingRef(Arc::clone(map))).slice(range),
            None => Bytes::new().slice(range),
        }
    }

    fn is_unique(&self) -> bool {
        self.map.as_ref().is_none_or(|map| Arc::strong_count(map) == 1)
    }

    fn release(&self) -> impl Future<Output = io::Result<()>> + use<> {
        let map = self.map.clone();
        async move {
            let Some(map) = map else { return Ok(()) };
            glommio::executor().spawn_blocking(move || release_blocking(&map)).await
        }
    }

    async fn unmap(self) {
        let Some(map) = self.map else { return };
        glommio::executor()
            .spawn_blocking(move || {
                // Without, unmapping takes longer, and the core can neither map nor unmap anything meanwhile.
                if let Err(error) = release_blocking(&map) {
                    log::debug!("a file is unmapped in one step: {error}");
                }
            })
            .await;
    }
}

fn map_blocking(path: &Path) -> io::Result<RealMapping> {
    let file = fs::File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(RealMapping { map: None });
    }
    // SAFETY: who maps a file promises that nobody writes to it or truncates it while the mapping lives; see
    // `Disk::map`. The data directory is locked against other servers.
    let mapping = unsafe { Mmap::map(&file)? };
    Ok(RealMapping { map: Some(Arc::new(mapping)) })
}

/// Brings a mapping into memory; what the disk does not give is an error here and not a signal later.
fn populate_blocking(mapping: &Mmap) -> io::Result<()> {
    // Until it is released.
    mapping.advise(Advice::Sequential)?;
    match mapping.advise(Advice::PopulateRead) {
        // Before Linux 5.14: the pages come when they are looked at.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => mapping.advise(Advice::WillNeed),
        // How the kernel says that the disk did not give a page.
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
            Err(io::Error::from_raw_os_error(libc::EIO))
        }
        result => result,
    }
}

/// In steps, between which the core can map and unmap, and others have the processor.
fn release_blocking(mapping: &Mmap) -> io::Result<()> {
    for start in (0..mapping.len()).step_by(RELEASE_BYTES) {
        let bytes = RELEASE_BYTES.min(mapping.len() - start);
        // SAFETY: the mapping is of a file and read-only; its pages are read from the file again when they are
        // looked at.
        unsafe { mapping.unchecked_advise_range(UncheckedAdvice::DontNeed, start, bytes)? };
        std::thread::sleep(RELEASE_PAUSE);
    }
    mapping.advise(Advice::Normal)
}

/// Reads and forgets: unlike an advice, it returns when the pages are there.
fn prefetch_blocking(path: &Path, offset: u64, len: u64) -> io::Result<()> {
    let file = fs::File::open(path)?;
    // No read-ahead of the kernel's own: that is one long stretch of allocating pages, and others wait for the processor.
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random)?;
    let mut scratch = vec![0; PREFETCH_BYTES.min(len) as usize];
    let end = offset.saturating_add(len);
    let mut at = offset;
    while at < end {
        let bytes = PREFETCH_BYTES.min(end - at) as usize;
        match file.read_at(&mut scratch[..bytes], at) {
            Ok(0) => break,
            Ok(read) => at += read as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A file opened with O_DIRECT.
#[derive(Debug)]
pub struct RealFile {
    file: Rc<DmaFile>,
    unit: usize,
}

impl File for RealFile {
    type Buffer = DmaBuffer;
    type Read = ReadResult;

    fn unit(&self) -> usize {
        self.unit
    }

    fn buffer(&self, content: &[u8], len: usize) -> DmaBuffer {
        assert!(content.len() <= len, "a buffer of {len} bytes for {} bytes", content.len());
        assert!(len > 0 && len.is_multiple_of(self.unit), "{len} bytes on a unit of {}", self.unit);
        let mut buffer = self.file.alloc_dma_buffer(len);
        let bytes = buffer.as_bytes_mut();
        bytes[..content.len()].copy_from_slice(content);
        bytes[content.len()..].fill(0);
        buffer
    }

    fn write_at(
        &self,
        buffer: DmaBuffer,
        offset: u64,
    ) -> impl Future<Output = io::Result<usize>> + use<> + 'static {
        assert!(offset.is_multiple_of(self.unit as u64), "offset {offset} on a unit of {}", self.unit);
        let file = Rc::clone(&self.file);
        async move { file.write_at(buffer, offset).await.map_err(os_error) }
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<ReadResult> {
        assert!(offset.is_multiple_of(self.unit as u64) && len.is_multiple_of(self.unit));
        self.file.read_at_aligned(offset, len).await.map_err(os_error)
    }

    async fn size(&self) -> io::Result<u64> {
        self.file.file_size().await.map_err(os_error)
    }

    async fn allocate(&self, len: u64) -> io::Result<()> {
        self.file.pre_allocate(len, false).await.map_err(os_error)
    }

    async fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len).await.map_err(os_error)
    }

    async fn sync(&self) -> io::Result<()> {
        self.file.fdatasync().await.map_err(os_error)
    }

    async fn close(self) -> io::Result<()> {
        match self.file.close_rc().await.map_err(os_error)? {
            CloseResult::Closed => Ok(()),
            CloseResult::Unreferenced => Err(io::Error::from(io::ErrorKind::ResourceBusy)),
        }
    }
}

/// Gives a new file one block of content before glommio opens it; false if it has content.
///
/// glommio probes each device once for polled I/O, with a read of the first file it opens there. A read
/// of an empty file never reaches the device and succeeds, so glommio would take polling for supported
/// and every later read of the device fail.
fn prefill_if_empty(path: &Path) -> io::Result<bool> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.len() > 0 {
        return Ok(false);
    }
    file.write_all(&[0; UNIT_DEFAULT])?;
    Ok(true)
}

/// The error of the system call inside glommio's, so that its number is not lost.
pub(super) fn os_error(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => source,
        other => io::Error::from(other),
    }
}

/// Waits for the last writes of a killed process. The kernel takes its rings apart after the process is gone and its
/// other locks are free, so a write may still be on its way to the device, over what a successor reads or has
/// written there since. Such a write holds its open file, and with it this lock.
async fn outlast_the_dead(file: &DmaFile) -> io::Result<()> {
    let started = Instant::now();
    loop {
        match rustix::fs::flock(descriptor(file), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(errno) if errno == Errno::WOULDBLOCK && started.elapsed() < DEAD_PATIENCE => {
                glommio::timer::sleep(DEAD_PAUSE).await;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn descriptor(file: &DmaFile) -> BorrowedFd<'_> {
    use std::os::fd::AsRawFd;
    // SAFETY: `file` is open for as long as the borrow lives.
    unsafe { BorrowedFd::borrow_raw(file.as_raw_fd()) }
}

/// What the kernel says direct writes to this file must be multiples of.
fn write_unit(file: &DmaFile) -> io::Result<usize> {
    let stat = rustix::fs::statx(descriptor(file), c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)?;
    let said = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::DIOALIGN)
        && stat.stx_dio_offset_align > 0;
    let unit = if said { stat.stx_dio_offset_align as usize } else { UNIT_DEFAULT };
    Ok(unit.max(UNIT_MIN).max(file.alignment() as usize).next_power_of_two())
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_dir_blocking(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// Names for the magic numbers of statfs(2).
fn file_system_name(magic: i64) -> String {
    match magic {
        0xEF53 => "ext4".into(),
        0x5846_5342 => "xfs".into(),
        0x9123_683E => "btrfs".into(),
        0xF2F5_2010 => "f2fs".into(),
        0x2FC1_2FC1 => "zfs".into(),
        0x0102_1994 => "tmpfs".into(),
        0x794C_7630 => "overlayfs".into(),
        0x6969 => "nfs".into(),
        0x6573_5546 => "fuse".into(),
        0xFF53_4D42 => "cifs".into(),
        0x0102_1997 => "9p".into(),
        other => format!("file system {other:#x}"),
    }
}
