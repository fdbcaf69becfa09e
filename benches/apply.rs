//! The whole evaluation of a request, as a committed entry brings it: decode, apply, response.
//!
//! Times are the thread's CPU time. `PINION_BENCH_KEYS` (comma separated) replaces the numbers of keys.

#[path = "clock/cpu.rs"]
mod clock;

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use clock::CpuTime;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use pinion::{
    pb::etcdserverpb as pb,
    state::{Command, Context, Error, Outcome, Principal, StateMachine},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn sizes() -> Vec<u64> {
    match std::env::var("PINION_BENCH_KEYS") {
        Ok(sizes) => sizes.split(',').map(|size| size.parse().expect("a number of keys")).collect(),
        Err(_) => vec![10_000, 1_000_000],
    }
}

fn key(number: u64) -> Bytes {
    format!("/registry/pods/default/{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into()
}

fn put(number: u64) -> pb::PutRequest {
    pb::PutRequest { key: key(number), value: Bytes::from_static(&[b'v'; 256]), ..pb::PutRequest::default() }
}

/// Evaluates a command as an entry has it.
fn apply_logged<C: Command>(state: &mut StateMachine, body: Bytes) -> Result<C::Answer, Error> {
    apply(state, &C::decode(body).expect("just encoded"))
}

fn apply<C: Command>(state: &mut StateMachine, command: &C) -> Result<C::Answer, Error> {
    let principal = Principal::default();
    let mut outcome = Outcome::default();
    state.apply(command, Context::asked_by(&principal), &mut outcome)
}

fn encoded(command: &impl Command) -> Bytes {
    command.encode_to_vec().into()
}

/// What an apiserver sends for an update: put if the key has not changed, else read it.
fn update(number: u64, mod_revision: i64) -> pb::TxnRequest {
    use pb::{compare::TargetUnion, request_op::Request as Op};
    let range = pb::RangeRequest { key: key(number), ..pb::RangeRequest::default() };
    pb::TxnRequest {
        compare: vec![pb::Compare {
            target: pb::compare::CompareTarget::Mod as i32,
            key: key(number),
            target_union: Some(TargetUnion::ModRevision(mod_revision)),
            ..pb::Compare::default()
        }],
        success: vec![pb::RequestOp { request: Some(Op::RequestPut(put(number))) }],
        failure: vec![pb::RequestOp { request: Some(Op::RequestRange(range)) }],
    }
}

fn by_size(criterion: &mut Criterion<CpuTime>) {
    for keys in sizes() {
        let mut state = StateMachine::new();
        for number in 0..keys {
            apply(&mut state, &put(number)).expect("a put succeeds");
        }
        let mut next = 0u64;
        let mut pick = move || {
            next = next.wrapping_add(0x9e37_79b9_7f4a_7c15);
            ((u128::from(next) * u128::from(keys)) >> 64) as u64
        };
        criterion.bench_function(&format!("put/{keys}"), |bencher| {
            let setup = || encoded(&put(pick()));
            let run = |body| apply_logged::<pb::PutRequest>(&mut state, body);
            bencher.iter_batched(setup, run, BatchSize::SmallInput);
        });
        // What of it is left if the command need not be decoded.
        criterion.bench_function(&format!("put_decoded/{keys}"), |bencher| {
            let setup = || put(pick());
            bencher.iter_batched(setup, |put| apply(&mut state, &put), BatchSize::SmallInput);
        });
        criterion.bench_function(&format!("txn_update/{keys}"), |bencher| {
            let setup = || encoded(&update(pick(), 1));
            let run = |body| apply_logged::<pb::TxnRequest>(&mut state, body);
            bencher.iter_batched(setup, run, BatchSize::SmallInput);
        });
        criterion.bench_function(&format!("get/{keys}"), |bencher| {
            let setup = || pb::RangeRequest { key: key(pick()), ..pb::RangeRequest::default() };
            bencher.iter_batched(setup, |request| black_box(state.range(&request)), BatchSize::SmallInput);
        });
        criterion.bench_function(&format!("list_500_with_count/{keys}"), |bencher| {
            let list = pb::RangeRequest {
                key: Bytes::from_static(b"/registry/pods/"),
                range_end: Bytes::from_static(b"/registry/pods0"),
                limit: 500,
                ..pb::RangeRequest::default()
            };
            bencher.iter(|| black_box(state.range(&list)));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime::new()).sample_size(10)
        .warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = by_size
}
criterion_main!(benches);
