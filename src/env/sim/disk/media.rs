//! What is stored: for every file the content now and the content that would survive a crash, and the
//! same for names.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    path::{Path, PathBuf},
    task::Waker,
};

use super::WriteFault;

/// Unit in which a crash keeps or loses what was being written.
pub const SECTOR_BYTES: usize = 512;

const OPEN_FAULTS_MAX: usize = 64;

#[derive(Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors whose two contents may differ.
    dirty: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Create { path: PathBuf, inode: u64 },
    Rename { from: PathBuf, to: PathBuf },
    Remove { path: PathBuf },
}

impl NameChange {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::Create { path, .. } | Self::Remove { path } | Self::Rename { to: path, .. } => {
                path.parent()
            }
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Create { path, inode } => {
                names.insert(path.clone(), *inode);
            }
            Self::Rename { from, to } => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove { path } => {
                names.remove(path);
            }
        }
    }
}

/// A write that is not durable yet.
pub struct Begun {
    /// Nowhere, if it was lost.
    pub at: Option<u64>,
    /// Bytes that are said to be written.
    pub told: usize,
}

pub struct Media {
    /// Directories are durable once created.
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names not yet durable, in order.
    changes: Vec<NameChange>,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    locks: BTreeSet<PathBuf>,
    faults: VecDeque<(u64, WriteFault)>,
    pub unit: usize,
    pub free_bytes: Option<u64>,
    pub read_only: bool,
    pub buffered_only: bool,
    pub failing_permille: u64,
    /// Files cannot be read.
    pub unreadable: bool,
    pub failures: u64,
    pub writes: u64,
    /// Everything takes so many times as long.
    pub slowness: u32,
    /// Nothing ends, and this waits for it.
    pub hangs: bool,
    pub waiting: Vec<Waker>,
    /// Counts crashes.
    pub life: u64,
}

impl Default for Media {
    fn default() -> Self {
        Self {
            dirs: BTreeSet::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
            inodes: BTreeMap::new(),
            next_inode: 1,
            locks: BTreeSet::new(),
            faults: VecDeque::new(),
            unit: SECTOR_BYTES,
            free_bytes: None,
            read_only: false,
            buffered_only: false,
            failing_permille: 0,
            unreadable: false,
            failures: 0,
            writes: 0,
            slowness: 1,
            hangs: false,
            waiting: Vec::new(),
            life: 0,
        }
    }
}

