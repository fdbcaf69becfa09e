//! Records and batch headers: what is accepted encodes to the same bytes again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pinion::storage::wal::format::{
    BATCH_HEADER_BYTES, BatchHeader, decode_record, encode_record, seal_records,
};

fuzz_target!(|bytes: &[u8]| {
    let Some((salt, rest)) = bytes.split_first_chunk::<4>() else { return };
    let salt = u32::from_le_bytes(*salt);
    if let Some(header) = BatchHeader::decode(rest, u64::from(salt)) {
        assert_eq!(header.encode(u64::from(salt)), rest[..BATCH_HEADER_BYTES]);
    }
    // As it is, and with the checksum made right, to get past it.
    let mut sealed = rest.to_vec();
    if let Some(header) = sealed.first_chunk::<32>()
        && sealed.len() == 32 + u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize
    {
        seal_records(&mut sealed, salt);
    }
    for bytes in [rest, &sealed] {
        let Some((record, after)) = decode_record(bytes, salt) else { continue };
        let mut again = Vec::new();
        encode_record(record, &mut again);
        seal_records(&mut again, salt);
        assert_eq!(again, bytes[..bytes.len() - after.len()]);
    }
});
