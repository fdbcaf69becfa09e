//! The log cut behind a checkpoint: crashes at any step, files that come back as others, bounds.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use super::super::*;
use crate::env::sim::{
    Rng, Sim, SimEnv,
    disk::{SimDisk, WriteFault},
};

const DIR: &str = "/data/wal";
const MEMBER: MemberId = MemberId(1);
const STEPS_MAX: u64 = 2_000_000;
const SEGMENT_BYTES: u64 = SEGMENT_BYTES_MIN;

fn options() -> WalOptions {
    WalOptions {
        segment_bytes: SEGMENT_BYTES,
        sector_bytes: Some(512),
        ..WalOptions::new(PathBuf::from(DIR), ShardId(0))
    }
}

/// What the shard would know of its log, kept across crashes.
#[derive(Default)]
struct Model {
    /// Index and mark of every entry, in order of appending. What an opening did not show is taken out.
    sent: RefCell<Vec<(u64, u64)>>,
    /// How many of them are durable.
    acknowledged: Cell<usize>,
    /// Commit of the last durable hard state, and of one that may be durable.
    commit: Cell<u64>,
    commit_sent: Cell<u64>,
    keep_from: Cell<u64>,
    marks: Cell<u64>,
    cuts: Cell<u64>,
}

impl Model {
    fn last(&self) -> u64 {
        self.sent.borrow().last().map_or(self.commit_sent.get(), |(index, _)| *index)
    }
}

/// Data that tells one entry from every other.
fn data(mark: u64, bytes: usize) -> Vec<u8> {
    mark.to_le_bytes().repeat(bytes / 8 + 1)
}

/// Opens the log and holds what it replays against the model.
async fn open(env: &SimEnv, model: &Model) -> Result<Wal<SimEnv>, WalError> {
    let mut found: Vec<(u64, u64)> = Vec::new();
    let (mut commit, mut hard_state_first) = (None, None);
    let (wal, _) = Wal::open(env.clone(), options(), |record| {
        match record {
            Record::Entry { index, data, .. } => {
                let mark = *data.first_chunk().expect("every entry has a mark");
                assert!(data.chunks(8).all(|chunk| chunk == mark), "an entry is of one piece");
                found.push((index.0, u64::from_le_bytes(mark)));
                hard_state_first.get_or_insert(commit.is_some());
            }
            Record::HardState { commit: index, .. } => commit = Some(index.0),
            Record::Baseline { .. } => panic!("none was written"),
        }
        Ok(())
    })
    .await?;
    let mut sent = model.sent.borrow_mut();
    let acknowledged = model.acknowledged.get();
    let needed = sent[..acknowledged].iter().position(|(index, _)| *index >= model.keep_from.get());
    let start = match found.first() {
        Some(first) => sent.iter().position(|entry| entry == first).expect("nothing is invented or back"),
        None => acknowledged,
    };
    assert!(needed.is_none_or(|needed| start <= needed), "starts at {start}, {needed:?} is needed");
    let end = start + found.len();
    assert!(end <= sent.len() && found == sent[start..end], "entries changed");
    assert!(end >= acknowledged, "entries {end} to {acknowledged} were acknowledged and are gone");
    if start > 0 {
        assert_eq!(hard_state_first, Some(true).filter(|_| !found.is_empty()), "the hard state is repeated");
    }
    let commit = commit.unwrap_or(0);
    assert!(commit == model.commit.get() || commit == model.commit_sent.get(), "commit {commit}");
    // What is gone or was never there must not come later either.
    *sent = found;
    model.acknowledged.set(sent.len());
    model.commit.set(commit);
    model.commit_sent.set(commit);
    Ok(wal)
}

/// Segments that a restart would read.
fn segments(wal: &Wal<SimEnv>) -> usize {
    wal.older.len() + 1
}

fn on_disk(disk: &SimDisk) -> u64 {
    disk.files().iter().map(|(_, bytes)| bytes).sum()
}