fn os(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

impl Media {
    pub fn fail_write(&mut self, after: u64, fault: WriteFault) {
        assert!(self.faults.len() < OPEN_FAULTS_MAX, "faults are injected and never met");
        self.faults.push_back((after, fault));
    }

    pub fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        self.writable()?;
        self.dirs.extend(path.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    pub fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        if !self.dirs.contains(path) {
            return Err(os(libc::ENOENT));
        }
        let children = self.names.keys().chain(&self.dirs).filter(|child| child.parent() == Some(path));
        let names: BTreeSet<String> =
            children.filter_map(|c| c.file_name()).map(|name| name.to_string_lossy().into_owned()).collect();
        Ok(names.into_iter().collect())
    }

    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        self.names.iter().map(|(path, inode)| (path.clone(), self.size(*inode))).collect()
    }

    pub fn copy(&self, path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let below = self.names.iter().filter(|(name, _)| name.starts_with(path));
        below.map(|(name, inode)| (name.clone(), self.read(*inode, 0, usize::MAX))).collect()
    }

    pub fn put(&mut self, path: &Path, content: &BTreeMap<PathBuf, Vec<u8>>) {
        self.names.retain(|name, _| !name.starts_with(path));
        self.dirs.retain(|dir| !dir.starts_with(path));
        for (name, bytes) in content {
            assert!(name.starts_with(path), "{} is not below {}", name.display(), path.display());
            let inode = Inode { now: bytes.clone(), durable: bytes.clone(), dirty: BTreeSet::new() };
            self.inodes.insert(self.next_inode, inode);
            self.names.insert(name.clone(), self.next_inode);
            self.dirs.extend(name.ancestors().skip(1).map(Path::to_path_buf));
            self.next_inode += 1;
        }
        self.changes.clear();
        self.durable_names = self.names.clone();
    }

    pub fn lookup(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| os(libc::ENOENT))
    }

    pub fn open(&mut self, path: &Path, create: bool) -> io::Result<u64> {
        match self.lookup(path) {
            Ok(inode) => Ok(inode),
            Err(missing) if !create => Err(missing),
            Err(_) => {
                self.writable()?;
                if !path.parent().is_some_and(|dir| self.dirs.contains(dir)) {
                    return Err(os(libc::ENOENT));
                }
                let inode = self.next_inode;
                self.next_inode += 1;
                self.inodes.insert(inode, Inode::default());
                self.change(NameChange::Create { path: path.to_path_buf(), inode });
                Ok(inode)
            }
        }
    }

    pub fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.writable()?;
        self.lookup(from)?;
        assert_eq!(from.parent(), to.parent(), "renames stay in one directory");
        self.change(NameChange::Rename { from: from.to_path_buf(), to: to.to_path_buf() });
        Ok(())
    }

    pub fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.writable()?;
        self.lookup(path)?;
        self.change(NameChange::Remove { path: path.to_path_buf() });
        Ok(())
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    pub fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        if !self.dirs.contains(path) {
            return Err(os(libc::ENOENT));
        }
        let durable_names = &mut self.durable_names;
        self.changes.retain(|change| {
            let synced = change.dir() == Some(path);
            if synced {
                change.apply(durable_names);
            }
            !synced
        });
        Ok(())
    }

    /// A small file, replaced atomically and durably.
    pub fn replace(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        let inode = self.open(path, true)?;
        let file = self.inodes.get_mut(&inode).expect("an open file exists");
        *file = Inode { now: content.to_vec(), durable: content.to_vec(), dirty: BTreeSet::new() };
        self.sync_dir(path.parent().expect("a file is in a directory"))
    }

    pub fn lock(&mut self, path: &Path) -> io::Result<()> {
        if self.locks.insert(path.to_path_buf()) { Ok(()) } else { Err(os(libc::EWOULDBLOCK)) }
    }

    pub fn unlock(&mut self, path: &Path, life: u64) {
        if life == self.life {
            self.locks.remove(path);
        }
    }

    pub fn size(&self, inode: u64) -> u64 {
        self.inodes[&inode].now.len() as u64
    }

    pub fn read(&self, inode: u64, offset: u64, len: usize) -> Vec<u8> {
        let now = &self.inodes[&inode].now;
        let start = (offset as usize).min(now.len());
        now[start..start.saturating_add(len).min(now.len())].to_vec()
    }

    /// What the system does with a write before it is durable: it is visible, and a crash may keep any
    /// part of it.
    pub fn begin_write(&mut self, inode: u64, offset: u64, content: &[u8]) -> io::Result<Begun> {
        self.writable()?;
        let (mut written, mut start) = (content.len(), offset as usize);
        if let Some((after, fault)) = self.faults.front_mut() {
            match (*after, *fault) {
                (0, WriteFault::Errno(errno)) => {
                    self.faults.pop_front();
                    return Err(os(errno));
                }
                (0, WriteFault::Short(bytes)) => {
                    self.faults.pop_front();
                    written = bytes.min(content.len());
                }
                (0, WriteFault::Misdirected(bytes)) => {
                    self.faults.pop_front();
                    start += bytes as usize;
                    if start + written > self.inodes[&inode].now.len() {
                        return Ok(Begun { at: None, told: written });
                    }
                }
                _ => *after -= 1,
            }
        }
        self.grow(inode, start + written)?;
        let file = self.inodes.get_mut(&inode).expect("an open file exists");
        file.now[start..start + written].copy_from_slice(&content[..written]);
        file.dirty.extend(start / SECTOR_BYTES..(start + written).div_ceil(SECTOR_BYTES));
        Ok(Begun { at: Some(start as u64), told: written })
    }

    pub fn allocate(&mut self, inode: u64, len: u64) -> io::Result<()> {
        self.writable()?;
        self.grow(inode, len as usize)
    }

    fn grow(&mut self, inode: u64, len: usize) -> io::Result<()> {
        let file = self.inodes.get_mut(&inode).expect("an open file exists");
        let more = len.saturating_sub(file.now.len()) as u64;
        if let Some(free) = &mut self.free_bytes {
            *free = free.checked_sub(more).ok_or_else(|| os(libc::ENOSPC))?;
        }
        // A truncation not yet durable left old bytes there; what is there now is zeros.
        file.dirty.extend(file.now.len() / SECTOR_BYTES..len.min(file.durable.len()).div_ceil(SECTOR_BYTES));
        file.now.resize(len.max(file.now.len()), 0);
        Ok(())
    }

    pub fn truncate(&mut self, inode: u64, len: u64) -> io::Result<()> {
        self.writable()?;
        let file = self.inodes.get_mut(&inode).expect("an open file exists");
        let len = len as usize;
        if len >= file.now.len() {
            return self.grow(inode, len);
        }
        if let Some(free) = &mut self.free_bytes {
            *free += (file.now.len() - len) as u64;
        }
        file.now.truncate(len);
        file.dirty.retain(|sector| sector * SECTOR_BYTES < len);
        Ok(())
    }

    pub fn make_durable(&mut self, inode: u64, offset: u64, bytes: usize) {
        let start = offset as usize;
        let sectors = start / SECTOR_BYTES..(start + bytes).div_ceil(SECTOR_BYTES);
        let file = self.inodes.get_mut(&inode).expect("an open file exists");
        sectors.for_each(|sector| file.keep(sector));
    }

    pub fn sync(&mut self, inode: u64) {
        let file = self.inodes.get_mut(&inode).expect("an open file exists");
        file.durable.resize(file.now.len(), 0);
        while let Some(sector) = file.dirty.pop_first() {
            file.keep(sector);
        }
    }

    /// A sync that fails has made any part durable, and the rest is not even tried again: the system has forgotten
    /// that it was still to be written.
    pub fn fail_sync(&mut self, inode: u64, below: &mut dyn FnMut(u64) -> u64) {
        let file = self.inodes.get_mut(&inode).expect("an open file exists");
        file.settle(below);
    }

    pub fn corrupt(&mut self, path: &Path, offset: u64, flip: u8) -> bool {
        let Ok(inode) = self.lookup(path) else { return false };
        let file = self.inodes.get_mut(&inode).expect("a named file exists");
        let Some(byte) = file.now.get_mut(offset as usize) else { return false };
        *byte ^= flip;
        if let Some(byte) = file.durable.get_mut(offset as usize) {
            *byte ^= flip;
        }
        true
    }

    /// `below(n)` draws a number in `0..n`.
    pub fn crash(&mut self, below: &mut dyn FnMut(u64) -> u64) {
        self.life += 1;
        self.locks.clear();
        self.faults.clear();
        let kept = below(self.changes.len() as u64 + 1) as usize;
        for change in self.changes.drain(..).take(kept) {
            change.apply(&mut self.durable_names);
        }
        self.names = self.durable_names.clone();
        for file in self.inodes.values_mut() {
            file.crash(below);
        }
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.inodes.retain(|inode, _| named.contains(inode));
    }

    fn writable(&self) -> io::Result<()> {
        if self.read_only { Err(os(libc::EROFS)) } else { Ok(()) }
    }
}

