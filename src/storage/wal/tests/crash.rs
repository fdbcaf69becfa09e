//! Random appends and crashes at any step on a simulated disk: what was acknowledged is there, nothing
//! is invented, the order is kept. A seed replays one run.

use std::{
    cell::{Cell, RefCell},
    path::{Path, PathBuf},
    rc::Rc,
};

use super::super::*;
use crate::env::sim::{Rng, Sim, SimEnv, disk::SimDisk};

const DIR: &str = "/data/member/shard-0/wal";
const MEMBER: MemberId = MemberId(1);
const STEPS_MAX: u64 = 1_000_000;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    Entry(u64, Vec<u8>),
    HardState(u64),
}

impl Sent {
    fn record(&self) -> Record<'_> {
        match self {
            Self::Entry(index, data) => {
                Record::Entry { term: Term(1), index: LogIndex(*index), kind: 0, data }
            }
            Self::HardState(commit) => {
                Record::HardState { term: Term(1), vote: MEMBER, commit: LogIndex(*commit) }
            }
        }
    }
}

/// What the shard would know, kept across crashes.
#[derive(Default)]
struct Model {
    /// In order of appending; what a crash lost is taken out again.
    sent: RefCell<Vec<Sent>>,
    /// How many of them are durable.
    acknowledged: Cell<usize>,
    /// What is remembered elsewhere of the log's length.
    batches: Cell<u64>,
}

fn options(unit: u32, batches: u64) -> WalOptions {
    WalOptions {
        known: Known { batches, ..Known::default() },
        segment_bytes: SEGMENT_BYTES_MIN,
        sector_bytes: Some(unit),
        ..WalOptions::new(PathBuf::from(DIR), ShardId(0))
    }
}

/// Opens the log and holds what it replays against the model.
async fn open(env: &SimEnv, unit: u32, model: &Model) -> Result<(Wal<SimEnv>, Recovery), WalError> {
    let mut entries = Vec::new();
    let mut commit = None;
    let (wal, recovery) = Wal::open(env.clone(), options(unit, model.batches.get()), |record| {
        match record {
            Record::Entry { index, data, .. } => entries.push(Sent::Entry(index.0, data.to_vec())),
            Record::HardState { commit: index, .. } => commit = Some(index.0),
            Record::Baseline { .. } => panic!("none was written"),
        }
        Ok(())
    })
    .await?;
    let mut sent = model.sent.borrow_mut();
    let is_entry = |sent: &&Sent| matches!(sent, Sent::Entry(..));
    let expected: Vec<&Sent> = sent.iter().filter(is_entry).collect();
    let acknowledged = sent[..model.acknowledged.get()].iter().filter(is_entry).count();
    assert!(entries.len() >= acknowledged, "{} of {acknowledged} acknowledged entries", entries.len());
    assert!(entries.len() <= expected.len(), "entries were invented");
    assert!(entries.iter().zip(&expected).all(|(found, expected)| found == *expected), "entries changed");
    // Batches survive whole, so the cut is where the entries and the hard state say.
    let cut = (model.acknowledged.get()..=sent.len())
        .find(|cut| {
            let kept = &sent[..*cut];
            let last = kept.iter().rev().find_map(|s| match s {
                Sent::HardState(commit) => Some(*commit),
                Sent::Entry(..) => None,
            });
            kept.iter().filter(is_entry).count() == entries.len() && last == commit
        })
        .expect("the hard state is the one of the last batch");
    sent.truncate(cut);
    model.acknowledged.set(cut);
    Ok((wal, recovery))
}