/// One write: entries of all sizes, replaced tails, commits. `large` fills segments quickly.
async fn append(wal: &mut Wal<SimEnv>, model: &Model, rng: &mut Rng, large: u64) {
    for _ in 0..=rng.below(3) {
        if rng.chance(300) {
            let last = model.last();
            let commit = model.commit_sent.get() + rng.below(last - model.commit_sent.get() + 1);
            let record = Record::HardState { term: Term(1), vote: MEMBER, commit: LogIndex(commit) };
            if record.encoded_bytes() > wal.room() {
                break;
            }
            wal.append(record);
            model.commit_sent.set(commit);
            continue;
        }
        let (last, commit) = (model.last(), model.commit_sent.get());
        let back = if rng.chance(100) { rng.below(last - commit + 1) } else { 0 };
        let mark = model.marks.get() + 1;
        let bytes = if rng.chance(large) { 50_000 + rng.below(150_000) } else { rng.below(2_000) };
        let data = data(mark, bytes as usize);
        let index = last - back + 1;
        let record = Record::Entry { term: Term(1), index: LogIndex(index), kind: 0, data: &data };
        if record.encoded_bytes() > wal.room() {
            break;
        }
        wal.append(record);
        model.marks.set(mark);
        model.sent.borrow_mut().push((index, mark));
    }
    let (sent, commit) = (model.sent.borrow().len(), model.commit_sent.get());
    let Some(write) = wal.submit() else { return };
    let written = write.await.expect("the disk works");
    wal.written(written);
    model.acknowledged.set(sent);
    model.commit.set(commit);
}

fn cut(wal: &mut Wal<SimEnv>, model: &Model, keep: u64) {
    let keep_from = model.commit.get().saturating_sub(keep) + 1;
    model.keep_from.set(model.keep_from.get().max(keep_from));
    model.cuts.set(model.cuts.get() + 1);
    wal.cut(LogIndex(keep_from));
}

async fn serve(env: SimEnv, seed: u64, model: Rc<Model>) {
    let mut rng = Rng::new(seed);
    let mut wal = open(&env, &model).await.expect("a crash never makes the log unreadable");
    loop {
        append(&mut wal, &model, &mut rng, 400).await;
        if rng.chance(150) {
            cut(&mut wal, &model, rng.below(20));
        }
    }
}

fn run<T: 'static>(sim: &Sim, task: impl Future<Output = T> + 'static) -> T {
    let result = Rc::new(RefCell::new(None));
    let slot = result.clone();
    sim.spawn(MEMBER, async move {
        let value = task.await;
        *slot.borrow_mut() = Some(value);
    });
    assert!(sim.run_until(STEPS_MAX, || result.borrow().is_some()), "the task ends");
    let value = result.borrow_mut().take();
    value.expect("the task ended")
}

/// Runs a member for so many steps and pulls the plug.
fn live(sim: &Sim, disk: &SimDisk, seed: u64, steps: u64, model: &Rc<Model>) {
    let env = SimEnv::new(sim, MEMBER, disk.clone());
    sim.spawn(MEMBER, serve(env, seed, model.clone()));
    let left = Cell::new(steps);
    sim.run_until(STEPS_MAX, || {
        left.set(left.get().saturating_sub(1));
        left.get() == 0
    });
    sim.crash(MEMBER);
    disk.crash();
}

#[test]
fn nothing_that_is_needed_is_lost_and_nothing_cut_comes_back_by_a_crash_at_any_step() {
    let (mut cuts, mut sequences) = (0, 0);
    for seed in 0..24 {
        let sim = Sim::new(seed);
        let disk = SimDisk::new(&sim);
        let model = Rc::new(Model::default());
        for life in 0..12 {
            live(&sim, &disk, seed << 32 | life, sim.below(900), &model);
        }
        let env = SimEnv::new(&sim, MEMBER, disk.clone());
        let kept = model.clone();
        sequences += run(&sim, async move {
            let wal = open(&env, &kept).await.expect("the log opens");
            let sequence = wal.current.header.sequence;
            wal.close().await.expect("the log closes");
            sequence
        });
        cuts += model.cuts.get();
    }
    assert!(cuts > 500 && sequences > 24 * 10, "{cuts} cuts, {sequences} segments");
}

