//! What the process needs of its limits.

use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::disable_transparent_huge_pages,
};
use tracing::{info, warn};

use super::StartError;
use crate::limits;

/// The ring refuses to start with less locked memory.
const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// What the limits allow for.
#[derive(Clone, Copy, Debug)]
pub struct Resources {
    /// Connections that leave the member the descriptors it needs itself.
    pub connections_max: usize,
}

/// Raises the soft limits to the hard ones and says what is missing. Memory comes in small pages from now on: the kernel
/// clears a huge one at the first touch, which holds up the core for milliseconds.
pub fn prepare() -> Result<Resources, StartError> {
    // `None` is no limit.
    let locked = raise(Resource::Memlock).unwrap_or(u64::MAX);
    if locked < MEMLOCK_BYTES_MIN {
        return Err(StartError::LockedMemory { bytes: locked, needed: MEMLOCK_BYTES_MIN });
    }
    let descriptors = raise(Resource::Nofile).unwrap_or(u64::MAX);
    let kept = limits::DESCRIPTORS_KEPT;
    if descriptors <= kept {
        return Err(StartError::Descriptors { limit: descriptors, needed: kept });
    }
    if let Err(error) = disable_transparent_huge_pages(true) {
        info!(%error, "huge pages stay in use, which may delay requests now and then");
    }
    Ok(Resources { connections_max: connections_max(descriptors) })
}

fn connections_max(descriptors: u64) -> usize {
    let others = descriptors.saturating_sub(limits::DESCRIPTORS_KEPT);
    usize::try_from(others).unwrap_or(usize::MAX).min(limits::CONNECTIONS_MAX)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_the_member_its_descriptors() {
        assert_eq!(connections_max(1_000), 850, "as in etcd");
        assert_eq!(connections_max(u64::MAX), limits::CONNECTIONS_MAX);
    }
}
