//! What is written is read back; what is damaged is refused, or at least harmless.

use proptest::{collection::vec, prelude::*};

use super::*;

type KeyValue = (Vec<u8>, Vec<u8>);

fn write(small: &[Small], large: &str, rows: &[KeyValue]) -> Vec<u8> {
    let mut placer = Placer::new(large.as_bytes(), small.to_vec()).expect("buckets");
    rows.iter().for_each(|(key, value)| placer.row(key, value.len()).expect("a row"));
    let placement = placer.finish();
    let planned = placement.bytes();
    let mut writer = placement.write();
    let mut file = Vec::new();
    for (key, value) in rows {
        writer.row(key, value).expect("a row");
        while let Some(piece) = writer.piece() {
            assert_eq!(piece.len(), PIECE_BYTES);
            file.extend_from_slice(&piece);
        }
    }
    writer.finish().expect("all rows").iter().for_each(|piece| {
        assert!(piece.len() <= PIECE_BYTES);
        file.extend_from_slice(piece);
    });
    assert_eq!(file.len() as u64, planned);
    file
}

fn read(bucket: Bucket<'_>) -> Result<Vec<KeyValue>, Error> {
    bucket.rows().map(|row| row.map(|row| (row.key.to_vec(), row.value.to_vec()))).collect()
}

/// The bucket of that name in a sound file.
fn bucket<'a>(file: &File<'a>, name: &[u8]) -> Option<Bucket<'a>> {
    let mut rows = file.root().rows().map(|row| row.expect("the root is sound"));
    rows.find(|row| row.key == name).and_then(|row| row.bucket)
}

/// Everything a caller may do with a file.
fn exercise(bytes: &[u8]) -> Result<usize, Error> {
    let file = File::open(bytes)?;
    let checked = file.check();
    let mut rows = 0;
    for row in file.root().rows() {
        if let Some(bucket) = row?.bucket {
            rows += read(bucket)?.len();
        }
    }
    checked.map(|()| rows)
}

fn numbered(count: u64, value_bytes: impl Fn(u64) -> usize) -> Vec<KeyValue> {
    let value = |n| (0..value_bytes(n)).map(|at| (n as usize + at) as u8).collect();
    (0..count).map(|n| (n.to_be_bytes().to_vec(), value(n))).collect()
}

fn buckets() -> Vec<Small> {
    vec![
        Small { name: b"lease".to_vec(), rows: Vec::new() },
        Small { name: b"alarm".to_vec(), rows: vec![(b"k".to_vec(), Vec::new())] },
        Small { name: b"users".to_vec(), rows: numbered(300, |n| n as usize) },
    ]
}

#[test]
fn every_depth_and_size_is_read_back() {
    type Sizes = fn(u64) -> usize;
    let sizes: [(u64, Sizes); 6] = [
        (0, |_| 0),
        (1, |_| 0),
        (1, |_| 3_000_000),
        (300, |n| if n % 7 == 0 { 20_000 } else { 5 }),
        (200, |_| 4_064),
        (40_000, |_| 100),
    ];
    for (count, value_bytes) in sizes {
        let rows = numbered(count, value_bytes);
        let bytes = write(&buckets(), "key", &rows);
        let file = File::open(&bytes).expect("a file");
        file.check().expect("sound");
        assert_eq!(file.size(), bytes.len() as u64);
        let large = bucket(&file, b"key").expect("there");
        assert!(read(large).expect("readable") == rows, "{count} rows");
        for small in buckets() {
            let small_bucket = bucket(&file, &small.name).expect("there");
            assert_eq!(read(small_bucket).expect("readable"), small.rows);
        }
        assert!(bucket(&file, b"none").is_none());
    }
}

#[test]
fn what_cannot_be_read_back_is_not_written() {
    let placer = || Placer::new(b"key", Vec::new()).expect("buckets");
    assert_eq!(placer().row(b"", 0), Err(WriteError::KeyBytes(0)));
    assert_eq!(placer().row(&[0; 40_000], 0), Err(WriteError::KeyBytes(40_000)));
    assert_eq!(placer().row(b"k", 1 << 31), Err(WriteError::ValueBytes(1 << 31)));
    let mut unordered = placer();
    unordered.row(b"b", 0).expect("a row");
    assert_eq!(unordered.row(b"b", 0), Err(WriteError::Order));
    let twice = vec![Small { name: b"key".to_vec(), rows: Vec::new() }];
    assert_eq!(Placer::new(b"key", twice).err(), Some(WriteError::Order));
    let unordered = vec![Small { name: b"a".to_vec(), rows: vec![Default::default()] }];
    assert_eq!(Placer::new(b"key", unordered).err(), Some(WriteError::KeyBytes(0)));
}