#[test]
fn a_crash_anywhere_in_a_cut_leaves_a_log_that_opens() {
    let mut outcomes = BTreeMap::<usize, u32>::new();
    for steps in (0..400).step_by(5) {
        let sim = Sim::new(7);
        let disk = SimDisk::new(&sim);
        let model = Rc::new(Model::default());
        let env = SimEnv::new(&sim, MEMBER, disk.clone());
        let cut_made = Rc::new(Cell::new(false));
        sim.spawn(MEMBER, {
            let (model, cut_made) = (model.clone(), cut_made.clone());
            async move {
                let mut rng = Rng::new(3);
                let mut wal = open(&env, &model).await.expect("a new log");
                while segments(&wal) < 6 {
                    append(&mut wal, &model, &mut rng, 900).await;
                }
                cut(&mut wal, &model, 5);
                cut_made.set(true);
                loop {
                    append(&mut wal, &model, &mut rng, 900).await;
                }
            }
        });
        assert!(sim.run_until(STEPS_MAX, || cut_made.get()));
        for _ in 0..steps {
            sim.step();
        }
        sim.crash(MEMBER);
        // The disk's own choices differ from step to step too.
        for _ in 0..steps {
            sim.below(2);
        }
        disk.crash();
        let env = SimEnv::new(&sim, MEMBER, disk.clone());
        let found = run(&sim, async move {
            let mut wal = open(&env, &model).await.expect("the log opens");
            let found = segments(&wal);
            append(&mut wal, &model, &mut Rng::new(4), 900).await;
            cut(&mut wal, &model, 5);
            wal.close().await.expect("the log closes");
            open(&env, &model).await.map(drop).expect("the log opens again");
            found
        });
        *outcomes.entry(found).or_default() += 1;
    }
    assert!(outcomes.len() > 3, "crashes met few states: {outcomes:?}");
}

#[test]
fn files_and_bytes_stay_bounded_over_thousands_of_cuts() {
    let sim = Sim::new(11);
    let disk = SimDisk::new(&sim);
    let env = SimEnv::new(&sim, MEMBER, disk.clone());
    let model = Rc::new(Model::default());
    run(&sim, async move {
        let mut rng = Rng::new(5);
        let mut wal = open(&env, &model).await.expect("a new log");
        let (mut files_max, mut filled) = (0, 0);
        while model.cuts.get() < 2_000 {
            append(&mut wal, &model, &mut rng, 400).await;
            let commit = Record::HardState { term: Term(1), vote: MEMBER, commit: LogIndex(model.last()) };
            wal.append(commit);
            model.commit_sent.set(model.last());
            append(&mut wal, &model, &mut rng, 0).await;
            // Entries nobody needs any more are of no use to the model either.
            model.sent.borrow_mut().retain(|(index, _)| *index >= model.keep_from.get());
            model.acknowledged.set(model.sent.borrow().len());
            cut(&mut wal, &model, 3);
            env.sleep(Duration::from_millis(20)).await;
            let files = disk.files();
            files_max = files_max.max(files.len());
            filled += files.iter().filter(|(_, bytes)| *bytes < SEGMENT_BYTES).count();
            assert!(segments(&wal) <= 3, "{files:?}");
            assert!(on_disk(&disk) <= 7 * SEGMENT_BYTES, "{files:?}");
        }
        let sequence = wal.current.header.sequence;
        assert!(sequence > 100, "only {sequence} segments");
        assert!(files_max <= 3 + 1 + limits::WAL_SPARE_SEGMENTS + 1, "{files_max} files at a time");
        assert!(filled < 20, "{filled} times a file was being filled: segments are not used again");
        let appended = wal.appended_bytes();
        assert!(appended > 90 * SEGMENT_BYTES, "{appended} bytes");
        env.sleep(Duration::from_secs(1)).await;
        let at_rest = segments(&wal) + 1 + limits::WAL_SPARE_SEGMENTS;
        assert!(on_disk(&disk) <= at_rest as u64 * SEGMENT_BYTES, "{:?}", disk.files());
        wal.close().await.expect("the log closes");
    });
}

