//! Removing large files without holding up others.

use std::{io, path::Path};

use super::{Disk, DiskError, Env, File, OpenOptions};
use crate::limits;

/// Gives the space of a file back in steps, then removes it; a missing one is fine. Freed at once it would hold up every
/// other write to the device, most of all where the file system tells the device what is free (`discard`). Not durable:
/// after a crash the file may be back, whole or in part.
/// `stopped` is asked between steps; once it says so, what is left of the file stays.
pub async fn remove_in_steps<E: Env>(
    env: &E,
    path: &Path,
    stopped: impl Fn() -> bool,
) -> Result<(), DiskError> {
    let disk = env.disk();
    let io = |action: &'static str| move |e| DiskError::from_io(action, path, e);
    let file = match disk.open(path, OpenOptions { create: false, data_sync: false }).await {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io("open")(e)),
    };
    let mut size = file.size().await.map_err(io("stat"))?;
    while size > 0 && !stopped() {
        size = size.saturating_sub(limits::REMOVAL_BYTES);
        file.truncate(size).await.map_err(io("truncate"))?;
        env.sleep(limits::REMOVAL_PAUSE).await;
    }
    file.close().await.map_err(io("close"))?;
    if stopped() {
        return Ok(());
    }
    match disk.remove(path).await {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io("remove")(e)),
        _ => Ok(()),
    }
}
