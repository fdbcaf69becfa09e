//! What the process needs of its limits and of the machine's cores.

use glommio::{CpuSet, PoolPlacement};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::disable_transparent_huge_pages,
};
use tracing::{info, warn};

use super::StartError;
use crate::limits;

/// The ring refuses to start with less locked memory.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;
/// Buffers the executor registers with the ring, and room for the ring; with less locked memory it goes on without.
const MEMLOCK_BYTES_WANTED: u64 = 2 * limits::IO_BUFFER_BYTES as u64;
/// As in etcd: below this not even the member's own files are certain.
const DESCRIPTORS_MIN: u64 = 150;

/// Raises the soft limits to the hard ones and says what is missing. Memory comes in small pages from now on: the kernel
/// clears a huge one at the first touch, which holds up the core for milliseconds.
pub fn prepare() -> Result<(), StartError> {
    // `None` is no limit.
    let locked = raise(Resource::Memlock).unwrap_or(u64::MAX);
    if locked < MEMLOCK_BYTES_MIN {
        return Err(StartError::LockedMemory { bytes: locked, needed: MEMLOCK_BYTES_MIN });
    }
    if locked < MEMLOCK_BYTES_WANTED {
        info!(
            "limit-bytes" = locked,
            "recommended-bytes" = MEMLOCK_BYTES_WANTED,
            "locked memory limit is low, I/O buffers may stay unregistered; raise it with `ulimit -l` or \
             LimitMEMLOCK="
        );
    }
    let descriptors = raise(Resource::Nofile).unwrap_or(u64::MAX);
    if descriptors <= DESCRIPTORS_MIN {
        return Err(StartError::Descriptors { limit: descriptors, needed: DESCRIPTORS_MIN });
    }
    if let Err(error) = disable_transparent_huge_pages(true) {
        info!(%error, "huge pages stay in use, which may delay requests now and then");
    }
    Ok(())
}

/// The limit in force afterwards.
fn raise(resource: Resource) -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(resource);
    if current == maximum {
        return current;
    }
    match setrlimit(resource, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            warn!(%error, resource = ?resource, "cannot raise a soft limit to its hard limit");
            current
        }
    }
}

/// The core to serve from: the one asked for, else the last this process may use, because the
/// machine's housekeeping gathers on the first.
pub fn core(asked: Option<usize>) -> Result<usize, StartError> {
    let allowed = allowed();
    match asked {
        Some(core) if allowed.contains(&core) => Ok(core),
        Some(core) => Err(StartError::Core { core, allowed }),
        None => allowed.last().copied().ok_or(StartError::Core { core: 0, allowed }),
    }
}

/// Where the executor's helper thread runs, which does what would block the loop: on any core but the loop's, if there
/// is another. Left to itself the scheduler likes to run it where it was woken, and the loop then waits for it.
pub fn helper_placement(core: usize) -> PoolPlacement {
    let allowed = allowed();
    let others = CpuSet::online()
        .map(|online| online.filter(|location| location.cpu != core && allowed.contains(&location.cpu)));
    match others {
        Ok(others) if !others.is_empty() => PoolPlacement::Fenced(1, others),
        _ => PoolPlacement::Unbound(1),
    }
}

/// The cores this process may use.
fn allowed() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}
