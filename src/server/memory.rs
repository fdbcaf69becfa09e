//! How much memory the server may hold on behalf of its clients.

use std::fs;

use tracing::info;

use crate::{client::Bounds, limits};

/// Of the memory there is, this part is for requests and answers under way; the rest is the state's and the system's.
const PART: u64 = 4;

/// Limits that a container has, of version 2 and 1.
const LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// A quarter of the memory, with room for some of the longest messages whatever that is.
pub fn clients(max_request_bytes: usize) -> Bounds {
    let bounds = bounds(available(), max_request_bytes);
    info!(
        "total-bytes" = bounds.total,
        "client-bytes" = bounds.each,
        "memory held on behalf of clients is bounded"
    );
    bounds
}

fn bounds(memory: Option<u64>, max_request_bytes: usize) -> Bounds {
    let messages = limits::CLIENT_MESSAGES_MIN * (max_request_bytes + limits::GRPC_OVERHEAD_BYTES);
    let part =
        memory.map_or(limits::CLIENTS_BYTES, |bytes| usize::try_from(bytes / PART).unwrap_or(usize::MAX));
    let total = part.max(limits::CLIENTS_BYTES_MIN).max(messages);
    Bounds { total, each: limits::CLIENT_BYTES.max(messages).min(total) }
}

/// The machine's memory or the container's; none if neither says.
fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let limited = LIMITS.iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    machine.into_iter().chain(limited).min()
}

/// Of `/proc/meminfo`.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_a_quarter_of_the_memory_and_room_for_the_longest_messages() {
        const MIB: usize = 1024 * 1024;
        for (memory, request, total, each) in [
            (Some(8 << 30), limits::MAX_REQUEST_BYTES, 2048 * MIB, 64 * MIB),
            (Some(100 << 20), limits::MAX_REQUEST_BYTES, 64 * MIB, 64 * MIB),
            (None, limits::MAX_REQUEST_BYTES, 256 * MIB, 64 * MIB),
            (Some(512 << 20), 32 * MIB - limits::GRPC_OVERHEAD_BYTES, 128 * MIB, 128 * MIB),
        ] {
            assert_eq!(bounds(memory, request), Bounds { total, each }, "{memory:?}, {request}");
        }
    }

    #[test]
    fn the_machine_tells_its_memory() {
        let text = "MemTotal:       16303792 kB\nMemFree:         1009776 kB\n";
        assert_eq!(total(text), Some(16_303_792 * 1024));
        assert_eq!(total("MemFree: 1 kB"), None);
        assert!(available().is_some());
    }
}