#[test]
fn what_is_not_spared_is_truncated_in_steps_and_then_removed() {
    let sim = Sim::new(2);
    let disk = SimDisk::new(&sim);
    let env = SimEnv::new(&sim, MEMBER, disk.clone());
    let large = WalOptions { segment_bytes: 12 << 20, ..options() };
    run(&sim, async move {
        let (mut wal, _) = Wal::open(env.clone(), large, |_| Ok(())).await.expect("a new log");
        let mut index = 0;
        while segments(&wal) < 6 {
            index += 1;
            let data = vec![1; 2 << 20];
            wal.append(Record::Entry { term: Term(1), index: LogIndex(index), kind: 0, data: &data });
            let written = wal.submit().expect("pending").await.expect("written");
            wal.written(written);
        }
        env.sleep(Duration::from_secs(2)).await;
        wal.cut(LogIndex(index));
        let mut sizes = std::collections::BTreeSet::new();
        for _ in 0..1_000 {
            env.sleep(Duration::from_millis(1)).await;
            sizes.extend(disk.files().into_iter().map(|(_, bytes)| bytes >> 20));
        }
        assert!(sizes.into_iter().eq((0..=12).step_by(2)), "it shrinks by two MiB at a time");
        let names: Vec<_> = disk.files().into_iter().map(|(path, _)| path).collect();
        let expected =
            ["0000000000000001.new", "0000000000000002.new", "0000000000000006.wal", "0000000000000007.wal"]
                .map(|name| PathBuf::from(DIR).join(name));
        assert_eq!(names, expected);
        wal.close().await.expect("the log closes");
    });
}

#[test]
fn a_spare_that_cannot_be_written_is_replaced_by_a_new_file() {
    for (seed, fault) in [(1, WriteFault::Errno(libc::EIO)), (2, WriteFault::Short(0))] {
        let sim = Sim::new(seed);
        let disk = SimDisk::new(&sim);
        let env = SimEnv::new(&sim, MEMBER, disk.clone());
        let model = Rc::new(Model::default());
        run(&sim, async move {
            let mut rng = Rng::new(5);
            let mut wal = open(&env, &model).await.expect("a new log");
            while segments(&wal) < 4 {
                append(&mut wal, &model, &mut rng, 900).await;
            }
            env.sleep(Duration::from_secs(2)).await;
            wal.append(Record::HardState { term: Term(1), vote: MEMBER, commit: LogIndex(model.last()) });
            model.commit_sent.set(model.last());
            append(&mut wal, &model, &mut rng, 0).await;
            cut(&mut wal, &model, 0);
            env.sleep(Duration::from_secs(1)).await;
            let before = wal.current.header.sequence;
            // The write that opens the next segment comes first, then the spare's header.
            while wal.current.header.sequence == before {
                append(&mut wal, &model, &mut rng, 900).await;
            }
            disk.fail_write(0, fault);
            env.sleep(Duration::from_secs(2)).await;
            while segments(&wal) < 4 {
                append(&mut wal, &model, &mut rng, 900).await;
            }
            env.sleep(Duration::from_secs(2)).await;
            assert_eq!(disk.files().len(), segments(&wal) + 1, "the useless file is gone");
            wal.close().await.expect("the log closes");
            open(&env, &model).await.map(drop).expect("the log opens");
        });
    }
}

#[test]
fn no_flipped_bit_of_a_cut_log_makes_a_record_vanish_and_old_content_does_not_matter() {
    let sim = Sim::new(21);
    let disk = SimDisk::new(&sim);
    let model = Rc::new(Model::default());
    let env = SimEnv::new(&sim, MEMBER, disk.clone());
    run(&sim, {
        let (env, model) = (env.clone(), model.clone());
        async move {
            let mut rng = Rng::new(8);
            let mut wal = open(&env, &model).await.expect("a new log");
            while wal.current.header.sequence < 12 || segments(&wal) < 3 {
                append(&mut wal, &model, &mut rng, 700).await;
                cut(&mut wal, &model, 25);
            }
            wal.close().await.expect("the log closes");
            open(&env, &model).await.expect("the log opens").close().await.expect("the log closes");
        }
    });
    let (mut refused, mut harmless) = (0, 0);
    for _ in 0..80 {
        let files: Vec<_> = disk
            .files()
            .into_iter()
            .filter(|(path, _)| path.extension().is_some_and(|e| e == "wal"))
            .collect();
        let (path, size) = &files[sim.below(files.len() as u64) as usize];
        let (offset, flip) = (sim.below(*size), 1 << sim.below(8));
        assert!(disk.corrupt(path, offset, flip));
        let before = model.sent.borrow().clone();
        let (env, kept) = (env.clone(), model.clone());
        let opened = run(&sim, async move {
            match open(&env, &kept).await {
                Ok(wal) => {
                    wal.close().await.expect("the log closes");
                    Ok(())
                }
                Err(error) => Err(error),
            }
        });
        match opened {
            Ok(()) => {
                assert_eq!(*model.sent.borrow(), before, "{path:?} {offset} {flip:#x}");
                harmless += 1;
            }
            Err(WalError::Corrupt { path: named, .. } | WalError::Version { path: named, .. }) => {
                assert_eq!(&named, path);
                refused += 1;
            }
            Err(other) => panic!("{path:?} {offset} {flip:#x}: {other}"),
        }
        disk.corrupt(path, offset, flip);
    }
    assert!(refused > 10 && harmless > 10, "{refused} refused, {harmless} harmless");
}

