//! Which core a member takes: on a machine with several members each has one of its own, as far as there are enough.
//!
//! Members know nothing of each other before they listen. What they share is the kernel's table of names of unix sockets: a
//! member that takes a core binds a name made of it, and the name is free again when the process is gone, however it ends.

use std::os::{
    linux::net::SocketAddrExt,
    unix::net::{SocketAddr, UnixDatagram},
};

use super::ExecutorError;

/// Members on one core that are told from each other; with more, all cores count as equally crowded.
const CROWD_MAX: usize = 64;

/// A core, and the word to other members that it is taken.
#[derive(Debug)]
pub struct Core {
    pub id: usize,
    /// Of no use but for its name.
    _claim: Option<UnixDatagram>,
}

impl Core {
    /// The core to serve from: the one asked for, else the one that fewest members have, and of those the last this process
    /// may use, because the machine's housekeeping gathers on the first.
    pub fn choose(asked: Option<usize>) -> Result<Self, ExecutorError> {
        Self::among(&allowed(), asked, "pinion")
    }

    fn among(allowed: &[usize], asked: Option<usize>, family: &str) -> Result<Self, ExecutorError> {
        let candidates: Vec<usize> = match asked {
            Some(core) if !allowed.contains(&core) => {
                return Err(ExecutorError::Core { core, allowed: allowed.to_vec() });
            }
            Some(core) => vec![core],
            None => allowed.iter().rev().copied().collect(),
        };
        for nth in 0..CROWD_MAX {
            for &id in &candidates {
                if let Some(claim) = claim(family, id, nth) {
                    return Ok(Self { id, _claim: Some(claim) });
                }
            }
        }
        let id = *candidates.first().ok_or(ExecutorError::Core { core: 0, allowed: Vec::new() })?;
        Ok(Self { id, _claim: None })
    }
}

/// None if another process has it already, or names cannot be bound here: then the core is as crowded as can be.
fn claim(family: &str, core: usize, nth: usize) -> Option<UnixDatagram> {
    let name = SocketAddr::from_abstract_name(format!("{family}/core/{core}/{nth}")).ok()?;
    UnixDatagram::bind_addr(&name).ok()
}

/// The cores this process may use.
pub(super) fn allowed() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_take_the_cores_that_are_least_taken() {
        let family = format!("test/{}", std::process::id());
        let take = |asked| Core::among(&[0, 2, 5], asked, &family).expect("there is one");
        let mut taken: Vec<Core> = (0..4).map(|_| take(None)).collect();
        assert_eq!(taken.iter().map(|core| core.id).collect::<Vec<_>>(), [5, 2, 0, 5]);
        taken.remove(1);
        assert_eq!(take(None).id, 2, "who is gone leaves its core");
        taken.push(take(Some(2)));
        assert_eq!(take(None).id, 2, "the last has two, the first none less than the second");
    }

    #[test]
    fn who_asks_for_a_core_gets_it() {
        let family = format!("asked/{}", std::process::id());
        let first = Core::among(&[0, 1], Some(0), &family).expect("it is there");
        let second = Core::among(&[0, 1], Some(0), &family).expect("as often as asked");
        assert_eq!((first.id, second.id), (0, 0));
    }

    #[test]
    fn a_core_that_is_not_there_is_refused() {
        assert!(matches!(Core::choose(Some(1 << 20)), Err(ExecutorError::Core { .. })));
        assert!(allowed().contains(&Core::choose(None).expect("there is one").id));
    }
}
