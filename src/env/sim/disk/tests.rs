//! The simulated disk keeps its own promises.

use super::*;
use crate::types::MemberId;

const UNIT: usize = 512;

/// Runs one task of member 1 to its end.
fn run<T: 'static>(sim: &Sim, task: impl Future<Output = T> + 'static) -> T {
    let result = Rc::new(RefCell::new(None));
    let slot = result.clone();
    sim.spawn(MemberId(1), async move {
        let value = task.await;
        *slot.borrow_mut() = Some(value);
    });
    assert!(sim.run_until(100_000, || result.borrow().is_some()), "the task ends");
    let value = result.borrow_mut().take();
    value.expect("the task ended")
}

fn options(create: bool, data_sync: bool) -> OpenOptions {
    OpenOptions { create, data_sync }
}

/// A file of eight sectors of ones, durable.
async fn file(disk: &SimDisk, path: &Path) -> SimFile {
    disk.create_dir(path.parent().expect("absolute")).await.expect("made");
    let file = disk.open(path, options(true, true)).await.expect("made");
    disk.sync_dir(path.parent().expect("absolute")).await.expect("synced");
    file.write_at(vec![1; 8 * UNIT], 0).await.expect("written");
    file
}

#[test]
fn a_completed_synced_write_survives_every_crash() {
    for seed in 0..50 {
        let sim = Sim::new(seed);
        let disk = SimDisk::new(&sim);
        let path = PathBuf::from("/d/f");
        run(&sim, {
            let (disk, path) = (disk.clone(), path.clone());
            async move { drop(file(&disk, &path).await) }
        });
        disk.crash();
        let read = run(&sim, {
            let disk = disk.clone();
            async move { disk.read_small(&path).await.expect("the name was synced") }
        });
        assert_eq!(read, vec![1; 8 * UNIT]);
    }
}

#[test]
fn a_write_cut_by_a_crash_is_kept_lost_or_torn_by_sector() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..60 {
        let sim = Sim::new(seed);
        let disk = SimDisk::new(&sim);
        let path = PathBuf::from("/d/f");
        let handle = run(&sim, {
            let (disk, path) = (disk.clone(), path.clone());
            async move { file(&disk, &path).await }
        });
        sim.spawn(MemberId(1), async move {
            handle.write_at(vec![2; 8 * UNIT], 0).await.expect("never completes");
        });
        sim.step();
        sim.crash(MemberId(1));
        disk.crash();
        let read = run(&sim, async move { disk.read_small(&path).await.expect("there") });
        let sectors: Vec<u8> = read.chunks(UNIT).map(|sector| sector[0]).collect();
        assert!(read.chunks(UNIT).all(|sector| sector.iter().all(|b| *b == sector[0])), "sectors are whole");
        outcomes.insert(match sectors.iter().filter(|b| **b == 2).count() {
            0 => "lost",
            8 => "kept",
            _ => "torn",
        });
    }
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), ["kept", "lost", "torn"]);
}

#[test]
fn names_not_synced_may_be_lost_and_synced_ones_never() {
    let mut found = [0, 0];
    for seed in 0..40 {
        let sim = Sim::new(seed);
        let disk = SimDisk::new(&sim);
        run(&sim, {
            let disk = disk.clone();
            async move {
                drop(file(&disk, Path::new("/d/old")).await);
                disk.rename(Path::new("/d/old"), Path::new("/d/new")).await.expect("renamed");
            }
        });
        disk.crash();
        let names: Vec<_> = disk.files().into_iter().map(|(path, _)| path).collect();
        assert_eq!(names.len(), 1);
        found[usize::from(names[0] == Path::new("/d/new"))] += 1;
    }
    assert!(found[0] > 0 && found[1] > 0, "{found:?}");
}

