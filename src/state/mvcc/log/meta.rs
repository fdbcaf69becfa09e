//! What a block says of a chunk besides its records.
//!
//! ```text
//! +---------+--------------------+
//! | base i64| dead offset u16 ...|     little-endian
//! +---------+--------------------+
//! ```
//!
//! The offsets of dead records ascend.

const BASE_BYTES: usize = 8;

/// `dead` comes in any order.
pub fn encode(base: i64, dead: &[u16]) -> Vec<u8> {
    let mut dead = dead.to_vec();
    dead.sort_unstable();
    assert!(dead.is_sorted_by(|a, b| a < b), "a record dies once");
    let mut meta = Vec::with_capacity(BASE_BYTES + 2 * dead.len());
    meta.extend_from_slice(&base.to_le_bytes());
    dead.iter().for_each(|offset| meta.extend_from_slice(&offset.to_le_bytes()));
    meta
}

/// Base and dead offsets.
pub fn decode(meta: &[u8]) -> Option<(i64, Vec<u16>)> {
    let (base, dead) = meta.split_first_chunk::<BASE_BYTES>()?;
    let (dead, rest) = dead.as_chunks::<2>();
    let dead: Vec<u16> = dead.iter().map(|offset| u16::from_le_bytes(*offset)).collect();
    (rest.is_empty() && dead.is_sorted_by(|a, b| a < b)).then(|| (i64::from_le_bytes(*base), dead))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_in_order() {
        assert_eq!(decode(&encode(-7, &[9, 2, 65_535])), Some((-7, vec![2, 9, 65_535])));
        assert_eq!(decode(&encode(i64::MAX, &[])), Some((i64::MAX, vec![])));
        let meta = encode(1, &[2, 9]);
        for cut in [0, 7, 9, 11] {
            assert_eq!(decode(&meta[..cut]), None, "{cut}");
        }
        assert_eq!(decode(&[&meta[..10], &meta[8..10]].concat()), None, "a record dies once");
    }
}
