//! The keys that loads write and read.

/// The key of an index, as every load with this key size and key space writes it.
pub fn key(size: usize, key_space: u64, index: u64) -> String {
    let mut key = vec![b'k'; size];
    write_key(&mut key, index, key_digits(key_space));
    String::from_utf8(key).expect("letters and digits")
}

/// Number of hexadecimal digits the largest key needs.
pub fn key_digits(key_space: u64) -> usize {
    (64 - key_space.saturating_sub(1).leading_zeros() as usize).div_ceil(4).max(1)
}

/// Writes an index into the last digits of a key.
pub fn write_key(key: &mut [u8], mut index: u64, digits: usize) {
    for place in key.iter_mut().rev().take(digits) {
        *place = b"0123456789abcdef"[(index & 15) as usize];
        index >>= 4;
    }
    assert_eq!(index, 0, "the key is too short for its index");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_match_the_largest_key() {
        assert_eq!([1, 16, 17, 256, 257, u64::MAX].map(key_digits), [1, 1, 2, 2, 3, 16]);
    }
}
