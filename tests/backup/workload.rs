//! Histories: one that a real etcd is asked for, and one made up.

use bench_harness::pb::etcdserverpb::{DeleteRangeRequest, PutRequest, request_op::Request};
use pinion::pb::etcdserverpb::Member;

use super::{file::Owned, upstream::Etcd};

/// The first has no keys. They outlive the test.
const LEASES: [i64; 6] = [1, i64::MAX, -7, 7, 0x1234_5678_9abc, i64::MIN];

pub struct End {
    pub revision: i64,
    pub compacted: i64,
}

/// Puts small and large, deletes, transactions, leases, a compaction, and all that again behind it.
pub fn run(etcd: &Etcd) -> End {
    let mut compacted = 0;
    for id in LEASES {
        etcd.grant(id, 3_600 + id.rem_euclid(100));
    }
    for half in 0..2 {
        for n in 0..60u64 {
            let value = vec![n as u8; [0, 3, 300, 9_000][n as usize % 4]];
            etcd.put(&format!("k{:02}", n * 7 % 25), value);
            if n % 9 == 0 {
                etcd.txn(vec![
                    put(&format!("t{n}"), "x"),
                    put(&format!("u{half}"), "y"),
                    delete(&format!("k{:02}", n % 25)),
                ]);
            }
        }
        for (n, id) in LEASES.into_iter().enumerate().skip(1) {
            for key in 0..3 {
                etcd.put_with_lease(&format!("l{half}/{key}/{n}"), id);
            }
            // One leaves its lease, one is deleted.
            etcd.put(&format!("l{half}/0/{n}"), "free");
            etcd.txn(vec![delete(&format!("l{half}/1/{n}"))]);
        }
        etcd.revoke(if half == 0 { LEASES[3] } else { LEASES[4] });
        etcd.grant(LEASES[3 + half], 5_000);
        if half == 0 {
            // A tombstone at the compacted revision itself, and one before.
            etcd.txn(vec![delete("k01")]);
            etcd.txn(vec![delete("k02")]);
            compacted = etcd.revision();
            etcd.compact(compacted);
        }
    }
    etcd.txn(vec![delete("k03")]);
    End { revision: etcd.revision(), compacted }
}

fn put(key: &str, value: &str) -> Request {
    let (key, value) = (key.as_bytes().to_vec().into(), value.as_bytes().to_vec().into());
    Request::RequestPut(PutRequest { key, value, ..Default::default() })
}

fn delete(key: &str) -> Request {
    Request::RequestDeleteRange(DeleteRangeRequest {
        key: key.as_bytes().to_vec().into(),
        ..Default::default()
    })
}

/// The versions of a history of so many transactions over 999 keys; every 37th is a delete, every 11th holds two puts,
/// one value takes a megabyte.
pub fn generated(txns: i64) -> Vec<Owned> {
    const KEYS: i64 = 999;
    let mut alive: Vec<Option<(i64, i64)>> = vec![None; KEYS as usize];
    let mut versions = Vec::new();
    for n in 0..txns {
        let main = n + 2;
        let mut sub = 0;
        let mut put = |number: i64, sub: i64, alive: &mut Vec<Option<(i64, i64)>>| {
            let (create, version) =
                alive[number as usize].map_or((main, 1), |(create, version)| (create, version + 1));
            alive[number as usize] = Some((create, version));
            let len =
                if n == txns / 2 { 1 << 20 } else { n as usize % 90 + if n % 500 == 0 { 5_000 } else { 0 } };
            let (key, value) = (format!("key{number:04}").into_bytes(), vec![n as u8; len]);
            versions.push(Owned { main, sub, create, version, lease: 0, tombstone: false, key, value });
        };
        put(n * 31 % KEYS, sub, &mut alive);
        if n % 11 == 0 {
            sub += 1;
            put((n * 31 + 1) % KEYS, sub, &mut alive);
        }
        let doomed = (n * 17 + 500) % KEYS;
        let is_put = doomed == n * 31 % KEYS || doomed == (n * 31 + 1) % KEYS;
        if n % 37 == 0 && !is_put && alive[doomed as usize].take().is_some() {
            let key = format!("key{doomed:04}").into_bytes();
            versions.push(Owned { main, sub: sub + 1, tombstone: true, key, ..Owned::default() });
        }
    }
    versions
}

pub fn members(count: u64) -> Vec<Member> {
    (1..=count)
        .map(|id| Member {
            id,
            peer_ur_ls: vec![format!("http://10.0.0.{id}:2380")],
            is_learner: false,
            name: format!("m{id}"),
            client_ur_ls: vec![format!("http://10.0.0.{id}:2379")],
        })
        .collect()
}