#[test]
fn faults_hit_the_write_they_are_meant_for() {
    let sim = Sim::new(1);
    let disk = SimDisk::new(&sim);
    run(&sim, async move {
        let file = file(&disk, Path::new("/d/f")).await;
        disk.fail_write(1, WriteFault::Errno(libc::EIO));
        disk.fail_write(0, WriteFault::Short(UNIT));
        assert_eq!(file.write_at(vec![3; 2 * UNIT], 0).await.expect("written"), 2 * UNIT);
        let failed = file.write_at(vec![3; UNIT], 0).await.expect_err("the second fails");
        assert_eq!(failed.raw_os_error(), Some(libc::EIO));
        assert_eq!(file.write_at(vec![4; 2 * UNIT], 0).await.expect("written"), UNIT);

        disk.set_free_bytes(Some(UNIT as u64));
        file.write_at(vec![5; UNIT], 8 * UNIT as u64).await.expect("the last free sector");
        let full = file.write_at(vec![5; UNIT], 9 * UNIT as u64).await.expect_err("full");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        file.write_at(vec![6; UNIT], 0).await.expect("overwriting needs no space");

        disk.set_read_only(true);
        let refused = file.write_at(vec![6; UNIT], 0).await.expect_err("read-only");
        assert_eq!(refused.kind(), io::ErrorKind::ReadOnlyFilesystem);

        assert!(disk.corrupt(Path::new("/d/f"), 3, 0x80));
        assert_eq!(file.read_at(0, UNIT).await.expect("readable")[3], 6 ^ 0x80);

        let held = disk.lock(Path::new("/d/f")).await.expect("free");
        assert!(disk.lock(Path::new("/d/f")).await.is_err());
        disk.crash();
        drop(held);
        assert!(file.read_at(0, UNIT).await.is_err(), "open files end with a crash");
        disk.lock(Path::new("/d/f")).await.expect("the crash freed it");
    });
}

#[test]
fn a_truncation_is_undone_by_a_crash_unless_it_was_synced() {
    let mut found = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let (synced, grown) = (seed % 2 == 0, seed % 4 > 1);
        let sim = Sim::new(seed);
        let disk = SimDisk::new(&sim);
        let path = PathBuf::from("/d/f");
        run(&sim, {
            let (disk, path) = (disk.clone(), path.clone());
            async move {
                let file = file(&disk, &path).await;
                file.truncate(2 * UNIT as u64).await.expect("cut");
                if grown {
                    file.allocate(4 * UNIT as u64).await.expect("grown");
                }
                if synced {
                    file.sync().await.expect("synced");
                }
            }
        });
        disk.crash();
        let read = run(&sim, async move { disk.read_small(&path).await.expect("there") });
        assert_eq!(read[..2 * UNIT], vec![1; 2 * UNIT], "what stays is never touched");
        if synced {
            assert!(read[2 * UNIT..].iter().all(|byte| *byte == 0), "old bytes are back");
        }
        found.insert((synced, grown, read.len() / UNIT));
    }
    for expected in
        [(true, false, 2), (true, true, 4), (false, false, 2), (false, false, 8), (false, true, 8)]
    {
        assert!(found.contains(&expected), "{expected:?} in {found:?}");
    }
    assert!(!found.contains(&(true, false, 8)) && !found.contains(&(true, true, 8)));
}

#[test]
fn a_misdirected_write_is_elsewhere_or_nowhere_and_said_to_be_done() {
    for further in [2, 100] {
        let sim = Sim::new(1);
        let disk = SimDisk::new(&sim);
        let path = PathBuf::from("/d/f");
        let content = run(&sim, {
            let (disk, path) = (disk.clone(), path.clone());
            async move {
                let file = file(&disk, &path).await;
                disk.fail_write(0, WriteFault::Misdirected(further * UNIT as u64));
                assert_eq!(file.write_at(vec![2; UNIT], 0).await.expect("said to be done"), UNIT);
                disk.crash();
                disk.read_small(&path).await.expect("it is there")
            }
        });
        let written: Vec<_> = (0..8).filter(|sector| content[sector * UNIT] == 2).collect();
        assert_eq!(written, if further == 2 { vec![2] } else { vec![] });
    }
}

#[test]
fn a_hanging_disk_ends_nothing_until_it_goes_on() {
    let sim = Sim::new(1);
    let disk = SimDisk::new(&sim);
    disk.set_hanging(true);
    let done = Rc::new(RefCell::new(false));
    let (making, told) = (disk.clone(), done.clone());
    sim.spawn(MemberId(1), async move {
        making.create_dir(Path::new("/d")).await.expect("made");
        *told.borrow_mut() = true;
    });
    assert!(!sim.run_until(10_000, || *done.borrow()));
    disk.set_hanging(false);
    assert!(sim.run_until(10_000, || *done.borrow()));
}