#[test]
fn a_log_that_begins_after_a_checkpoint_opens_at_any_time() {
    let sim = Sim::new(4);
    let env = SimEnv::new(&sim, MEMBER, SimDisk::new(&sim));
    run(&sim, async move {
        const CHECKPOINT: u64 = 7_000;
        let open = async |expected: &[u64]| {
            let mut seen = Vec::new();
            let (wal, _) = Wal::open(env.clone(), options(), |record| {
                match record {
                    Record::HardState { commit, .. } => assert_eq!(commit.0, CHECKPOINT),
                    Record::Entry { index, .. } => seen.push(index.0),
                    Record::Baseline { .. } => panic!("none was written"),
                }
                Ok(())
            })
            .await
            .expect("the log opens");
            assert_eq!(seen, expected);
            wal
        };
        let write = async |wal: &mut Wal<SimEnv>, record| {
            wal.append(record);
            let written = wal.submit().expect("pending").await.expect("written");
            wal.written(written);
        };
        // A log that is not closed: what it does in the background has come to its end.
        let leave = async |wal: Wal<SimEnv>| {
            drop(wal);
            env.sleep(Duration::from_secs(60)).await;
        };
        let hard_state = Record::HardState { term: Term(3), vote: MemberId(0), commit: LogIndex(CHECKPOINT) };
        let entry =
            |index| Record::Entry { term: Term(3), index: LogIndex(index), kind: 0, data: b"12345678" };
        let mut wal = open(&[]).await;
        write(&mut wal, hard_state).await;
        leave(wal).await;
        let wal = open(&[]).await;
        wal.close().await.expect("the log closes");
        let mut wal = open(&[]).await;
        write(&mut wal, entry(CHECKPOINT + 1)).await;
        write(&mut wal, entry(CHECKPOINT + 2)).await;
        leave(wal).await;
        let mut wal = open(&[CHECKPOINT + 1, CHECKPOINT + 2]).await;
        write(&mut wal, entry(CHECKPOINT + 2)).await;
        wal.close().await.expect("the log closes");
        open(&[CHECKPOINT + 1, CHECKPOINT + 2, CHECKPOINT + 2]).await;
    });
}

#[test]
#[should_panic(expected = "entry 3 follows entry 1")]
fn a_gap_is_never_written() {
    let sim = Sim::new(4);
    let env = SimEnv::new(&sim, MEMBER, SimDisk::new(&sim));
    run(&sim, async move {
        let (mut wal, _) = Wal::open(env, options(), |_| Ok(())).await.expect("a new log");
        for index in [1, 3] {
            wal.append(Record::Entry { term: Term(1), index: LogIndex(index), kind: 0, data: &[] });
        }
    });
}

#[test]
fn a_replaced_tail_goes_no_earlier_than_what_replaces_it() {
    let entry = |index| Record::Entry { term: Term(1), index: LogIndex(index), kind: 0, data: &[] };
    let commit = |index| Record::HardState { term: Term(1), vote: MEMBER, commit: LogIndex(index) };
    let mut order = Order::default();
    let mut kept: VecDeque<Kept> = VecDeque::new();
    for (sequence, records) in [
        vec![entry(4), entry(5), entry(6), entry(7)],
        vec![entry(5)],
        vec![commit(5)],
        vec![entry(6), entry(3), entry(4)],
        vec![commit(20), entry(21)],
    ]
    .iter()
    .enumerate()
    {
        let mut span = Span::default();
        records.iter().for_each(|record| order.take(record, &mut span).expect("in order"));
        kept.push_back(Kept { sequence: sequence as u64, bytes: 1, end: 1, span });
    }
    assert!(extent::release(&mut kept, LogIndex(7)).is_empty(), "entry 7 would come back");
    let released: Vec<_> = extent::release(&mut kept, LogIndex(8)).iter().map(|kept| kept.sequence).collect();
    assert_eq!(released, [0, 1, 2, 3]);
    assert!(extent::release(&mut kept, LogIndex(21)).is_empty());
}