impl Inode {
    /// The sector's content now is what survives.
    fn keep(&mut self, sector: usize) {
        let start = (sector * SECTOR_BYTES).min(self.now.len());
        let end = (start + SECTOR_BYTES).min(self.now.len());
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[start..end].copy_from_slice(&self.now[start..end]);
        self.dirty.remove(&sector);
    }

    /// Nothing is left of what was not durable but what [`Inode::settle`] chooses.
    fn crash(&mut self, below: &mut dyn FnMut(u64) -> u64) {
        let dirty: Vec<usize> = self.dirty.iter().copied().collect();
        self.settle(below);
        let (now, durable) = (&mut self.now, &self.durable);
        now.truncate(durable.len());
        now.extend_from_slice(&durable[now.len()..]);
        // The two differed nowhere else.
        for start in
            dirty.into_iter().map(|sector| sector * SECTOR_BYTES).filter(|start| *start < durable.len())
        {
            let end = (start + SECTOR_BYTES).min(durable.len());
            now[start..end].copy_from_slice(&durable[start..end]);
        }
        #[cfg(test)]
        assert!(now == durable);
    }

    /// Chooses what becomes durable: everything, nothing, or each sector on its own.
    fn settle(&mut self, below: &mut dyn FnMut(u64) -> u64) {
        if self.durable.len() < self.now.len() && below(2) == 0 {
            self.durable.resize(self.now.len(), 0);
        }
        if self.durable.len() > self.now.len() && below(2) == 0 {
            self.durable.truncate(self.now.len());
        }
        let way = below(3);
        for sector in std::mem::take(&mut self.dirty) {
            let reachable = (sector + 1) * SECTOR_BYTES <= self.durable.len();
            let keep = match way {
                0 => false,
                1 => true,
                _ => below(2) == 0,
            };
            if keep && reachable {
                self.keep(sector);
            }
        }
    }
}