#[test]
fn writing_other_rows_than_planned_fails() {
    let placement = || {
        let mut placer = Placer::new(b"key", Vec::new()).expect("buckets");
        placer.row(b"a", 10).expect("a row");
        placer.finish()
    };
    assert_eq!(placement().write().finish().err(), Some(WriteError::Unplanned));
    let mut more = placement().write();
    more.row(b"a", &[0; 10]).expect("a row");
    assert_eq!(more.row(b"b", b""), Err(WriteError::Unplanned));
    let mut longer = placement().write();
    longer.row(b"a", &[0; 5000]).expect("a row");
    assert_eq!(longer.finish().err(), Some(WriteError::Unplanned));
}

#[test]
fn every_truncation_is_refused() {
    let bytes = write(&buckets(), "key", &numbered(500, |_| 50));
    for len in 0..bytes.len() {
        assert!(File::open(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
    }
    let mut longer = bytes.clone();
    longer.extend_from_slice(&[7; 32]);
    assert!(exercise(&longer).is_ok(), "what follows the last page is not part of it");
}

#[test]
fn the_newest_sound_meta_page_counts() {
    let bytes = write(&[], "key", &numbered(10, |_| 5));
    for meta in 0..2 {
        let mut one = bytes.clone();
        one[meta * PAGE_BYTES + 20] ^= 1;
        assert_eq!(exercise(&one), Ok(10), "without meta page {meta}");
        one[(1 - meta) * PAGE_BYTES + 70] ^= 1;
        assert!(File::open(&one).is_err());
    }
    let mut wrong = bytes;
    wrong[16 + 4] = 3;
    wrong[PAGE_BYTES + 16 + 4] = 3;
    assert_eq!(File::open(&wrong).err(), Some(Error::Version));
    assert_eq!(File::open(b"root:x:0:0:root").err(), Some(Error::Invalid));
}

/// A branch that names itself, at any depth, and two that name one page.
#[test]
fn circles_end() {
    let bytes = write(&[], "key", &numbered(20_000, |_| 20));
    let branches: Vec<usize> =
        (3..bytes.len() / PAGE_BYTES).map(|page| page * PAGE_BYTES).filter(|at| bytes[at + 8] == 1).collect();
    assert!(branches.len() > 2);
    for at in branches {
        for element in 0..2 {
            for target in [at / PAGE_BYTES, 3, 2, 1, 0, bytes.len() / PAGE_BYTES] {
                let mut bad = bytes.clone();
                let place = at + 16 + element * 16 + 8;
                if bad[place..place + 8] == (target as u64).to_le_bytes() {
                    continue;
                }
                bad[place..place + 8].copy_from_slice(&(target as u64).to_le_bytes());
                let file = File::open(&bad).expect("sound meta pages");
                assert!(file.check().is_err());
                let key = bucket(&file, b"key").expect("there");
                let circle = target != 3;
                assert!(read(key).is_err() || !circle, "page {at} element {element} names {target}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_rows_are_read_back(
        large in vec((vec(any::<u8>(), 1..40), vec(any::<u8>(), 0..3000)), 0..120),
        small in vec((vec(any::<u8>(), 1..3000), vec(any::<u8>(), 0..300)), 0..60),
    ) {
        let sorted = |rows: Vec<KeyValue>| -> Vec<KeyValue> {
            std::collections::BTreeMap::from_iter(rows).into_iter().collect()
        };
        let (large, small) = (sorted(large), sorted(small));
        let bytes = write(&[Small { name: b"s".to_vec(), rows: small.clone() }], "key", &large);
        let file = File::open(&bytes).unwrap();
        prop_assert_eq!(file.check(), Ok(()));
        prop_assert_eq!(read(bucket(&file, b"key").unwrap()).unwrap(), large);
        prop_assert_eq!(read(bucket(&file, b"s").unwrap()).unwrap(), small);
    }

    /// Never a panic, and never without an end.
    #[test]
    fn mutated_bytes_are_harmless(changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..20), headers in any::<bool>()) {
        let mut bytes = write(&buckets(), "key", &numbered(300, |n| n as usize % 90));
        for (place, byte) in changes {
            // Most of a page is values; the headers and elements are at its front.
            let at = match headers {
                true => place.index(bytes.len() / PAGE_BYTES) * PAGE_BYTES + usize::from(byte) % 64,
                false => place.index(bytes.len()),
            };
            bytes[at] = byte;
        }
        drop(exercise(&bytes));
    }
}