/// Appends forever, a few records per write.
async fn serve(env: SimEnv, unit: u32, seed: u64, model: Rc<Model>) {
    let mut rng = Rng::new(seed);
    let (mut wal, _) = open(&env, unit, &model).await.expect("a crash never makes the log unreadable");
    model.batches.set(wal.durable_batches());
    loop {
        let before = model.sent.borrow().len();
        for _ in 0..=rng.below(3) {
            let index = model.sent.borrow().len() as u64 + 1;
            let record = if rng.chance(250) {
                Sent::HardState(index)
            } else {
                let bytes = if rng.chance(200) { rng.below(120_000) } else { rng.below(2_000) };
                Sent::Entry(index, rng.next_u64().to_le_bytes().repeat(bytes as usize / 8))
            };
            if record.record().encoded_bytes() > wal.room() {
                break;
            }
            wal.append(record.record());
            model.sent.borrow_mut().push(record);
        }
        let Some(write) = wal.submit() else {
            assert_eq!(model.sent.borrow().len(), before);
            continue;
        };
        let written = write.await.expect("the disk works");
        wal.written(written);
        model.acknowledged.set(model.sent.borrow().len());
        model.batches.set(wal.durable_batches());
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

/// A log of several segments, closed in order.
fn filled(sim: &Sim, env: &SimEnv, seed: u64, records: usize) -> Rc<Model> {
    let model = Rc::new(Model::default());
    sim.spawn(MEMBER, serve(env.clone(), 512, seed, model.clone()));
    assert!(sim.run_until(STEPS_MAX, || model.acknowledged.get() >= records));
    sim.crash(MEMBER);
    env.disk().crash();
    let (env, kept) = (env.clone(), model.clone());
    run(sim, async move {
        let (wal, _) = open(&env, 512, &kept).await.expect("the log opens");
        wal.close().await.expect("the log closes");
    });
    model
}

#[test]
fn what_was_acknowledged_survives_a_crash_at_any_step() {
    for seed in 0..12 {
        let sim = Sim::new(seed);
        let disk = SimDisk::new(&sim);
        let model = Rc::new(Model::default());
        let unit = [512, 4096][seed as usize % 2];
        for life in 0..12 {
            let env = SimEnv::new(&sim, MEMBER, disk.clone());
            sim.spawn(MEMBER, serve(env, unit, seed << 32 | life, model.clone()));
            let steps = Cell::new(sim.below(600));
            sim.run_until(STEPS_MAX, || {
                steps.set(steps.get().saturating_sub(1));
                steps.get() == 0
            });
            sim.crash(MEMBER);
            disk.crash();
        }
        let env = SimEnv::new(&sim, MEMBER, disk.clone());
        let kept = model.clone();
        run(&sim, async move { open(&env, unit, &kept).await.map(drop).expect("the log opens") });
        assert!(model.acknowledged.get() > 20, "seed {seed} got {} records", model.acknowledged.get());
    }
}

#[test]
fn no_flipped_bit_makes_an_acknowledged_record_vanish() {
    let sim = Sim::new(77);
    let disk = SimDisk::new(&sim);
    let env = SimEnv::new(&sim, MEMBER, disk.clone());
    let model = filled(&sim, &env, 5, 300);
    let segments: Vec<(PathBuf, u64)> = disk.files();
    assert!(segments.len() > 3, "{segments:?}");
    let mut refused = 0;
    for _ in 0..60 {
        let (path, size) = &segments[sim.below(segments.len() as u64) as usize];
        let (offset, flip) = (sim.below(*size), 1 << sim.below(8));
        assert!(disk.corrupt(path, offset, flip));
        let (env, kept) = (env.clone(), model.clone());
        let before = model.acknowledged.get();
        let opened = run(&sim, async move {
            match open(&env, 512, &kept).await {
                Ok((wal, _)) => {
                    wal.close().await.expect("the log closes");
                    Ok(())
                }
                Err(error) => Err(error),
            }
        });
        match opened {
            Ok(()) => assert_eq!(model.acknowledged.get(), before, "{path:?} {offset} {flip:#x}"),
            Err(WalError::Corrupt { path: named, .. } | WalError::Version { path: named, .. }) => {
                assert_eq!(&named, path);
                refused += 1;
            }
            Err(other) => panic!("{path:?} {offset} {flip:#x}: {other}"),
        }
        disk.corrupt(path, offset, flip);
    }
    assert!(refused > 30, "only {refused} of 60 flips hit the log");
}

#[test]
fn a_missing_or_foreign_segment_is_refused() {
    let sim = Sim::new(3);
    let disk = SimDisk::new(&sim);
    let env = SimEnv::new(&sim, MEMBER, disk.clone());
    let model = filled(&sim, &env, 9, 200);
    let second = Path::new(DIR).join("0000000000000002.wal");
    let reopen =
        |env: SimEnv, kept: Rc<Model>| run(&sim, async move { open(&env, 512, &kept).await.map(drop) });
    let third = Path::new(DIR).join("0000000000000003.wal");
    let aside = Path::new(DIR).join("aside");
    run(&sim, {
        let (disk, second, aside) = (disk.clone(), second.clone(), aside.clone());
        async move { disk.rename(&second, &aside).await.expect("renamed") }
    });
    let error = reopen(env.clone(), model.clone()).expect_err("a foreign file");
    assert!(matches!(error, WalError::Options(_)), "{error}");
    run(&sim, {
        let (disk, second, third) = (disk.clone(), second.clone(), third.clone());
        async move {
            disk.rename(&third, &second).await.expect("renamed");
            disk.rename(&aside, &third).await.expect("renamed");
        }
    });
    let error = reopen(env.clone(), model.clone()).expect_err("swapped segments");
    assert!(matches!(&error, WalError::Corrupt { path, .. } if *path == second), "{error}");
    run(&sim, {
        let (disk, second) = (disk.clone(), second.clone());
        async move { disk.remove(&second).await.expect("removed") }
    });
    let error = reopen(env, model).expect_err("a hole");
    assert!(matches!(&error, WalError::Corrupt { path, .. } if *path == second), "{error}");
}
